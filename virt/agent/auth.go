package agent

import (
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/vagoth/vagoth/auth"
	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt/mistify"
)

// anybody may ask without credentials. It is no role that somebody has, and not
// the zero one: a route without a role is for administrators.
const anybody auth.Role = "anybody"

// CheckListen refuses an address that others than this machine can reach unless
// every request must show who sends it, and is read by nobody on the way.
func CheckListen(address string, tls, authenticated bool) error {
	if strings.HasPrefix(address, "unix:") {
		return nil
	}
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("cannot listen at %.200q: write HOST:PORT, such as 127.0.0.1:8080", address)
	}
	if ip := net.ParseIP(host); host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	switch {
	case !authenticated:
		return fmt.Errorf("the agent does not listen at %s, which others can reach, without asking who they are: configure tokens or TLS client certificates, or listen at 127.0.0.1", address)
	case !tls:
		return fmt.Errorf("the agent does not listen at %s, which others can reach, without TLS: tokens could be read on the way", address)
	}
	return nil
}

// identify refuses whoever may not do what the route does, and puts who he is
// into the trail.
func (s *server) identify(r route) gin.HandlerFunc {
	return func(c *gin.Context) {
		if r.role == anybody || s.a.deps.Auth == nil {
			return
		}
		id, err := s.a.deps.Auth.Authenticate(c.Request)
		if err != nil {
			c.Header("WWW-Authenticate", `Bearer realm="vagoth agent"`)
			s.refuse(c, http.StatusUnauthorized, fmt.Errorf("%w: %w", mistify.ErrDenied, err))
			return
		}
		if !id.Role.May(r.role) {
			s.fail(c, fmt.Errorf("%w: this request needs the role %s, and %.64q is %.32q", mistify.ErrDenied, r.role, id.Name, id.Role))
			return
		}
		if id.Name == "" {
			return
		}
		ctx := c.Request.Context()
		t := trail.From(ctx)
		if t.Source == "" || t.Source == id.Name {
			t.Source = id.Name
		} else {
			t.Source = id.Name + " (" + t.Source + ")"
		}
		if err := t.Validate(); err != nil {
			s.fail(c, invalid("%s", err))
			return
		}
		c.Request = c.Request.WithContext(trail.With(ctx, t))
	}
}

// sameSite refuses what a page of another site asks a browser for: changes by
// any method, and by a name of its own that leads to this machine.
func (s *server) sameSite(c *gin.Context) {
	if err := s.origin.Check(c.Request); err != nil {
		s.fail(c, fmt.Errorf("%w: a page of another site asks for this: %w", mistify.ErrDenied, err))
		return
	}
	if s.a.deps.Auth == nil && !loopbackName(c.Request) {
		s.refuse(c, http.StatusMisdirectedRequest, fmt.Errorf("%w: the header Host is %.200q, which is no name of this machine's loopback: ask for 127.0.0.1 or localhost", mistify.ErrDenied, c.Request.Host))
	}
}

// loopbackName reports whether a request that came over TCP to loopback names it
// so. A page whose site's name was made to lead here names that site.
func loopbackName(r *http.Request) bool {
	addr, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr)
	if !ok || !addr.IP.IsLoopback() {
		return true
	}
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return host == "" || strings.EqualFold(host, "localhost") || ip != nil && ip.IsLoopback()
}

// getAction refuses an action by GET that nobody meant: one for a page of another
// site, or one that a browser does ahead.
func (s *server) getAction(c *gin.Context) {
	if !s.a.cfg.GetActions {
		c.Header("Allow", http.MethodPost)
		s.refuse(c, http.StatusMethodNotAllowed, fmt.Errorf("%w: actions by GET are turned off (get_actions): use POST", mistify.ErrDenied))
		return
	}
	h := c.Request.Header
	for _, name := range []string{"Sec-Purpose", "Purpose", "X-Purpose", "X-Moz"} {
		for _, v := range h.Values(name) {
			if v = strings.ToLower(v); strings.Contains(v, "prefetch") || strings.Contains(v, "prerender") || strings.Contains(v, "preview") {
				s.fail(c, fmt.Errorf("%w: a browser asks for this ahead, and not because somebody wants it: use POST", mistify.ErrDenied))
				return
			}
		}
	}
	post := c.Request.Clone(c.Request.Context())
	post.Method = http.MethodPost // what is refused to a page of another site as POST is refused as GET
	if err := s.origin.Check(post); err != nil {
		s.fail(c, fmt.Errorf("%w: a page of another site asks for this: use POST", mistify.ErrDenied))
		return
	}
	if ref := h.Get("Referer"); ref != "" && h.Get("Sec-Fetch-Site") == "" && !sameHost(ref, c.Request.Host) {
		s.fail(c, fmt.Errorf("%w: a page of another site leads here: use POST", mistify.ErrDenied))
		return
	}
	c.Request = c.Request.WithContext(trail.Ensure(c.Request.Context(), "agent"))
	c.Set(changes, true)
}

// changes is set on a request that changes something though it is a GET.
const changes = "changes"
