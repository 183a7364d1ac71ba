package leanserver

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"runtime/debug"
	"strings"

	"github.com/valyala/fasthttp"
)

// Left reports whether the client of a request has gone, as far as that is known
// already. It serves requests of net/http as well.
func Left(r *http.Request) bool {
	if c, ok := r.Context().(*requestContext); ok {
		return c.conn.left()
	}
	return r.Context().Err() != nil
}

// requestContext is that of one request, which knows its connection.
type requestContext struct {
	context.Context //nolint:containedctx // it is one itself
	conn            *conn
}

// serve answers one request.
func (s *Server) serve(ctx *fasthttp.RequestCtx) {
	r, err := s.request(ctx)
	if err != nil {
		refuse(ctx, http.StatusBadRequest, err.Error())
		return
	}
	w := &answer{ctx: ctx, header: make(http.Header, 4)}
	defer func() {
		p := recover()
		if p == nil {
			w.finish()
			if s.isStopping() {
				ctx.SetConnectionClose()
			}
			return
		}
		if err, ok := p.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
			s.log.Error("a request ended in a panic", "method", r.Method, "path", r.URL.Path, "panic", p, "stack", string(debug.Stack()))
		}
		for name := range w.header {
			ctx.Response.Header.Del(name)
		}
		refuse(ctx, http.StatusInternalServerError, "the request ended in a panic, which the log tells of")
	}()
	s.handler.ServeHTTP(w, r)
}

// Reasons to refuse a request of which the library takes both readings.
var (
	errTarget  = errors.New("the target of the request is no path")
	errFolded  = errors.New("a header goes on in the next line")
	errFraming = errors.New("the body has both a length and a transfer encoding, or one that is not chunked")
)

// request is what the handler sees. Nothing in it refers to memory of ctx but the
// body, which is not used after the handler has returned.
func (s *Server) request(ctx *fasthttp.RequestCtx) (*http.Request, error) {
	h := &ctx.Request.Header
	target := string(h.RequestURI())
	if !strings.HasPrefix(target, "/") {
		return nil, errTarget
	}
	u, err := url.ParseRequestURI(target)
	if err != nil {
		return nil, errTarget
	}
	if raw := h.RawHeaders(); bytes.Contains(raw, []byte("\n ")) || bytes.Contains(raw, []byte("\n\t")) {
		return nil, errFolded
	}
	r := &http.Request{
		Method: string(h.Method()), URL: u, RequestURI: target, Proto: string(h.Protocol()), ProtoMajor: 1, ProtoMinor: 1,
		Header: http.Header{}, Host: string(h.Host()), Body: http.NoBody,
	}
	if !h.IsHTTP11() {
		r.ProtoMinor = 0
	}
	length := false
	for key, value := range h.AllInOrder() {
		switch name, value := string(key), string(value); name {
		case "Host", "Trailer":
		case "Content-Length":
			length = true
			r.Header[name] = append(r.Header[name], value)
		case "Transfer-Encoding":
			if r.TransferEncoding = append(r.TransferEncoding, value); !strings.EqualFold(value, "chunked") {
				return nil, errFraming
			}
		default:
			r.Header[name] = append(r.Header[name], value)
		}
	}
	if length && r.TransferEncoding != nil {
		return nil, errFraming
	}
	if body := ctx.Request.Body(); len(body) > 0 {
		r.Body, r.ContentLength = io.NopCloser(bytes.NewReader(body)), int64(len(body))
	}
	c, ok := ctx.Conn().(*conn)
	if !ok {
		return r.WithContext(s.base), nil
	}
	r.RemoteAddr = c.remote
	return r.WithContext(&requestContext{s.base, c}), nil
}

// refuse answers and closes the connection.
func refuse(ctx *fasthttp.RequestCtx, status int, why string) {
	ctx.Response.ResetBody() // a Reset of it all would bring the Date back
	ctx.SetStatusCode(status)
	ctx.Response.Header.SetContentType("text/plain; charset=utf-8")
	ctx.Response.SetBodyString(why + "\n")
	ctx.SetConnectionClose()
}

// answerError answers a request that could not be read.
func answerError(ctx *fasthttp.RequestCtx, err error) {
	var small *fasthttp.ErrSmallBuffer
	var network net.Error
	switch {
	case errors.As(err, &small):
		refuse(ctx, http.StatusRequestHeaderFieldsTooLarge, "the headers of the request are too large")
	case errors.Is(err, fasthttp.ErrBodyTooLarge):
		refuse(ctx, http.StatusRequestEntityTooLarge, "the body of the request is too large")
	case errors.As(err, &network) && network.Timeout():
		refuse(ctx, http.StatusRequestTimeout, "the request did not come in time")
	default:
		refuse(ctx, http.StatusBadRequest, "this is no request of HTTP/1.1 that can be understood in one way only")
	}
}

// answer implements http.ResponseWriter.
type answer struct {
	ctx    *fasthttp.RequestCtx
	header http.Header
	begun  bool
}

// Header implements http.ResponseWriter.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	if a.begun || status < http.StatusOK {
		return
	}
	a.begun = true
	a.ctx.SetStatusCode(status)
	h := &a.ctx.Response.Header
	for name, values := range a.header {
		switch name {
		case "Content-Length", "Transfer-Encoding": // the body tells its length
			continue
		case "Content-Type":
			h.SetContentType(values[0])
			continue
		}
		for _, v := range values {
			h.Add(name, v)
		}
	}
}

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) {
	a.WriteHeader(http.StatusOK)
	a.ctx.Response.AppendBody(p)
	return len(p), nil
}

// finish is called when the handler has returned.
func (a *answer) finish() { a.WriteHeader(http.StatusOK) }
