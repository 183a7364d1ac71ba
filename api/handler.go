package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"runtime"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/trail"
)

// Options modify a Handler.
type Options struct {
	Version string
	Log     *slog.Logger // nil discards
	Now     func() time.Time
}

// Handler serves the management interface of m.
func Handler(m *manager.Manager, o Options) http.Handler {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	s := &server{m: m, o: o}
	e := gin.New()
	e.HandleMethodNotAllowed = true
	e.UseRawPath, e.UnescapePathValues = true, true
	if err := e.SetTrustedProxies(nil); err != nil {
		panic(err) // nil is always accepted
	}
	e.NoRoute(func(c *gin.Context) {
		s.fail(c, &registry.NotFoundError{What: "endpoint", Ref: c.Request.URL.Path})
	})
	e.NoMethod(func(c *gin.Context) {
		c.JSON(http.StatusMethodNotAllowed, Problem{Message: fmt.Sprintf("%s cannot be asked with %s", c.Request.URL.Path, c.Request.Method), Code: "invalid"})
	})
	e.Use(s.recover, s.trail)
	for _, r := range s.routes() {
		e.Handle(r.method, r.path, r.do)
	}
	return e
}

type server struct {
	m *manager.Manager
	o Options
}

type route struct {
	method, path string
	do           gin.HandlerFunc
}

// routes is the whole interface.
func (s *server) routes() []route {
	return []route{
		{"GET", "/v1/version", s.version},

		{"GET", "/v1/nodes", s.listNodes},
		{"POST", "/v1/nodes", s.createNode},
		{"GET", "/v1/nodes/:ref", s.getNode},
		{"PATCH", "/v1/nodes/:ref", s.patchNode},
		{"DELETE", "/v1/nodes/:ref", s.deleteNode},
		{"GET", "/v1/nodes/:ref/blobs/:key", s.getBlob},
		{"PUT", "/v1/nodes/:ref/blobs/:key", s.putBlob},
		{"DELETE", "/v1/nodes/:ref/blobs/:key", s.deleteBlob},
		{"POST", "/v1/nodes/:ref/jobs", s.submitAction},
		{"GET", "/v1/nodes/:ref/info", s.guestInfo},
		{"GET", "/v1/nodes/:ref/decision", s.lastDecision},
		{"POST", "/v1/nodes/:ref/decision", s.decide},
		{"POST", "/v1/nodes/:ref/maintenance", s.maintenance},
		{"POST", "/v1/nodes/:ref/confirm-down", s.confirmDown},

		{"POST", "/v1/poll", s.poll},

		{"POST", "/v1/jobs", s.submitPackage},
		{"GET", "/v1/jobs", s.listJobs},
		{"GET", "/v1/jobs/:id", s.getJob},
		{"GET", "/v1/jobs/:id/log", s.jobLog},

		{"GET", "/v1/registry/export", s.export},
		{"POST", "/v1/registry/import", s.importNodes},
		{"GET", "/v1/registry/check", s.check},
	}
}

func (s *server) version(c *gin.Context) {
	uses := map[string]string{}
	for _, ch := range s.m.Settings.Choices {
		uses[ch.Section] = ch.Kind
	}
	c.JSON(http.StatusOK, Version{Version: s.o.Version, Go: runtime.Version(), Uses: uses})
}

// recover answers a panic with an error of the one request.
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
		if !c.Writer.Written() {
			c.AbortWithStatusJSON(http.StatusInternalServerError, Problem{Message: "the request failed inside vagoth: see its log", Code: Internal})
		}
	}()
	c.Next()
}

// trail puts the request's trail into its context. Who only reads needs none.
func (s *server) trail(c *gin.Context) {
	var t trail.Trail
	for header, field := range map[string]*string{HeaderTransaction: &t.Transaction, HeaderSource: &t.Source, HeaderReason: &t.Reason} {
		text, err := url.PathUnescape(c.GetHeader(header))
		if err != nil {
			s.fail(c, &registry.InvalidError{Field: header, Reason: "it is not escaped as a URL's path segment"})
			return
		}
		*field = text
	}
	if err := t.Validate(); err != nil {
		s.fail(c, &registry.InvalidError{Field: "trail", Reason: err.Error()})
		return
	}
	ctx := trail.Ensure(trail.With(c.Request.Context(), t), "api")
	c.Request = c.Request.WithContext(ctx)
	c.Next()
	if c.Request.Method != http.MethodGet {
		s.o.Log.Info("request", "method", c.Request.Method, "path", c.Request.URL.Path, "status", c.Writer.Status(), "trail", trail.From(ctx))
	}
}

// fail answers with err, by the table of Codes.
func (s *server) fail(c *gin.Context, err error) {
	status, p := problemOf(err)
	p.Trail = trail.From(c.Request.Context())
	c.AbortWithStatusJSON(status, p)
}

// answer is fail if there is an error, and v with 200 otherwise.
func (s *server) answer(c *gin.Context, v any, err error) {
	if err != nil {
		s.fail(c, err)
		return
	}
	c.JSON(http.StatusOK, v)
}

// body reads a JSON body into v. Unknown members are refused, an empty body is
// {}.
func (s *server) body(c *gin.Context, v any) bool {
	data, ok := s.raw(c)
	if !ok || len(data) == 0 {
		return ok
	}
	if err := decodeStrict(data, v); err != nil {
		s.fail(c, &registry.InvalidError{Field: "body", Reason: err.Error()})
		return false
	}
	return true
}

// raw reads a body of at most MaxBody bytes.
func (s *server) raw(c *gin.Context) ([]byte, bool) {
	data, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, MaxBody))
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		s.fail(c, &registry.LimitError{What: "body", Unit: "bytes", Got: MaxBody + 1, Max: MaxBody})
		return nil, false
	case err != nil:
		s.fail(c, &registry.InvalidError{Field: "body", Reason: err.Error()})
		return nil, false
	}
	return data, true
}

// node finds the node that the path names.
func (s *server) node(c *gin.Context) (registry.Reader, *registry.Node, bool) {
	r, err := s.m.Registry.View(c.Request.Context())
	if err != nil {
		s.fail(c, err)
		return nil, nil, false
	}
	n, err := registry.Find(r, c.Param("ref"))
	if err != nil {
		s.fail(c, err)
		return nil, nil, false
	}
	return r, n, true
}

func decodeStrict(data []byte, v any) error {
	doc, err := registry.ParseDocument(data) // a key that stands twice
	if err != nil {
		return err
	}
	if err := doc.DecodeStrict(v); err != nil {
		var typ *json.UnmarshalTypeError
		if errors.As(err, &typ) {
			return fmt.Errorf("%s: a %s cannot be given for it", typ.Field, typ.Value)
		}
		return err
	}
	return nil
}
