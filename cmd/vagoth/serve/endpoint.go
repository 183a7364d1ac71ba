package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/vagoth/vagoth/internal/leanserver"
)

// maxHeaderBytes bounds the headers of a request.
const maxHeaderBytes = 64 << 10

// Limits bound what the clients of a listener can take of the process.
type Limits struct {
	MaxConnections int
	HeaderTimeout  time.Duration // for the headers of a request
	BodyTimeout    time.Duration // the longest pause while a body is sent, or an answer is read
	IdleTimeout    time.Duration // between two requests
}

// Endpoint is a listener with what is served there, within limits.
type Endpoint struct {
	name     string
	address  string // for people
	listener net.Listener
	bounded  *bounded
	server   server
}

// server is what answers at a listener: that of net/http, or a lean one.
type server interface {
	Serve(l net.Listener) error // until Shutdown or Close, which is no error
	Shutdown(ctx context.Context) error
	Close(cause error) // the contexts of requests end with the cause
}

// NewEndpoint serves h at l, with TLS if secure is not nil, once Serve is called.
func NewEndpoint(name string, l net.Listener, secure *tls.Config, h http.Handler, limits Limits, log *slog.Logger) *Endpoint {
	b := newBounded(l, limits.MaxConnections, limits.BodyTimeout, secure == nil)
	var listener net.Listener = b
	if secure != nil {
		listener = tls.NewListener(b, secure)
	}
	base, ended := context.WithCancelCause(context.Background())
	return &Endpoint{name: name, address: l.Addr().String(), listener: listener, bounded: b, server: &full{ended: ended, http: &http.Server{
		Handler:           patient(h, limits.BodyTimeout),
		BaseContext:       func(net.Listener) context.Context { return base },
		ReadHeaderTimeout: limits.HeaderTimeout,
		IdleTimeout:       limits.IdleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		TLSNextProto:      map[string]func(*http.Server, *tls.Conn, http.Handler){}, // HTTP/1.1 alone
		ErrorLog:          slog.NewLogLogger(log.With("listener", name).Handler(), slog.LevelDebug),
	}}}
}

// maxLeanBody bounds a request to a lean endpoint.
const maxLeanBody = 1 << 20

// NewLeanEndpoint serves at l a handler of small requests and answers, of which
// none is a stream.
func NewLeanEndpoint(name string, l net.Listener, h http.Handler, limits Limits, log *slog.Logger) *Endpoint {
	b := newBounded(l, limits.MaxConnections, limits.BodyTimeout, true)
	return &Endpoint{name: name, address: l.Addr().String(), listener: b, bounded: b, server: leanserver.New(h, leanserver.Limits{
		HeaderTimeout: limits.HeaderTimeout, BodyTimeout: limits.BodyTimeout, IdleTimeout: limits.IdleTimeout, MaxBody: maxLeanBody,
	}, log.With("listener", name))}
}

// full is the server of net/http.
type full struct {
	http  *http.Server
	ended context.CancelCauseFunc // of the contexts of its requests
}

func (f *full) Serve(l net.Listener) error {
	if err := f.http.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (f *full) Shutdown(ctx context.Context) error { return f.http.Shutdown(ctx) }

func (f *full) Close(cause error) {
	f.ended(cause)
	_ = f.http.Close() // what is cut off has nobody to tell
}

// Address is where it listens, for people.
func (e *Endpoint) Address() string { return e.address }

// Serve serves until Shutdown, which is no error.
func (e *Endpoint) Serve() error {
	if err := e.server.Serve(e.listener); err != nil {
		return fmt.Errorf("cannot serve %s any longer: %w", e.name, err)
	}
	return nil
}

// Shutdown lets nobody new in and waits for the requests under way.
func (e *Endpoint) Shutdown(ctx context.Context) error { return e.server.Shutdown(ctx) }

// Close cuts off what Shutdown did not wait for; the requests' contexts end with
// the cause.
func (e *Endpoint) Close(cause error) {
	e.server.Close(cause)
	e.bounded.wait()
}

// Abandon closes what was never served.
func (e *Endpoint) Abandon() error {
	err := e.listener.Close()
	e.server.Close(nil)
	e.bounded.wait()
	return err
}

// patient gives a request's body as long as it makes progress, at least 16 KiB
// within each span. The answer's time is bounded by the connection's writes.
func patient(h http.Handler, span time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body != nil && r.Body != http.NoBody {
			rc := http.NewResponseController(w)
			b := &body{ReadCloser: r.Body, span: span, extend: rc.SetReadDeadline}
			if err := b.more(); err == nil {
				r.Body = b
			}
		}
		h.ServeHTTP(w, r)
	})
}

// leastProgress is what a body brings at least within a span.
const leastProgress = 16 << 10

// body is a request's body with a deadline that moves on with what is read.
type body struct {
	io.ReadCloser
	span   time.Duration
	extend func(time.Time) error

	mu    sync.Mutex
	since int // bytes, since the deadline was set
	done  bool
}

func (b *body) more() error {
	b.since = 0
	return b.extend(time.Now().Add(b.span))
}

// Read implements io.Reader. At the body's end net/http takes the deadline away
// and watches the connection; from then on it is left alone, so that a long
// answer is not taken for a slow request.
func (b *body) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.mu.Lock()
	defer b.mu.Unlock()
	b.since += n
	switch {
	case b.done:
	case errors.Is(err, io.EOF):
		b.done = true
	case b.since >= leastProgress:
		_ = b.more()
	}
	return n, err
}
