package api

import (
	"fmt"

	"github.com/gin-gonic/gin"

	"github.com/vagoth/vagoth/auth"
	"github.com/vagoth/vagoth/trail"
)

// Role says what somebody may do; see package auth.
type Role = auth.Role

// Identity is who asks; see package auth.
type Identity = auth.Identity

// Authenticator says who sends a request; see package auth.
type Authenticator = auth.Authenticator

// identityKey is where a request's identity is kept.
const identityKey = "vagoth.identity"

// identify refuses whoever may not do what the route does.
func (s *server) identify(r route) gin.HandlerFunc {
	return func(c *gin.Context) {
		if r.role == anybody {
			return
		}
		id := Identity{Role: auth.Admin}
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
