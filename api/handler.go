package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
)

// Options modify a Handler.
type Options struct {
	Version string
	Log     *slog.Logger     // nil discards
	Now     func() time.Time // nil is the machine's clock

	// Auth says who asks. nil is for where nobody else can: everybody may
	// everything, and is believed who he is.
	Auth Authenticator

	// Requests beyond these are refused with 429. Reading a status, stopping,
	// cancelling and pausing have as many places of their own as MaxRequests.
	MaxRequests int // at once; 0 is DefaultMaxRequests
	MaxWaiting  int // long polls, streams and waits for a job; 0 is DefaultMaxWaiting

	// Draining is closed when the server begins to shut down: it is not ready
	// any more, and whoever waits is answered.
	Draining <-chan struct{}

	Metrics *Metrics // nil: there are none
}

// Handler serves the management interface of m. A daemon that listens at
// several places uses one Handler for all of them; see Local.
func Handler(m *manager.Manager, o Options) http.Handler {
	_, h := newServer(m, o)
	return h
}

func newServer(m *manager.Manager, o Options) (*server, http.Handler) {
	if o.MaxRequests <= 0 {
		o.MaxRequests = DefaultMaxRequests
	}
	if o.MaxWaiting <= 0 {
		o.MaxWaiting = DefaultMaxWaiting
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &server{m: m, o: o, origin: http.NewCrossOriginProtection(), defining: make(chan struct{}, 1), gates: newGates(o)}
	gin.SetMode(gin.ReleaseMode) // gin keeps it in the process; its debug mode prints every route
	e := gin.New()
	e.HandleMethodNotAllowed = true
	e.RedirectTrailingSlash = false
	// Paths are matched as they were sent and each parameter is unescaped by
	// param: a unique key has slashes, and gin would read its + as a space.
	e.UseEscapedPath, e.UnescapePathValues = true, false
	if err := e.SetTrustedProxies(nil); err != nil {
		panic(err) // nil is always accepted
	}
	e.NoRoute(func(c *gin.Context) {
		s.fail(c, problem(noEndpoint, fmt.Sprintf("nothing is served under %.200q: see docs/api.md", c.Request.URL.Path)))
	})
	e.NoMethod(s.noMethod)
	e.Use(s.recover, s.trail, s.sameOrigin)
	s.mount(e)
	return s, e
}

type server struct {
	m        *manager.Manager
	o        Options
	origin   *http.CrossOriginProtection
	defining chan struct{} // held while a definition is read, merged and replaced
	gates    gates
	shapes   shapes
	rooms    sync.Pool // of *bytes.Buffer, for bodies
}

// storeOf tells of a store that is elsewhere; nil if it is not.
func storeOf(r registry.Registry) *Store {
	remote, ok := r.(registry.Remote)
	if !ok {
		return nil
	}
	h := remote.Health()
	st := &Store{Engine: h.Engine, Contact: h.Contact, Revision: h.Revision, Head: h.Head, Members: h.Members, Engines: h.Engines}
	if h.Err != nil {
		st.Error = h.Err.Error()
	}
	return st
}

// sharedOf tells who shares a scheduler; nil if nobody does.
func sharedOf(s scheduler.Scheduler) *Shared {
	with, ok := s.(scheduler.Shared)
	if !ok {
		return nil
	}
	all, err := with.Managers()
	sh := &Shared{Managers: all}
	if err != nil {
		sh.Error = err.Error()
	}
	return sh
}

func (s *server) version(c *gin.Context) {
	uses := map[string]string{}
	for _, ch := range s.m.Settings.Choices {
		uses[ch.Section] = ch.Kind
	}
	s.answer(c, Version{Version: s.o.Version, Go: runtime.Version(), Uses: uses, Store: storeOf(s.m.Registry), Shared: sharedOf(s.m.Scheduler)}, nil)
}

// recover answers a panic with an error of the one request. An answer that has
// begun is broken off, so that it is not taken for a whole one.
func (s *server) recover(c *gin.Context) {
	defer func() {
		r := recover()
		if r == nil {
			return
		}
		if err, ok := r.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(r)
		}
		stack := make([]byte, 16<<10)
		s.o.Log.Error("a request panicked", "path", c.Request.URL.Path, "panic", fmt.Sprint(r), "stack", string(stack[:runtime.Stack(stack, false)]))
		if c.Writer.Written() {
			panic(http.ErrAbortHandler)
		}
		s.fail(c, problem(Internal, "the request failed inside vagoth: see its log"))
	}()
	c.Next()
}

