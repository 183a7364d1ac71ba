package docker

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// guard is the way to dockerd: one socket, whatever a request names, and answers
// of a bounded length.
type guard struct {
	base *http.Transport
	most int64
}

// maxStream bounds what dockerd says of a pull or a load, as a whole.
const maxStream = 256 << 20

func newGuard(socket string, most int64) *guard {
	dialer := &net.Dialer{Timeout: 10 * time.Second}
	return &guard{most: most, base: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, "unix", socket)
			if err != nil {
				return nil, &goneError{socket, err}
			}
			return c, nil
		},
		// A connection for each call: one that was kept may be closed by a restart, and
		// then nobody knows whether the call was begun.
		DisableKeepAlives: true, DisableCompression: true, MaxResponseHeaderBytes: 64 << 10,
	}}
}

// RoundTrip implements http.RoundTripper.
func (g *guard) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := g.base.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	most := g.most
	if strings.HasSuffix(r.URL.Path, "/images/create") || strings.HasSuffix(r.URL.Path, "/images/load") {
		most = maxStream
	}
	resp.Body = &bounded{ReadCloser: resp.Body, left: most, most: most}
	return resp, nil
}

// bounded is a body with an end.
type bounded struct {
	io.ReadCloser
	left, most int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left <= 0 {
		// Whether it is over exactly here takes one byte more.
		if n, err := b.ReadCloser.Read(p[:min(1, len(p))]); n == 0 {
			return 0, err
		}
		return 0, &longError{b.most}
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}

// longError is an answer over the bound.
type longError struct{ most int64 }

func (e *longError) Error() string {
	return fmt.Sprintf("its answer has more than %d bytes", e.most)
}

// goneError is a dockerd that nothing could be sent to.
type goneError struct {
	socket string
	err    error
}

func (e *goneError) Error() string {
	return fmt.Sprintf("nobody listens at %s (%v): is dockerd running?", e.socket, e.err)
}

func (e *goneError) Unwrap() error { return e.err }

// lateError is a dockerd that did not answer in time.
type lateError struct{ within time.Duration }

func (e *lateError) Error() string { return fmt.Sprintf("it did not answer within %s", e.within) }

func (e *lateError) Unwrap() error { return context.DeadlineExceeded }
