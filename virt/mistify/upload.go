package mistify

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"mime"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/vagoth/vagoth/trail"
)

// Upload asks method with request and content, and reads what it answers into
// response. The call is the first line of the body, and content is what stands
// behind it; the type of both together is application/octet-stream. ctx must have a
// deadline, for all of it. Content whose reading fails fails the call: it is
// never taken for whole. It is closed by the end of ctx, which must wake who reads
// it, and when Upload returns.
func (c *RPC) Upload(ctx context.Context, method string, request any, content io.ReadCloser, response any) error {
	defer func() { _ = content.Close() }()
	if _, ok := ctx.Deadline(); !ok {
		return c.failed(method, true, ErrNoDeadline)
	}
	call, err := c.encode(method, request)
	if err != nil {
		return err
	}
	if err := c.enter(ctx, method); err != nil {
		return err
	}
	defer c.leave()
	// A connection of its own, which can be written and read at once: the answer can
	// come before all was sent.
	transport := &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dial(ctx) },
		DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10,
	}
	defer context.AfterFunc(ctx, func() { _ = content.Close() })() // the transport waits for who reads it
	body := struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(append(call, '\n')), content), content}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+c.host+c.path, body)
	if err != nil {
		return c.failed(method, true, err)
	}
	req.Header.Set("Content-Type", octets)
	req.Header.Set("User-Agent", "vagoth")
	SetTrail(req.Header, trail.From(ctx))
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return c.failed(method, false, brokenOff(ctx, err))
	}
	defer func() { _ = resp.Body.Close() }()
	return c.answered(ctx, method, resp, response)
}

// RegisterUpload makes fn answer the method called name, with the content that it
// was sent. To close the content wakes who reads it; it is closed when fn returns.
// What fn has not read then is dropped.
func RegisterUpload[Request, Response any](s *Server, name string, fn func(context.Context, *Request, io.ReadCloser) (*Response, error)) {
	s.uploads[name] = true
	s.add(name, func(w http.ResponseWriter, r *http.Request, params json.RawMessage) error {
		request := new(Request)
		if err := decodeParams(params, request); err != nil {
			return &badCall{err}
		}
		defer func() { _ = r.Body.Close() }()
		response, err := fn(r.Context(), request, r.Body)
		if err == nil && response == nil {
			err = errors.New("the method has no answer: it must return a response or an error")
		}
		if err != nil {
			return err
		}
		result, err := json.Marshal(response)
		if err != nil {
			return err
		}
		writeReply(w, idOf(r), result, nil)
		return nil
	})
}

// isUpload tells a call with content. No page in a browser can send one without
// asking first.
func isUpload(r *http.Request) bool {
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	return kind == octets && r.URL.Path == RPCPath
}

// content is what a call was sent. Every piece of it must come within a time.
type content struct {
	in   *bufio.Reader
	body io.Closer
	wire *http.ResponseController

	mu     sync.Mutex
	closed bool
}

func newContent(w http.ResponseWriter, r *http.Request) *content {
	return &content{in: bufio.NewReaderSize(r.Body, 64<<10), body: r.Body, wire: http.NewResponseController(w)}
}

// line reads the call that stands before the content.
func (c *content) line(most int64) ([]byte, error) {
	var line []byte
	for {
		if err := c.wait(); err != nil {
			return nil, err
		}
		piece, err := c.in.ReadSlice('\n')
		line = append(line, piece...)
		switch {
		case int64(len(line)) > most:
			return nil, ErrTooLarge
		case err == nil:
			return line[:len(line)-1], nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return nil, err
		}
	}
}

// wait moves the end of the time for the next piece.
func (c *content) wait() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return net.ErrClosed
	}
	_ = c.wire.SetReadDeadline(time.Now().Add(readWithin)) // what has no deadlines needs none moved
	return nil
}

func (c *content) Read(p []byte) (int, error) {
	if err := c.wait(); err != nil {
		return 0, err
	}
	return c.in.Read(p)
}

// Close implements io.Closer.
func (c *content) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.closed = true
		_ = c.wire.SetReadDeadline(time.Unix(1, 0)) // wakes who reads
	}
	return nil
}
