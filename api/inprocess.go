package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
)

// InProcess is a transport that calls h without a socket. Bodies stream both
// ways; an answer's body must be closed, which waits for h.
func InProcess(h http.Handler) http.RoundTripper { return inProcess{h} }

type inProcess struct{ h http.Handler }

// RoundTrip runs the handler beside the caller until the answer's body has been
// read or closed.
func (t inProcess) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(req.Context())
	r, w := io.Pipe()
	rw := &pipeWriter{pipe: w, header: http.Header{}, begun: make(chan struct{})}
	done := make(chan struct{})
	inner := req.Clone(ctx)
	inner.RequestURI = req.URL.RequestURI()
	if inner.Body == nil {
		inner.Body = http.NoBody
	}
	go func() {
		defer close(done)
		var aborted error
		defer func() {
			if p := recover(); p != nil {
				aborted = io.ErrUnexpectedEOF
				if err, ok := p.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
					rw.WriteHeader(http.StatusInternalServerError)
				}
			}
			rw.WriteHeader(http.StatusOK)
			_ = w.CloseWithError(aborted)
			_ = inner.Body.Close()
		}()
		t.h.ServeHTTP(rw, inner)
	}()
	<-rw.begun
	return &http.Response{
		Status: http.StatusText(rw.status), StatusCode: rw.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: rw.sent, ContentLength: -1, Request: req,
		Body: &pipeBody{PipeReader: r, cancel: cancel, done: done},
	}, nil
}

// pipeWriter is the handler's side.
type pipeWriter struct {
	pipe   *io.PipeWriter
	header http.Header
	once   sync.Once
	begun  chan struct{}
	status int
	sent   http.Header
}

func (w *pipeWriter) Header() http.Header { return w.header }

func (w *pipeWriter) WriteHeader(status int) {
	w.once.Do(func() {
		w.status, w.sent = status, w.header.Clone()
		close(w.begun)
	})
}

func (w *pipeWriter) Write(p []byte) (int, error) {
	w.WriteHeader(http.StatusOK)
	return w.pipe.Write(p)
}

// Flush has nothing to do: the pipe holds nothing back.
func (w *pipeWriter) Flush() { w.WriteHeader(http.StatusOK) }

// pipeBody is the caller's side.
type pipeBody struct {
	*io.PipeReader
	cancel context.CancelFunc
	done   chan struct{}
}

// Close ends the handler if it still runs, and waits for it.
func (b *pipeBody) Close() error {
	b.cancel()
	err := b.PipeReader.Close()
	<-b.done
	return err
}
