package mistify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"mime"
	"net"
	"net/http"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/vagoth/vagoth/internal/duplex"
	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
)

// ServerOptions are how a sub-agent serves.
type ServerOptions struct {
	Log      *slog.Logger  // slog.DiscardHandler if nil
	MaxBody  int64         // bytes of a request; MaxBody if 0
	MaxCalls int           // at once, further ones are refused; 256 if 0
	Grace    time.Duration // how long calls under way may go on when Serve ends; 5 seconds if 0
}

// Server answers calls of an agent. Methods are registered first, then it
// serves:
//
//	s := mistify.NewServer(mistify.ServerOptions{Log: log})
//	mistify.Register(s, "Example.Create", create)
//	ln, err := mistify.Listen(mistify.Endpoint{Port: 9999})
//	...
//	err = s.Serve(ctx, ln)
//
// A method that panics costs its call only. The context of a method carries the
// trail of the call and ends when the agent gives the call up.
type Server struct {
	o       ServerOptions
	methods map[string]method
	paths   map[string]string // of streams with a path of their own: their method
	uploads map[string]bool   // the methods that take content
	calls   chan struct{}
	wrong   []error
}

// method does a call and writes its answer.
type method func(w http.ResponseWriter, r *http.Request, params json.RawMessage) error

// NewServer returns a server without methods.
func NewServer(o ServerOptions) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.MaxBody <= 0 {
		o.MaxBody = MaxBody
	}
	if o.MaxCalls <= 0 {
		o.MaxCalls = 256
	}
	if o.Grace <= 0 {
		o.Grace = 5 * time.Second
	}
	return &Server{o: o, methods: map[string]method{}, paths: map[string]string{}, uploads: map[string]bool{}, calls: make(chan struct{}, o.MaxCalls)}
}

// Register makes fn answer the method called name, SERVICE.METHOD. Use it with
// the requests and responses of this package: *GuestRequest and *GuestResponse,
// *ImageRequest and *ImageResponse, and so on. An error of fn travels as its
// text, and as its kind if it is one such as virt.ErrNotFound. A name that
// cannot be is an error of Serve.
func Register[Request, Response any](s *Server, name string, fn func(context.Context, *Request) (*Response, error)) {
	s.add(name, func(w http.ResponseWriter, r *http.Request, params json.RawMessage) error {
		request := new(Request)
		if err := decodeParams(params, request); err != nil {
			return &badCall{err}
		}
		response, err := fn(r.Context(), request)
		if err == nil && response == nil {
			err = errors.New("the method has no answer: it must return a response or an error")
		}
		if err != nil {
			return err
		}
		result, err := json.Marshal(response)
		if err != nil {
			return fmt.Errorf("the answer cannot be encoded: %w", err)
		}
		writeReply(w, idOf(r), result, nil)
		return nil
	})
}

// RegisterStream makes fn answer the method called name with bytes. With a path
// it is served there too, as Mistify asks for streams; the request is in the body
// then. A download that fn returns is closed; its Read ends when the agent gives
// it up, because the context of fn does.
func RegisterStream[Request any](s *Server, name, path string, fn func(context.Context, *Request) (*Download, error)) {
	s.add(name, func(w http.ResponseWriter, r *http.Request, params json.RawMessage) error {
		request := new(Request)
		if err := decodeParams(params, request); err != nil {
			return &badCall{err}
		}
		d, err := fn(r.Context(), request)
		if err == nil && (d == nil || d.ReadCloser == nil) {
			err = errors.New("the method has no answer: it must return a download or an error")
		}
		if err != nil {
			return &noStream{err}
		}
		return send(w, r, d)
	})
	if path == "" {
		return
	}
	err := CheckPath(path)
	if _, taken := s.paths[path]; err == nil && (taken || path == RPCPath) {
		err = fmt.Errorf("the path %s is taken", path)
	}
	if err != nil {
		s.wrong = append(s.wrong, err)
	}
	s.paths[path] = name
}

func (s *Server) add(name string, m method) {
	err := CheckMethod(name)
	if _, taken := s.methods[name]; err == nil && taken {
		err = fmt.Errorf("the method %s is registered twice", name)
	}
	if err != nil {
		s.wrong = append(s.wrong, err)
		return
	}
	s.methods[name] = m
}

// badCall is a request that is not for the method; noStream a stream that did
// not begin.
type (
	badCall  struct{ error }
	noStream struct{ error }
)

