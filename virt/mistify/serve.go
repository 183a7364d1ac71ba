package mistify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"time"
)

// Listen opens the port on loopback, or the unix socket, of e. A socket is made
// for this user only; one that nobody listens on any more is replaced. Port 0
// with no socket takes a free port.
func Listen(e Endpoint) (net.Listener, error) {
	if e.Socket == "" {
		if e.Port < 0 || e.Port > 65535 {
			return nil, fmt.Errorf("cannot listen: %d is no port", e.Port)
		}
		return net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(e.Port)))
	}
	if err := e.check(); err != nil {
		return nil, err
	}
	if info, err := os.Lstat(e.Socket); err == nil {
		if info.Mode()&os.ModeSocket == 0 {
			return nil, fmt.Errorf("cannot listen on %s: there is something that is no socket", e.Socket)
		}
		if c, err := net.DialTimeout("unix", e.Socket, time.Second); err == nil {
			_ = c.Close()
			return nil, fmt.Errorf("cannot listen on %s: somebody listens there already", e.Socket)
		}
		if err := os.Remove(e.Socket); err != nil {
			return nil, fmt.Errorf("cannot replace the socket %s: %w", e.Socket, err)
		}
	}
	ln, err := net.Listen("unix", e.Socket)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(e.Socket, 0o600); err != nil {
		_ = ln.Close()
		return nil, fmt.Errorf("cannot protect the socket %s: %w", e.Socket, err)
	}
	return ln, nil
}

// Serve answers on ln until ctx ends, then lets the calls under way end within
// the grace, and returns nil. It closes ln.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	if err := errors.Join(s.wrong...); err != nil {
		_ = ln.Close()
		return fmt.Errorf("cannot serve: %w", err)
	}
	calls, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	server := &http.Server{
		Handler:           s,
		BaseContext:       func(net.Listener) context.Context { return calls },
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    64 << 10,
		ErrorLog:          slog.NewLogLogger(s.o.Log.Handler(), slog.LevelDebug),
	}
	ended := make(chan error, 1)
	go func() { ended <- server.Serve(ln) }()
	select {
	case err := <-ended:
		return fmt.Errorf("cannot serve on %s: %w", ln.Addr(), err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.o.Grace)
	defer cancel()
	err := server.Shutdown(grace)
	giveUp()
	if err != nil {
		s.o.Log.Warn("calls under way were cut off", "after", s.o.Grace)
		_ = server.Close()
	}
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("cannot serve on %s: %w", ln.Addr(), err)
	}
	return nil
}

// send copies a download to the agent. It is broken off visibly: where the
// length was said by sending less, and otherwise without the final chunk.
func send(w http.ResponseWriter, r *http.Request, d *Download) error {
	defer func() { _ = d.Close() }()
	h := w.Header()
	h.Set("Content-Type", octets)
	if d.ContentType != "" {
		h.Set("Content-Type", d.ContentType)
	}
	if d.Length > 0 {
		h.Set("Content-Length", strconv.FormatInt(d.Length, 10))
	}
	w.WriteHeader(http.StatusOK)
	to := io.Writer(w)
	if d.live {
		flush := http.NewResponseController(w)
		if err := flush.Flush(); err != nil {
			return err
		}
		to = &flushed{w, flush}
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{d}, make([]byte, 128<<10))
	if err == nil && d.Length > 0 && n != d.Length {
		err = fmt.Errorf("the stream has %d bytes instead of %d", n, d.Length)
	}
	if err == nil {
		err = r.Context().Err()
	}
	return err
}

// flushed sends each piece as it is written.
type flushed struct {
	io.Writer
	flush *http.ResponseController
}

func (f *flushed) Write(p []byte) (int, error) {
	n, err := f.Writer.Write(p)
	if err == nil {
		err = f.flush.Flush()
	}
	return n, err
}
