package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/vagoth/vagoth/internal/duplex"
	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt/mistify"
)

// server is the agent's REST interface.
type server struct {
	a      *Agent
	origin *http.CrossOriginProtection
	quick  places // requests that are answered at once
	slow   places // those that wait: for a job, for a sub-agent, for a download
}

// places count requests.
type places chan struct{}

// Handler serves the agent's interface. An agent that listens at several places
// uses one Handler for all of them, since it counts requests. The server around
// it bounds how long headers may take and how large they may be; bodies and
// answers are bounded here.
func (a *Agent) Handler() http.Handler {
	s := &server{a: a, origin: http.NewCrossOriginProtection(), quick: make(places, a.cfg.MaxRequests), slow: make(places, a.cfg.MaxWaiting)}
	gin.SetMode(gin.ReleaseMode) // gin keeps it in the process; its debug mode prints every route
	e := gin.New()
	e.HandleMethodNotAllowed = true
	e.RedirectTrailingSlash = true // as Mistify does
	// Paths are matched as they were sent: the id of a container's image has slashes.
	e.UseEscapedPath, e.UnescapePathValues = true, false
	if err := e.SetTrustedProxies(nil); err != nil {
		panic(err) // nil is always accepted
	}
	e.NoRoute(func(c *gin.Context) {
		s.fail(c, notFound("nothing is served under %.200q", c.Request.URL.Path))
	})
	e.NoMethod(s.noMethod)
	e.Use(s.recover, s.trail, s.sameSite)
	s.mount(e)
	return e
}

// mount serves the routes. HEAD is GET without its body, where GET changes
// nothing.
func (s *server) mount(e *gin.Engine) {
	for _, r := range s.routes() {
		chain := []gin.HandlerFunc{s.identify(r), s.admit(r)}
		if r.line {
			chain = append([]gin.HandlerFunc{s.line}, chain...) // a refusal too must not wait for the end of the body
		}
		if r.changes && r.method == http.MethodGet {
			chain = append(chain, s.getAction)
		}
		chain = append(chain, r.do)
		e.Handle(r.method, r.path, chain...)
		if r.method == http.MethodGet && !r.changes && r.load != stream {
			e.Handle(http.MethodHead, r.path, chain...)
		}
	}
}

// line lets what follows answer before the request has ended, and a refusal be read.
func (s *server) line(c *gin.Context) {
	if err := duplex.Accept(c.Writer, c.Request); err != nil {
		s.fail(c, err)
		return
	}
	c.Next()
	if c.Writer.Status() >= http.StatusBadRequest {
		duplex.Linger(c.Writer, c.Request.Body)
	}
}

// recover answers a panic with an error of the one request. An answer that has
// begun is broken off, so that it is not taken for a whole one.
func (s *server) recover(c *gin.Context) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(v)
		}
		stack := make([]byte, 16<<10)
		s.a.log.Error("agent: a request panicked", "path", c.Request.URL.Path, "panic", fmt.Sprint(v), "stack", string(stack[:runtime.Stack(stack, false)]))
		if c.Writer.Written() {
			panic(http.ErrAbortHandler)
		}
		s.refuse(c, http.StatusInternalServerError, errors.New("the request failed inside the agent: see its log"))
	}()
	c.Next()
}

// trail puts the request's trail into its context, and notes changes.
func (s *server) trail(c *gin.Context) {
	t, err := mistify.TrailOf(c.Request.Header)
	if err != nil {
		s.fail(c, err)
		return
	}
	m := c.Request.Method
	reading := m == http.MethodGet || m == http.MethodHead
	if t != (trail.Trail{}) || !reading {
		c.Request = c.Request.WithContext(trail.Ensure(trail.With(c.Request.Context(), t), "agent"))
	}
	c.Next()
	if !reading || c.GetBool(changes) {
		s.a.log.Info("agent: request", "method", m, "path", fmt.Sprintf("%.200s", c.Request.URL.Path), "status", c.Writer.Status(), "trail", trail.From(c.Request.Context()))
	}
}

func (s *server) noMethod(c *gin.Context) {
	allow := strings.Split(c.Writer.Header().Get("Allow"), ", ")
	slices.Sort(allow)
	list := strings.Join(allow, ", ")
	c.Header("Allow", list)
	if c.Request.Method == http.MethodOptions {
		c.AbortWithStatus(http.StatusNoContent)
		return
	}
	s.refuse(c, http.StatusMethodNotAllowed, fmt.Errorf("%.200q takes %s and not %.16q", c.Request.URL.Path, list, c.Request.Method))
}

// admit refuses a request when too many of its kind run.
func (s *server) admit(r route) gin.HandlerFunc {
	if r.load == free {
		return func(*gin.Context) {}
	}
	waits := slices.Contains(r.query, "wait")
	return func(c *gin.Context) {
		at := s.quick
		if r.load != quick || waits && c.Query("wait") != "" {
			at = s.slow
		}
		select {
		case at <- struct{}{}:
			defer func() { <-at }()
			c.Next()
		default:
			s.fail(c, tooMany("%d requests run: nothing was done, try again in a second", cap(at)))
		}
	}
}