func (e *badCall) Unwrap() error  { return e.error }
func (e *noStream) Unwrap() error { return e.error }

// call is what a request asks for.
type call struct {
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	ID     json.RawMessage `json:"id"`
}

// decodeCall reads an envelope. That its params are JSON shows when they are read.
func decodeCall(data []byte) (c call, err error) {
	p, ok := split(data)
	if ok && p.result == nil && p.problem == nil && (p.id == nil || json.Valid(p.id)) && json.Unmarshal(p.method, &c.Method) == nil {
		return call{Method: c.Method, Params: p.params, ID: p.id}, nil
	}
	err = Decode(data, &c)
	return c, err
}

type idKey struct{}

func idOf(r *http.Request) json.RawMessage {
	id, _ := r.Context().Value(idKey{}).(json.RawMessage)
	return id
}

// ServeHTTP answers one call.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	select {
	case s.calls <- struct{}{}:
		defer func() { <-s.calls }()
	default:
		refuse(w, http.StatusServiceUnavailable, KindTooMany, fmt.Sprintf("%d calls are under way, and no more are taken", cap(s.calls)))
		return
	}
	w.Header().Set("X-Content-Type-Options", "nosniff")
	stream := s.paths[r.URL.Path]
	status, problem := s.acceptable(r, stream)
	if problem != "" {
		refuse(w, status, KindInvalid, problem)
		return
	}
	upload := isUpload(r)
	if upload {
		if err := duplex.Accept(w, r); err != nil {
			refuse(w, http.StatusInternalServerError, "", err.Error())
			return
		}
		defer duplex.Linger(w, r.Body)
	}
	data, err := s.read(w, r, upload)
	if err != nil {
		refuse(w, http.StatusRequestEntityTooLarge, KindInvalid, fmt.Sprintf("the request is longer than %d bytes, or breaks off", s.o.MaxBody))
		return
	}
	t, err := TrailOf(r.Header)
	if err != nil {
		refuse(w, http.StatusBadRequest, KindInvalid, err.Error())
		return
	}
	c := call{Method: stream, Params: data}
	if stream == "" || enveloped(data) {
		c, err = decodeCall(data)
		if err != nil {
			refuse(w, http.StatusBadRequest, KindInvalid, "the request is not JSON-RPC: "+err.Error())
			return
		}
		if stream != "" {
			c.Method = stream
		}
	}
	m, ok := s.methods[c.Method]
	switch {
	case !ok:
		refuse(w, http.StatusBadRequest, KindUnsupported, fmt.Sprintf("there is no method %.128q", c.Method))
		return
	case upload != s.uploads[c.Method]:
		refuse(w, http.StatusUnsupportedMediaType, KindInvalid, fmt.Sprintf("the method %s takes content, as %s, or it takes none and this has some", c.Method, octets))
		return
	}
	ctx := context.WithValue(trail.With(r.Context(), t), idKey{}, c.ID)
	s.do(w, r.WithContext(ctx), c, m)
}

// readWithin bounds how long a request may take to come.
const readWithin = 30 * time.Second

// read reads the body in time. The server's own ReadTimeout would go on counting
// while the method works, and end its context.
func (s *Server) read(w http.ResponseWriter, r *http.Request, upload bool) ([]byte, error) {
	if upload {
		c := newContent(w, r)
		r.Body = c
		return c.line(s.o.MaxBody)
	}
	control := http.NewResponseController(w)
	if err := control.SetReadDeadline(time.Now().Add(readWithin)); err == nil {
		defer func() { _ = control.SetReadDeadline(time.Time{}) }()
	}
	return ReadBody(http.MaxBytesReader(w, r.Body, s.o.MaxBody), s.o.MaxBody)
}

// acceptable keeps out what no agent sends. A page in a browser on this machine
// can reach the port too: it may not send JSON without asking first, and the
// name it asks for is not ours.
func (s *Server) acceptable(r *http.Request, stream string) (status int, problem string) {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	switch {
	case stream == "" && r.URL.Path != RPCPath:
		return http.StatusNotFound, "nothing is served here: ask at " + RPCPath
	case r.Method != http.MethodPost:
		return http.StatusMethodNotAllowed, "the method must be POST"
	case kind != "application/json" && (stream != "" || !isUpload(r)):
		return http.StatusUnsupportedMediaType, "the content type must be application/json"
	case host != "" && host != "localhost" && (ip == nil || !ip.IsLoopback()):
		return http.StatusForbidden, "the header Host must name this machine's loopback"
	case r.Header.Get("Origin") != "":
		return http.StatusForbidden, "a page in a browser may not ask this"
	}
	return 0, ""
}

