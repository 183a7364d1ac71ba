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

	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/scheduler"
)

// maxHeaderBytes bounds the headers of a request.
const maxHeaderBytes = 64 << 10

// server is a listener with what is served there.
type server struct {
	name     string
	address  string // for people
	listener net.Listener
	bounded  *bounded
	http     *http.Server
	ended    context.CancelCauseFunc // of the contexts of its requests
}

// listen opens every listener, in front of which nobody is served yet.
func (d *daemon) listen(ctx context.Context) (err error) {
	cfg := d.settings.Daemon
	handler := d.handler()
	if d.socket, err = listenUnix(ctx, string(cfg.Socket), cfg.SocketGroup); err != nil {
		return err
	}
	d.add(cfg, "socket", d.socket, nil, handler)
	if why := reachable(string(cfg.Socket)); cfg.SocketGroup != "" && why != "" {
		d.log.Warn(why)
	}
	var lc net.ListenConfig
	for _, address := range cfg.Listen {
		l, err := lc.Listen(ctx, "tcp", address)
		if err != nil {
			return fmt.Errorf("[serve] listen: %w", err)
		}
		var secure *tls.Config
		if d.certs.now.Load() != nil {
			secure = d.certs.config()
		}
		d.add(cfg, "network", l, secure, handler)
	}
	served, ok := d.m.Scheduler.(scheduler.Server)
	if !ok {
		return nil
	}
	for _, own := range served.Listeners() {
		host, _, err := net.SplitHostPort(own.Address)
		if err != nil || !isLoopback(host) {
			return fmt.Errorf("the scheduler wants to be served at %q, which is no address of the loopback: it asks nobody who he is", own.Address)
		}
		l, err := lc.Listen(ctx, "tcp", own.Address)
		if err != nil {
			return fmt.Errorf("cannot serve %s: %w", own.Name, err)
		}
		d.add(cfg, own.Name, l, nil, own.Handler)
	}
	return nil
}

// add puts a bounded server in front of h.
func (d *daemon) add(cfg manager.Daemon, name string, l net.Listener, secure *tls.Config, h http.Handler) {
	b := newBounded(l, cfg.MaxConnections, cfg.BodyTimeout, secure == nil)
	var listener net.Listener = b
	if secure != nil {
		listener = tls.NewListener(b, secure)
	}
	base, ended := context.WithCancelCause(context.Background())
	d.servers = append(d.servers, &server{name: name, address: l.Addr().String(), listener: listener, bounded: b, ended: ended, http: &http.Server{
		Handler:           patient(h, cfg.BodyTimeout),
		BaseContext:       func(net.Listener) context.Context { return base },
		ReadHeaderTimeout: cfg.HeaderTimeout,
		IdleTimeout:       cfg.IdleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		TLSNextProto:      map[string]func(*http.Server, *tls.Conn, http.Handler){}, // HTTP/1.1 alone
		ErrorLog:          slog.NewLogLogger(d.log.With("listener", name).Handler(), slog.LevelDebug),
	}})
}

// start serves.
func (d *daemon) start() {
	for _, s := range d.servers {
		d.running.Go(func() {
			if err := s.http.Serve(s.listener); !errors.Is(err, http.ErrServerClosed) {
				d.fail(fmt.Errorf("cannot serve %s any longer: %w", s.name, err))
			}
		})
	}
}

// closeListeners closes what was opened and is not served yet.
func (d *daemon) closeListeners() error {
	var errs []error
	for _, s := range d.servers {
		s.ended(nil)
		errs = append(errs, s.listener.Close())
		s.bounded.wait()
	}
	if d.socket != nil {
		errs = append(errs, d.socket.remove())
	}
	return errors.Join(errs...)
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
