package plainhttp

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// Options are those of a Client.
type Options struct {
	Dial        func(ctx context.Context) (net.Conn, error)
	Host        string        // the header
	MaxIdle     int           // connections that are kept; 4 if 0
	IdleTimeout time.Duration // how long; 5 seconds if 0
	MaxHeader   int64         // bytes of an answer's headers; 64 KiB if 0
}

// Client asks one server. It is safe for concurrent use.
type Client struct {
	o Options

	mu     sync.Mutex
	closed bool
	idle   []*conn     // the one used last is the last
	timer  *time.Timer // runs while there are any
}

// New returns a client. Nothing is dialled yet.
func New(o Options) *Client {
	if o.MaxIdle <= 0 {
		o.MaxIdle = 4
	}
	if o.IdleTimeout <= 0 {
		o.IdleTimeout = 5 * time.Second
	}
	if o.MaxHeader <= 0 {
		o.MaxHeader = 64 << 10
	}
	return &Client{o: o}
}

// Request is what is asked.
type Request struct {
	Method string
	Path   string // as it is sent, escaped
	Header http.Header
	Body   []byte // of GET it must be empty

	// Stall bounds how long nothing may happen: until the connection is there,
	// until the answer begins, and between any two pieces of it. 0 is unbounded.
	Stall time.Duration
}

// Do sends a request and returns the answer, whose Body is a *Body that must be
// read to its end or closed. The end of ctx is the end of both. Its errors are
// *Error.
func (c *Client) Do(ctx context.Context, r Request) (*http.Response, error) {
	out, err := c.encode(r)
	if err != nil {
		return nil, &Error{Err: err}
	}
	for {
		k, kept, err := c.take(func() (net.Conn, error) { return c.dial(ctx, r.Stall) })
		if err != nil {
			return nil, &Error{Err: err}
		}
		resp, sent, err := c.over(ctx, k, r, out)
		if err == nil {
			return resp, nil
		}
		_ = k.Close() // the first error is the one to tell
		if sent || !kept || ctx.Err() != nil {
			return nil, &Error{Sent: sent, Err: err}
		}
	}
}

func (c *Client) dial(ctx context.Context, stall time.Duration) (net.Conn, error) {
	if stall <= 0 {
		return c.o.Dial(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, stall)
	defer cancel()
	return c.o.Dial(ctx)
}

// over sends a request on a connection and reads the beginning of the answer.
func (c *Client) over(ctx context.Context, k *conn, r Request, out []byte) (resp *http.Response, sent bool, err error) {
	stop := context.AfterFunc(ctx, func() { _ = k.Close() }) // wakes who reads or writes
	defer func() {
		if err != nil {
			stop()
		}
	}()
	if r.Stall > 0 {
		_ = k.SetDeadline(time.Now().Add(r.Stall)) // a connection without deadlines ends with ctx
	}
	before := k.wrote
	n, err := k.Write(out)
	if err != nil && n == 0 {
		return nil, false, err
	}
	resp, errRead := c.read(k, r.Method)
	switch {
	case errRead == nil:
		resp.Close = resp.Close || err != nil // it answered before it had read all
	case err != nil:
		return nil, true, err
	default:
		// A server that went just now may have closed the connection without our
		// knowing yet. If its side took not a byte of the request, nobody read it.
		refused := errors.Is(errRead, syscall.ECONNRESET) && !k.took(before)
		return nil, !refused, errRead
	}
	err = nil
	if r.Stall > 0 {
		_ = k.SetDeadline(time.Time{})
	}
	b := &Body{client: c, conn: k, inner: resp.Body, stop: stop, stall: r.Stall, left: resp.ContentLength, keep: !resp.Close}
	resp.Body = b
	if resp.ContentLength == 0 || b.inner == http.NoBody {
		b.end()
	}
	return resp, true, nil
}

// read reads the beginning of an answer.
func (c *Client) read(k *conn, method string) (*http.Response, error) {
	k.left = c.o.MaxHeader
	defer func() { k.left = math.MaxInt64 }()
	for range 6 {
		resp, err := http.ReadResponse(k.r, &http.Request{Method: method})
		if err != nil {
			return nil, err
		}
		if resp.StatusCode >= 200 || resp.StatusCode == http.StatusSwitchingProtocols {
			return resp, nil
		}
	}
	return nil, errors.New("it answers that it will answer, again and again")
}

// encode writes the request as it is sent.
func (c *Client) encode(r Request) ([]byte, error) {
	if !strings.HasPrefix(r.Path, "/") || unfit(r.Path) || strings.Contains(r.Path, " ") {
		return nil, fmt.Errorf("%.200q is no path", r.Path)
	}
	b := make([]byte, 0, 256+len(r.Path)+len(r.Body))
	b = append(b, r.Method...)
	b = append(b, ' ')
	b = append(b, r.Path...)
	b = append(b, " HTTP/1.1\r\nHost: "...)
	b = append(b, c.o.Host...)
	b = append(b, "\r\n"...)
	for name, values := range r.Header {
		for _, v := range values {
			if unfit(name) || unfit(v) {
				return nil, fmt.Errorf("the header %.64q has control characters", name)
			}
			b = append(b, name...)
			b = append(b, ": "...)
			b = append(b, v...)
			b = append(b, "\r\n"...)
		}
	}
	if len(r.Body) > 0 || r.Method == http.MethodPost {
		b = append(b, "Content-Length: "...)
		b = strconv.AppendInt(b, int64(len(r.Body)), 10)
		b = append(b, "\r\n"...)
	}
	b = append(b, "\r\n"...)
	return append(b, r.Body...), nil
}

func unfit(text string) bool {
	for i := range len(text) {
		if text[i] < ' ' || text[i] == 0x7f {
			return true
		}
	}
	return false
}