// within gives a request that lasts longer than the server's timeouts, which are
// for peers that are slow, the time that it needs.
func within(c *gin.Context, d time.Duration) {
	const more = 30 * time.Second // to write the answer
	rc := http.NewResponseController(c.Writer)
	_ = rc.SetWriteDeadline(time.Now().Add(d + more)) // what has no deadlines needs none moved
}

// readWithin bounds how long a body may take to come.
const readWithin = 30 * time.Second

// body reads a JSON body into v; an empty one leaves it alone.
func (s *server) body(c *gin.Context, v any) bool {
	_, ok := s.optional(c, v)
	return ok
}

// optional is body, and reports whether there is one.
func (s *server) optional(c *gin.Context, v any) (given, ok bool) {
	if c.Request.ContentLength == 0 {
		return false, true
	}
	rc := http.NewResponseController(c.Writer)
	if rc.SetReadDeadline(time.Now().Add(readWithin)) == nil {
		defer func() { _ = rc.SetReadDeadline(time.Time{}) }()
	}
	data, err := mistify.ReadBody(http.MaxBytesReader(c.Writer, c.Request.Body, mistify.MaxBody), mistify.MaxBody)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large) || errors.Is(err, mistify.ErrTooLarge):
		s.refuse(c, http.StatusRequestEntityTooLarge, fmt.Errorf("the body has more than %d bytes", mistify.MaxBody))
		return false, false
	case err != nil:
		s.fail(c, invalid("the body cannot be read: %s", err))
		return false, false
	case len(data) == 0:
		return false, true
	}
	if err := mistify.Decode(data, v); err != nil {
		s.fail(c, err)
		return true, false
	}
	return true, true
}

// param is a parameter of the path, as it was meant.
func param(c *gin.Context, name string) string {
	text, err := url.PathUnescape(c.Param(name))
	if err != nil {
		return c.Param(name) // no name that is allowed has a %
	}
	return text
}

// fail answers with an error, with the status of its kind.
func (s *server) fail(c *gin.Context, err error) {
	status := mistify.KindOf(err).Status()
	var un *UnconfiguredError
	switch {
	case errors.As(err, &un) && !un.Addition:
		status = http.StatusNotFound // as Mistify answers
	case errors.Is(err, errClosed):
		status = http.StatusServiceUnavailable
	case errors.Is(err, context.Canceled) && c.Request.Context().Err() != nil:
		status = 499 // nobody is left to read it
	}
	s.refuse(c, status, err)
}

// refuse answers with an error, with this status.
func (s *server) refuse(c *gin.Context, status int, err error) {
	c.Abort()
	b := mistify.ErrorBody{Message: err.Error(), Code: status, Kind: mistify.KindOf(err)}
	if s.a.cfg.Debug {
		b.Stack = callers()
	}
	if status == http.StatusTooManyRequests {
		c.Header("Retry-After", "1")
	}
	s.write(c, status, b)
}

// callers are the places in the program that lead here.
func callers() []string {
	pc := make([]uintptr, 32)
	frames := runtime.CallersFrames(pc[:runtime.Callers(3, pc)])
	var list []string
	for more := true; more; {
		var f runtime.Frame
		f, more = frames.Next()
		list = append(list, fmt.Sprintf("%s:%d", f.Function, f.Line))
	}
	return list
}

// answer is fail if there is an error, and v with 200 otherwise.
func (s *server) answer(c *gin.Context, v any, err error) {
	if err != nil {
		s.fail(c, err)
		return
	}
	s.write(c, http.StatusOK, v)
}

// write encodes v before it begins the answer.
func (s *server) write(c *gin.Context, status int, v any) {
	data, err := json.Marshal(v)
	if err != nil {
		s.a.log.Error("agent: cannot encode an answer", "path", c.Request.URL.Path, "err", err)
		status, data = http.StatusInternalServerError, []byte(`{"message":"the answer cannot be encoded: see the agent's log","code":500}`)
	}
	s.raw(c, status, append(data, '\n'))
}

// raw answers with JSON that is encoded already.
func (s *server) raw(c *gin.Context, status int, parts ...[]byte) {
	h, n := c.Writer.Header(), 0
	for _, p := range parts {
		n += len(p)
	}
	h["Content-Type"] = []string{"application/json"}
	h["X-Content-Type-Options"] = []string{"nosniff"}
	h["Cache-Control"] = []string{"no-store"}
	h["Content-Length"] = []string{strconv.Itoa(n)}
	c.Writer.WriteHeader(status)
	if c.Request.Method == http.MethodHead {
		c.Writer.WriteHeaderNow()
		return
	}
	for _, p := range parts {
		if _, err := c.Writer.Write(p); err != nil {
			return // nobody reads it any more
		}
	}
}

// sameHost reports whether a URL is of this host.
func sameHost(text, host string) bool {
	u, err := url.Parse(text)
	return err == nil && u.Host == host
}
