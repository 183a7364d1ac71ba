// Package duplex makes one request of HTTP a line to talk over: its body goes to
// one side as it is written, its answer to the other, until either side ends it.
// It works over HTTP/1.1 and HTTP/2, and through everything that does not keep
// bodies back.
//
// # Why
//
// The bytes of a console need no frames, and a body and an answer are authenticated,
// counted, traced and ended as those of every other request are. A connection that
// is taken away from the server (an upgrade) is none of these.
package duplex

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"
)

// Patience is how long Open waits for the answer to begin.
const Patience = time.Minute

// ErrLate is an answer that has not begun in time.
var ErrLate = fmt.Errorf("nobody has answered within %s: try again, or end one of the others that are open", Patience)

// Open sends a request by do, which must not read of its body before it is asked
// to, and returns when the answer has begun. What is written is its body, what is
// read its answer; Close ends both.
func Open(ctx context.Context, do func(ctx context.Context, body io.Reader) (*http.Response, error)) (io.ReadWriteCloser, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	late := time.AfterFunc(Patience, func() { cancel(ErrLate) })
	r, w := io.Pipe()
	resp, err := do(ctx, r)
	if !late.Stop() && err == nil {
		err = resp.Body.Close() // the request has been ended
		err = errors.Join(ErrLate, err)
	}
	if err != nil {
		if errors.Is(context.Cause(ctx), ErrLate) && !errors.Is(err, ErrLate) {
			err = fmt.Errorf("%w: %w", ErrLate, err)
		}
		cancel(nil)
		_ = r.Close()
		return nil, err
	}
	return &line{WriteCloser: w, body: resp.Body, cancel: func() { cancel(nil) }}, nil
}

type line struct {
	io.WriteCloser
	body   io.ReadCloser
	cancel context.CancelFunc
}

func (l *line) Read(p []byte) (int, error) { return l.body.Read(p) }

// Close ends the request.
func (l *line) Close() error {
	err := l.WriteCloser.Close()
	l.cancel()
	_ = l.body.Close() // it says only that the request was ended
	if err != nil {
		return fmt.Errorf("cannot end the console: %w", err)
	}
	return nil
}

// Accept lets a handler answer while the body still comes, or an error before the
// body has ended. It is called first. The connection is not used for another
// request: the server of net/http would begin to look for one while it still looks
// for the end of this body, and panic.
func Accept(w http.ResponseWriter, r *http.Request) error {
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
	rc := http.NewResponseController(w)
	if err := rc.EnableFullDuplex(); err != nil && !errors.Is(err, http.ErrNotSupported) { // HTTP/2 needs none
		return fmt.Errorf("cannot answer while the request goes on: %w", err)
	}
	_ = rc.SetReadDeadline(time.Time{}) // nobody has to say anything
	return nil
}

// lingering is how long what still comes is taken after a refusal.
const lingering = 500 * time.Millisecond

// Linger lets a client that still sends read why it need not: a connection that is
// closed before all was read is reset, and the answer can be lost with it. The
// handler calls it when it has answered, and does not read the body any more.
func Linger(w http.ResponseWriter, body io.Reader) {
	rc := http.NewResponseController(w)
	_ = rc.Flush()
	_ = rc.SetReadDeadline(time.Now().Add(lingering))
	_, _ = io.Copy(io.Discard, io.LimitReader(body, 1<<30)) // it ends when the client has read, or its time is over
}

// Until gives the context of a line: it ends after most, and when over is closed,
// which may be nil. The handler calls the
// function before it returns.
func Until(parent context.Context, most time.Duration, over <-chan struct{}) (context.Context, func()) {
	ctx, cancel := context.WithTimeout(parent, most)
	done := make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-over:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		cancel()
		<-done
	}
}

// Join writes what comes in the body to to. failed is called when it cannot be
// written, or the client has gone, and not at the end of the body. The handler
// calls end before it returns, which closes to and waits for what was begun.
func Join(w http.ResponseWriter, body io.ReadCloser, to io.WriteCloser, failed func()) (end func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		if _, err := io.Copy(to, body); err != nil {
			failed()
		}
	}()
	return func() {
		_ = to.Close()
		_ = http.NewResponseController(w).SetReadDeadline(time.Now()) // whoever reads the body is woken: over a socket by this,
		_ = body.Close()                                              // and inside the process by this
		<-done
	}
}
