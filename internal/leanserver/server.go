package leanserver

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
)

// Limits bound what clients can take of the process. All are needed. How many
// connections there are is the listener's to bound.
type Limits struct {
	HeaderTimeout time.Duration // for the headers of a request
	BodyTimeout   time.Duration // for its body, and again for the answer to be taken
	IdleTimeout   time.Duration // between two requests
	MaxBody       int           // bytes
}

// maxHeader bounds the headers of a request, in bytes.
const maxHeader = 8 << 10

// maxConnections is above what any listener lets in.
const maxConnections = 1 << 20

// Server serves one listener.
type Server struct {
	handler http.Handler
	limits  Limits
	log     *slog.Logger
	http    *fasthttp.Server
	base    context.Context //nolint:containedctx // that of every request
	ended   context.CancelCauseFunc

	stopping chan struct{} // closed when nobody new is let in
	mu       sync.Mutex
	stopped  bool
	listener net.Listener // nil before Serve
	open     map[*conn]struct{}
	none     chan struct{} // closed when none is open after stopping
}

// New makes a server, which Serve begins.
func New(h http.Handler, limits Limits, log *slog.Logger) *Server {
	s := &Server{handler: h, limits: limits, log: log, stopping: make(chan struct{}), open: map[*conn]struct{}{}, none: make(chan struct{})}
	s.base, s.ended = context.WithCancelCause(context.Background())
	s.http = &fasthttp.Server{
		Handler:        s.serve,
		ErrorHandler:   answerError,
		HeaderReceived: s.headers,
		ExpectHandler:  s.expect,
		ConnState:      changed,
		Logger:         logger{log},
		ReadTimeout:    limits.HeaderTimeout,
		WriteTimeout:   limits.BodyTimeout,
		IdleTimeout:    limits.IdleTimeout,
		ReadBufferSize: maxHeader, MaxRequestBodySize: limits.MaxBody, Concurrency: maxConnections,
		SecureErrorLogMessage: true, DisablePreParseMultipartForm: true,
		NoDefaultServerHeader: true, NoDefaultContentType: true, NoDefaultDate: true,
	}
	return s
}

// Serve serves until Shutdown or Close, which is no error, and then waits for
// what is under way. It is called once.
func (s *Server) Serve(l net.Listener) error {
	s.mu.Lock()
	s.listener = l
	if s.stopped {
		_ = l.Close() // as whoever stopped it would have
	}
	s.mu.Unlock()
	var conns sync.WaitGroup
	defer conns.Wait()
	for pause := shortPause; ; {
		c, err := l.Accept()
		switch {
		case err == nil:
			pause = shortPause
			s.begin(&conns, c)
		case s.isStopping():
			return nil
		case !passing(err):
			s.stop()
			return fmt.Errorf("cannot accept connections: %w", err)
		default:
			s.log.Warn("cannot accept a connection: it is tried again", "error", err, "after", pause)
			t := time.NewTimer(pause)
			select {
			case <-t.C:
			case <-s.stopping:
				t.Stop()
			}
			pause = min(2*pause, longPause)
		}
	}
}

// Bounds of the pause after a connection that could not be accepted.
const (
	shortPause = 5 * time.Millisecond
	longPause  = time.Second
)

// passing reports whether an error of Accept passes: there is no room just now,
// or the client has gone already.
func passing(err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno) && errno.Temporary()
}

// begin serves one connection, unless it came too late.
func (s *Server) begin(conns *sync.WaitGroup, c net.Conn) {
	k := newConn(c, s)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		_ = c.Close() // nothing was asked
		return
	}
	s.open[k] = struct{}{}
	conns.Go(func() {
		defer s.end(k)
		if err := s.http.ServeConn(k); err != nil {
			s.log.Debug("a connection ended", "error", err)
		}
	})
}

func (s *Server) end(k *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, k)
	s.check()
}

// check tells when the last is gone. It is for the holder of mu.
func (s *Server) check() {
	if !s.stopped || len(s.open) > 0 {
		return
	}
	select {
	case <-s.none:
	default:
		close(s.none)
	}
}

// stop lets nobody new in, and ends the connections on which nothing is under
// way.
func (s *Server) stop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.stopped {
		return
	}
	s.stopped = true
	close(s.stopping)
	if s.listener != nil {
		_ = s.listener.Close() // it is of no use any more
	}
	for k := range s.open {
		k.stop()
	}
	s.check()
}

func (s *Server) isStopping() bool {
	select {
	case <-s.stopping:
		return true
	default:
		return false
	}
}

// Shutdown lets nobody new in and waits for the requests under way.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stop()
	select {
	case <-s.none:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Close cuts off what is under way. The contexts of its requests end with the
// cause. It does not wait for their handlers; Serve does.
func (s *Server) Close(cause error) {
	s.stop()
	s.mu.Lock()
	for k := range s.open {
		_ = k.Conn.Close() // whoever uses it notices
	}
	s.mu.Unlock()
	s.ended(cause)
}

// headers gives a body its own time.
func (s *Server) headers(h *fasthttp.RequestHeader) (c fasthttp.RequestConfig) {
	if h.ContentLength() != 0 {
		c.ReadTimeout = s.limits.BodyTimeout
	}
	return c
}

// expect answers who asks before he sends a body.
func (s *Server) expect(ctx *fasthttp.RequestCtx) int {
	if ctx.Request.Header.ContentLength() > s.limits.MaxBody {
		return http.StatusRequestEntityTooLarge
	}
	return http.StatusContinue
}

// logger hands on what the library says.
type logger struct{ log *slog.Logger }

// Printf implements fasthttp.Logger.
func (l logger) Printf(format string, args ...any) { l.log.Debug(fmt.Sprintf(format, args...)) }
