package api

import (
	"fmt"
	"net"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/vagoth/vagoth/api/token"
	"github.com/vagoth/vagoth/trail"
)

// Role says what somebody may do; see package token.
type Role = token.Role

// Identity is who asks; see package token.
type Identity = token.Identity

// Authenticator says who sends a request. A *token.Store is one. Every error
// refuses the request with 401.
type Authenticator interface {
	Authenticate(r *http.Request) (Identity, error)
}

// Local lets everybody in who comes by a unix socket, whose file says who may,
// as an administrator whose own word on who he is counts. All others are asked
// by next; nil refuses them.
func Local(next Authenticator) Authenticator { return local{next} }

type local struct{ next Authenticator }

func (l local) Authenticate(r *http.Request) (Identity, error) {
	if addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && addr.Network() == "unix" {
		return Identity{Role: token.Admin}, nil
	}
	if l.next == nil {
		return Identity{}, fmt.Errorf("%w: requests over a network are not taken here", token.ErrRefused)
	}
	return l.next.Authenticate(r)
}

// identityKey is where a request's identity is kept.
const identityKey = "vagoth.identity"

// identify refuses whoever may not do what the route does.
func (s *server) identify(r route) gin.HandlerFunc {
	return func(c *gin.Context) {
		if r.role == anybody {
			return
		}
		id := Identity{Role: token.Admin}
		if s.o.Auth != nil {
			var err error
			if id, err = s.o.Auth.Authenticate(c.Request); err != nil {
				c.Header("WWW-Authenticate", `Bearer realm="vagoth"`)
				s.fail(c, problem(unauthenticated, err.Error()))
				return
			}
		}
		c.Set(identityKey, id)
		if s.may(c, r.role, "this request") {
			s.sign(c, id)
		}
	}
}

// may refuses a request that needs another role than its sender has.
func (s *server) may(c *gin.Context, needed Role, what string) bool {
	id := identity(c)
	if id.Role.May(needed) {
		return true
	}
	s.fail(c, problem(forbidden, fmt.Sprintf("%s needs the role %s, and %s is %s", what, needed, orNobody(id.Name), orNobody(string(id.Role)))))
	return false
}

func identity(c *gin.Context) Identity {
	id, _ := c.MustGet(identityKey).(Identity)
	return id
}

func orNobody(name string) string {
	if name == "" {
		return "nobody"
	}
	return name
}

// sign puts the identity's name into the trail, so that nobody acts as somebody
// else.
func (s *server) sign(c *gin.Context, id Identity) {
	ctx := c.Request.Context()
	t := trail.From(ctx)
	if id.Name == "" {
		return
	}
	t.Source = signed(id.Name, c.GetString(sourceKey))
	if err := t.Validate(); err != nil {
		s.fail(c, badTrail(err))
		return
	}
	c.Request = c.Request.WithContext(trail.With(ctx, t))
}

// signed is what is kept of a name that somebody gives himself: "NAME (given)".
// A name has no spaces and no brackets, so no other's can be made of it.
func signed(name, given string) string {
	if name == "" || given == name {
		return given
	}
	if given == "" {
		return name
	}
	return name + " (" + given + ")"
}