// consistent lets this manager catch up with what others have acknowledged, for a
// request that wants that. What it reads then holds all of it.
func (s *server) consistent(c *gin.Context) {
	switch given := c.Request.Header.Values(HeaderConsistent); {
	case len(given) == 0:
	case len(given) > 1 || given[0] != "true":
		s.fail(c, &registry.InvalidError{Field: HeaderConsistent, Reason: "the header says true, or is left out"})
	default:
		if _, err := s.m.Registry.View(c.Request.Context(), registry.Consistent()); err != nil {
			s.fail(c, err)
		}
	}
}

// trail puts the request's trail into its context, and notes changes.
func (s *server) trail(c *gin.Context) {
	var t trail.Trail
	for _, h := range []struct {
		name string
		into *string
	}{{HeaderTransaction, &t.Transaction}, {HeaderSource, &t.Source}, {HeaderReason, &t.Reason}} {
		given := c.Request.Header.Values(h.name)
		if len(given) > 1 {
			s.fail(c, &registry.InvalidError{Field: h.name, Reason: "the header stands twice"})
			return
		}
		text, err := url.PathUnescape(strings.Join(given, ""))
		if err != nil {
			s.fail(c, &registry.InvalidError{Field: h.name, Reason: "it is not escaped as a segment of a URL's path"})
			return
		}
		*h.into = text
	}
	if err := t.Validate(); err != nil {
		s.fail(c, badTrail(err))
		return
	}
	c.Set(sourceKey, t.Source)
	c.Request = c.Request.WithContext(trail.Ensure(trail.With(c.Request.Context(), t), "api"))
	c.Next()
	if m := c.Request.Method; m != http.MethodGet && m != http.MethodHead && !strings.HasPrefix(c.FullPath(), "/v1/leases/") {
		s.o.Log.Info("request", "method", m, "path", fmt.Sprintf("%.200s", c.Request.URL.Path), "status", c.Writer.Status(), "trail", trail.From(c.Request.Context()))
	}
}

// sourceKey is where the source is kept that a request itself names.
const sourceKey = "vagoth.source"

func badTrail(err error) error {
	return &registry.InvalidError{Field: "trail", Reason: err.Error()}
}

// sameOrigin refuses changes that a page of another site asks a browser for.
func (s *server) sameOrigin(c *gin.Context) {
	if err := s.origin.Check(c.Request); err != nil {
		s.fail(c, problem(crossOrigin, "a page of another site asks for this: "+err.Error()))
	}
}

func (s *server) noMethod(c *gin.Context) {
	allow := strings.Split(c.Writer.Header().Get("Allow"), ", ")
	slices.Sort(allow)
	list := strings.Join(append(allow, http.MethodOptions), ", ")
	c.Header("Allow", list)
	if c.Request.Method == http.MethodOptions {
		c.AbortWithStatus(http.StatusNoContent)
		return
	}
	s.fail(c, problem(methodNotAllowed, fmt.Sprintf("%.200q takes %s and not %.16q", c.Request.URL.Path, list, c.Request.Method)))
}

// allowed refuses parameters and conditions that the route does not know:
// ignored, they would let through what they were to hold back.
func (s *server) allowed(r route) gin.HandlerFunc {
	return func(c *gin.Context) {
		v, err := url.ParseQuery(c.Request.URL.RawQuery)
		if err != nil {
			s.fail(c, &registry.InvalidError{Field: "query", Reason: err.Error()})
			return
		}
		for name, values := range v {
			if !slices.Contains(r.query, name) {
				s.fail(c, unknownParameter(name, r.query))
				return
			}
			if len(values) > 1 && !multiple(name) {
				s.fail(c, &registry.InvalidError{Field: name, Reason: "it is given twice"})
				return
			}
		}
		if c.GetHeader("If-Match") != "" && !r.ifMatch {
			s.fail(c, &registry.InvalidError{Field: "If-Match", Reason: "this request takes no condition: only PATCH of a node does"})
		}
	}
}

func unknownParameter(name string, known []string) error {
	hint := "there are none here"
	if len(known) > 0 {
		hint = "there are " + strings.Join(known, ", ")
	}
	if s := component.DidYouMean(name, slices.Values(known)); s != "" {
		hint = s
	}
	return &registry.InvalidError{Field: "query", Reason: fmt.Sprintf("there is no parameter %.64q (%s)", name, hint)}
}

