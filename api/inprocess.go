package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"sync"
	"time"
)

// ErrTransportClosed: the transport was closed before the request, or while it
// was under way.
var ErrTransportClosed = errors.New("the connection to the handler is closed")

// Transport calls a handler without a socket. It is an http.RoundTripper and
// safe for concurrent use.
//
// Bodies stream both ways. As with a socket, a caller whose context ends is
// answered at once, whether or not the handler has come to its end; Close waits
// for every handler. What a handler reads from a body that never ends and never
// fails, such as a terminal, holds it up all the same.
type Transport struct {
	h http.Handler

	mu      sync.Mutex
	ended   context.Context // of every request, once Close was called
	end     context.CancelCauseFunc
	running sync.WaitGroup
}

// InProcess returns a transport that calls h.
func InProcess(h http.Handler) *Transport {
	t := &Transport{h: h}
	t.ended, t.end = context.WithCancelCause(context.Background())
	return t
}

// Close ends the requests that run, waits for their handlers and refuses later
// ones.
func (t *Transport) Close() error {
	t.mu.Lock()
	t.end(ErrTransportClosed)
	t.mu.Unlock()
	t.running.Wait()
	return nil
}

// begin counts a request, unless the transport is closed.
func (t *Transport) begin() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended.Err() != nil {
		return ErrTransportClosed
	}
	t.running.Add(1)
	return nil
}

// RoundTrip runs the handler beside the caller until it has returned. It
// answers when the handler begins its answer, or when the request's context
// ends.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	body := req.Body
	if body == nil {
		body = http.NoBody
	}
	err := req.Context().Err()
	if err == nil {
		err = t.begin()
	}
	if err != nil {
		_ = body.Close()
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(req.Context())
	stop := context.AfterFunc(t.ended, func() { cancel(context.Cause(t.ended)) })
	r, w := io.Pipe()
	rw := &pipeWriter{pipe: w, head: req.Method == http.MethodHead, header: http.Header{}, begun: make(chan struct{})}
	done := make(chan struct{})
	// A reader and a writer that wait are woken when the request ends, even if
	// the other side does not notice.
	wake := context.AfterFunc(ctx, func() {
		_ = w.CloseWithError(context.Cause(ctx))
		_ = body.Close()
	})
	inner := req.Clone(ctx)
	inner.RequestURI = req.URL.RequestURI()
	inner.Body = body
	inner.RemoteAddr = "in-process"
	go func() {
		defer t.running.Done()
		defer close(done)
		defer cancel(nil)
		defer stop()
		err := serve(t.h, rw, inner)
		wake()
		_ = w.CloseWithError(err)
		_ = body.Close()
	}()
	select {
	case <-rw.begun:
	case <-ctx.Done(): // by the caller, by Close, or by the handler's end, which has answered
	}
	for _, gone := range []context.Context{req.Context(), t.ended} {
		if gone.Err() != nil { // also if the handler has noticed, and has answered that
			return nil, context.Cause(gone)
		}
	}
	length := int64(-1)
	if n, err := strconv.ParseInt(rw.sent.Get("Content-Length"), 10, 64); err == nil && n >= 0 {
		length = n
	}
	return &http.Response{
		Status: fmt.Sprintf("%d %s", rw.status, http.StatusText(rw.status)), StatusCode: rw.status,
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: rw.sent, ContentLength: length, Request: req,
		Body: &pipeBody{PipeReader: r, cancel: cancel, done: done, given: req.Context()},
	}, nil
}

// serve runs the handler. A panic breaks the body, as it breaks a connection.
func serve(h http.Handler, rw *pipeWriter, req *http.Request) (broken error) {
	defer func() {
		if p := recover(); p != nil {
			broken = io.ErrUnexpectedEOF
			rw.WriteHeader(http.StatusInternalServerError)
		}
		rw.WriteHeader(http.StatusOK)
		rw.end()
	}()
	h.ServeHTTP(rw, req)
	return nil
}

// pipeWriter is the handler's side.
type pipeWriter struct {
	pipe   *io.PipeWriter
	head   bool // what is written is not sent
	header http.Header
	once   sync.Once
	begun  chan struct{}
	status int
	sent   http.Header

	mu    sync.Mutex
	timer *time.Timer // of the deadline
	over  bool        // the handler has returned
}

func (w *pipeWriter) Header() http.Header { return w.header }

func (w *pipeWriter) WriteHeader(status int) {
	if status >= 100 && status < 200 {
		return // not the answer yet
	}
	w.once.Do(func() {
		w.status, w.sent = status, w.header.Clone()
		close(w.begun)
	})
}

func (w *pipeWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	switch {
	case w.status == http.StatusNoContent, w.status == http.StatusNotModified:
		return 0, http.ErrBodyNotAllowed
	case w.head:
		return len(p), nil
	}
	return w.pipe.Write(p)
}

// Flush begins the answer; the pipe holds nothing back.
func (w *pipeWriter) Flush() { w.WriteHeader(http.StatusOK) }

// SetWriteDeadline breaks the body at the time t, as it breaks a connection; the
// zero time is never.
func (w *pipeWriter) SetWriteDeadline(t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
	if !t.IsZero() && !w.over {
		w.timer = time.AfterFunc(time.Until(t), func() { _ = w.pipe.CloseWithError(os.ErrDeadlineExceeded) })
	}
	return nil
}

// end forgets the deadline.
func (w *pipeWriter) end() {
	w.mu.Lock()
	w.over = true
	w.mu.Unlock()
	_ = w.SetWriteDeadline(time.Time{}) // never fails
}

// SetReadDeadline does nothing: what is sent to a handler comes from this
// process.
func (w *pipeWriter) SetReadDeadline(time.Time) error { return nil }

// pipeBody is the caller's side.
type pipeBody struct {
	*io.PipeReader
	cancel context.CancelCauseFunc
	done   chan struct{}
	given  context.Context // the caller's
}

// Close ends the handler if it still runs, and waits for it as long as the
// caller's context lasts.
func (b *pipeBody) Close() error {
	err := b.PipeReader.Close()
	b.cancel(context.Canceled)
	select {
	case <-b.done:
	case <-b.given.Done():
	}
	return err
}
