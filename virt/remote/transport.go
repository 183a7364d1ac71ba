package remote

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// longPoll is how long an agent may hold a request until a job ends.
const longPoll = 30 * time.Second

// use is what a request is for. Each has connections of its own, so that nobody
// who looks at a host, or wants to stop a guest, stands behind those who wait for
// long jobs.
type use int

const (
	looks use = iota
	changes
	waits
	streams // bodies without a bound, which somebody else reads
	uploads // the same the other way round
	uses    // how many there are
)

// newTransport makes the connections to all agents. They are reached directly:
// a proxy would see the token, and answer for a host that is dead. A connection
// has one request at a time: one that hangs costs itself.
func newTransport(c Config, secure *tls.Config) *http.Transport {
	return &http.Transport{
		DialContext:            (&net.Dialer{Timeout: c.Timeout, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:        secure.Clone(),
		TLSNextProto:           map[string]func(string, *tls.Conn) http.RoundTripper{}, // no HTTP/2
		TLSHandshakeTimeout:    c.Timeout,
		ResponseHeaderTimeout:  longPoll + c.Timeout,
		MaxResponseHeaderBytes: 64 << 10,
		MaxConnsPerHost:        c.Connections,
		MaxIdleConnsPerHost:    min(c.Connections, 8),
		MaxIdleConns:           1000,
		IdleConnTimeout:        time.Minute,
		DisableCompression:     true, // what is small on the way and huge when unpacked
	}
}

// errTooLong is an answer without end.
var errTooLong = errors.New("the answer is longer than max_answer allows")

// bounded cuts answers off that are too long.
type bounded struct {
	*http.Transport
	most int64 // 0: whoever reads the answer keeps nothing of it
}

func (b *bounded) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := b.Transport.RoundTrip(r)
	if err != nil || b.most == 0 {
		return resp, err
	}
	if resp.ContentLength > b.most {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("%w: it has %d bytes", errTooLong, resp.ContentLength)
	}
	resp.Body = &boundedBody{ReadCloser: resp.Body, left: b.most}
	return resp, nil
}

type boundedBody struct {
	io.ReadCloser
	left int64
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, errTooLong
	}
	n, err := b.ReadCloser.Read(p[:min(int64(len(p)), b.left+1)])
	if b.left -= int64(n); b.left < 0 {
		return 0, errTooLong
	}
	return n, err
}

// client asks one agent.
type client [uses]*mistify.Client

// agent is the client of a host's agent, and where that is.
func (d *Driver) agent(h virt.Host) (c client, address string, err error) {
	u, err := d.address(h)
	if err != nil {
		return c, "", err
	}
	for i := range c {
		if c[i], err = mistify.NewClient(u.String(), mistify.ClientOptions{Transport: d.paths[i], Token: d.cfg.Token.Reveal}); err != nil {
			return c, "", err
		}
	}
	return c, u.String(), nil
}