// do runs a method and answers for it if it does not.
func (s *Server) do(w http.ResponseWriter, r *http.Request, c call, m method) {
	answer := &written{ResponseWriter: w}
	defer func() {
		p := recover()
		if p == nil {
			return
		}
		if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(p)
		}
		stack := make([]byte, 16<<10)
		s.o.Log.Error("a method panicked", "method", c.Method, "panic", fmt.Sprint(p), "trail", trail.From(r.Context()), "stack", string(stack[:runtime.Stack(stack, false)]))
		if answer.begun {
			panic(http.ErrAbortHandler)
		}
		writeReply(w, c.ID, nil, fmt.Errorf("the method %s panicked: see the sub-agent's log", c.Method))
	}()
	err := m(answer, r, c.Params)
	if err == nil {
		return
	}
	s.o.Log.Warn("a call failed", "method", c.Method, "error", err, "trail", trail.From(r.Context()))
	var bad *badCall
	var none *noStream
	switch {
	case answer.begun:
		panic(http.ErrAbortHandler) // so that it is not taken for a whole one
	case errors.As(err, &bad):
		refuse(w, http.StatusBadRequest, KindInvalid, err.Error())
	case errors.As(err, &none):
		refuse(w, KindOf(err).Status(), KindOf(err), err.Error())
	default:
		if kind := KindOf(err); kind != "" {
			w.Header().Set(HeaderError, string(kind))
		}
		writeReply(w, c.ID, nil, err)
	}
}

// written knows whether an answer was begun.
type written struct {
	http.ResponseWriter
	begun bool
}

func (w *written) WriteHeader(status int) {
	w.begun = true
	w.ResponseWriter.WriteHeader(status)
}

func (w *written) Write(p []byte) (int, error) {
	w.begun = true
	return w.ResponseWriter.Write(p)
}

func (w *written) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// enveloped tells a call from a bare request. No request has a member method.
func enveloped(data []byte) bool {
	var c call
	return json.Unmarshal(data, &c) == nil && c.Method != "" && c.Params != nil
}

// decodeParams reads a request: params is a list with it, or it itself.
func decodeParams(params json.RawMessage, request any) error {
	if null(params) {
		return fmt.Errorf("%w request: it has no params", virt.ErrInvalid)
	}
	if params[0] != '[' {
		return Decode(params, request)
	}
	if inner, ok := bytes.CutSuffix(bytes.TrimSpace(params[1:]), []byte("]")); ok && json.Unmarshal(inner, request) == nil && !null(bytes.TrimSpace(inner)) {
		return nil
	}
	var list []json.RawMessage
	if err := Decode(params, &list); err != nil {
		return err
	}
	if len(list) != 1 || null(list[0]) {
		return fmt.Errorf("%w request: params must be a list of one object", virt.ErrInvalid)
	}
	return Decode(list[0], request)
}

func refuse(w http.ResponseWriter, status int, kind ErrorKind, text string) {
	if kind != "" {
		w.Header().Set(HeaderError, string(kind))
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = w.Write([]byte(printable(text) + "\n")) // nobody is left to tell if it cannot be written
}

func writeReply(w http.ResponseWriter, id, result json.RawMessage, problem error) {
	text := json.RawMessage("null")
	if problem != nil {
		text, _ = json.Marshal(oneLine(problem.Error())) // a string can always be encoded
	}
	if result == nil {
		result = json.RawMessage("null")
	}
	if id == nil {
		id = json.RawMessage("null")
	}
	body := make([]byte, 0, len(result)+len(text)+len(id)+40)
	body = append(body, `{"result":`...)
	body = append(body, result...)
	body = append(body, `,"error":`...)
	body = append(body, text...)
	body = append(body, `,"id":`...)
	body = append(body, id...)
	body = append(body, '}', '\n')
	w.Header()["Content-Type"] = []string{"application/json; charset=utf-8"}
	w.Header()["Content-Length"] = []string{strconv.Itoa(len(body))}
	_, _ = w.Write(body) // nobody is left to tell if it cannot be written
}
