package mistify

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"sync"
)

// Download is a stream of bytes. Whoever gets one closes it.
type Download struct {
	io.ReadCloser
	ContentType string // application/octet-stream if it was not said
	Length      int64  // -1 if it was not said

	live bool // each piece is sent as it comes, and before the first one that there is a stream
}

const octets = "application/octet-stream"

// errStalled is the cause of a stream's end whose peer sent nothing for too long.
var errStalled = errors.New("nothing came for too long")

// Stream asks method with request and returns the answer as it comes. At RPCPath
// the request travels in an envelope, at a path of its own bare, as Mistify
// does it. ctx lives as long as the stream and needs no deadline: a peer that
// sends nothing for RPCOptions.Stall ends it, one whose reader is slow does not.
// A stream that breaks off ends with an error that is not io.EOF.
func (c *RPC) Stream(ctx context.Context, method string, request any) (*Download, error) {
	body, err := c.encode(method, request)
	if c.path != RPCPath {
		body, err = json.Marshal(request)
	}
	if err != nil {
		return nil, c.failed(method, true, err)
	}
	if err := c.enter(ctx, method); err != nil {
		return nil, err
	}
	s := &stream{rpc: c, method: method, ctx: ctx}
	resp, err := c.post(ctx, method, body, c.stall) //nolint:bodyclose // the stream closes it
	if err != nil {
		s.end()
		return nil, err
	}
	s.body = resp.Body
	if resp.StatusCode != http.StatusOK {
		err := c.refusal(method, resp)
		_ = s.Close()
		return nil, err
	}
	d := &Download{ReadCloser: s, ContentType: octets, Length: resp.ContentLength}
	if given := resp.Header.Get("Content-Type"); len(given) <= 255 {
		if _, _, err := mime.ParseMediaType(given); err == nil {
			d.ContentType = given
		}
	}
	return d, nil
}

// stream is the body of an answer, with its place among the calls.
type stream struct {
	rpc    *RPC
	method string
	ctx    context.Context //nolint:containedctx // it lives as long as the stream
	body   io.ReadCloser
	once   sync.Once
}

func (s *stream) Read(p []byte) (int, error) {
	n, err := s.body.Read(p)
	if err != nil && err != io.EOF { //nolint:errorlint // a reader says io.EOF itself
		err = s.rpc.failed(s.method, false, fmt.Errorf("the stream broke off: %w", brokenOff(s.ctx, err)))
	}
	return n, err
}

// Close ends the sub-agent's work if it is not done.
func (s *stream) Close() error {
	s.end()
	return s.body.Close()
}

func (s *stream) end() { s.once.Do(s.rpc.leave) }