// param is a parameter of the path.
func param(c *gin.Context, name string) string {
	text, err := url.PathUnescape(c.Param(name))
	if err != nil {
		return c.Param(name) // cannot be: the URL was parsed
	}
	return text
}

// onOff reads a parameter that is on or off. Its name alone means on.
func onOff(c *gin.Context, name string) (bool, error) {
	text, given := c.GetQuery(name)
	if !given || text == "" {
		return given, nil
	}
	on, err := strconv.ParseBool(text)
	if err != nil {
		return false, &registry.InvalidError{Field: name, Reason: fmt.Sprintf("%.32q is neither true nor false", text)}
	}
	return on, nil
}

// fail answers with err, by the table of Codes.
func (s *server) fail(c *gin.Context, err error) {
	c.Abort()
	status, p := problemOf(err)
	p.Trail = trail.From(c.Request.Context())
	retryAfter(c.Writer.Header(), p.After.D())
	s.write(c, status, p)
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
	data, err := encode(v)
	if err != nil {
		s.o.Log.Error("cannot encode an answer", "path", c.Request.URL.Path, "error", err)
		status, data = http.StatusInternalServerError, []byte(`{"message":"the answer cannot be encoded: see vagoth's log","code":"internal"}`)
	}
	s.writeJSON(c, status, data)
}

// writeJSON answers with what is encoded already. It takes data over.
func (s *server) writeJSON(c *gin.Context, status int, data []byte) {
	data = append(data, '\n')
	h := c.Writer.Header() // these names are in their canonical form
	h["X-Content-Type-Options"] = []string{"nosniff"}
	h["Cache-Control"] = []string{"no-store"}
	h["Content-Length"] = []string{strconv.Itoa(len(data))}
	h["Content-Type"] = []string{"application/json; charset=utf-8"}
	c.Writer.WriteHeader(status)
	if _, err := c.Writer.Write(data); err != nil {
		_ = c.Error(err)
		c.Abort()
	}
}

// body reads a JSON body of at most limit bytes into v. What it does not know
// is refused, an empty body is {}.
func (s *server) body(c *gin.Context, v any, limit int) bool {
	room, _ := s.rooms.Get().(*bytes.Buffer) // what is decoded keeps no part of it
	if room == nil {
		room = new(bytes.Buffer)
	}
	defer func() {
		if room.Cap() <= maxRoom {
			room.Reset()
			s.rooms.Put(room)
		}
	}()
	if _, err := room.ReadFrom(http.MaxBytesReader(c.Writer, c.Request.Body, int64(limit))); err != nil {
		s.fail(c, unreadable(c, err))
		return false
	}
	data := room.Bytes()
	if len(data) == 0 || plainDecode(data, v) {
		return true
	}
	if err := s.shapes.decode(data, v); err != nil {
		s.fail(c, badBody(err))
		return false
	}
	return true
}

// maxRoom is the largest room for a body that is kept for the next one.
const maxRoom = 64 << 10

// raw reads a body of at most limit bytes. It is not nil if ok.
func (s *server) raw(c *gin.Context, limit int) ([]byte, bool) {
	data, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, int64(limit)))
	if err != nil {
		s.fail(c, unreadable(c, err))
		return nil, false
	}
	return data, true
}

// unreadable is why a body could not be read.
func unreadable(c *gin.Context, err error) error {
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return fmt.Errorf("%w: the body has more than %d bytes", registry.ErrTooLarge, large.Limit)
	case c.Request.Context().Err() != nil:
		return c.Request.Context().Err()
	}
	return &registry.InvalidError{Field: "body", Reason: err.Error()}
}

// node finds the node that the path names.
func (s *server) node(c *gin.Context) (registry.Reader, *registry.Node, bool) {
	r, err := s.m.Registry.View(c.Request.Context())
	if err != nil {
		s.fail(c, err)
		return nil, nil, false
	}
	n, err := registry.Find(r, param(c, "ref"))
	if err != nil {
		s.fail(c, err)
		return nil, nil, false
	}
	return r, n, true
}

// etag is a node's revision as a header.
func etag(n *registry.Node) string { return fmt.Sprintf(`"%d"`, n.Revision()) }

// answerNode answers with a node and its revision.
func (s *server) answerNode(c *gin.Context, n *registry.Node, err error) {
	if err == nil {
		c.Header("ETag", etag(n))
	}
	s.answer(c, virt.Shown(n), err)
}
