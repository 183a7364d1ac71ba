package mistify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/vagoth/vagoth/internal/plainhttp"
	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
)

// RPCPath is where a sub-agent is asked, unless its service has another path.
const RPCPath = "/_mistify_RPC_"

// Endpoint is where a sub-agent listens: a port of loopback, or a unix socket.
type Endpoint struct {
	Port   int    // of 127.0.0.1
	Socket string // path of a unix socket, instead of a port
	Path   string // RPCPath if empty
}

func (e Endpoint) String() string {
	if e.Socket != "" {
		return "unix:" + e.Socket
	}
	return "127.0.0.1:" + strconv.Itoa(e.Port)
}

func (e Endpoint) check() error {
	switch {
	case (e.Port == 0) == (e.Socket == ""):
		return fmt.Errorf("%w service: give it a port or a socket, and not both", virt.ErrInvalid)
	case e.Port < 0 || e.Port > 65535:
		return fmt.Errorf("%w service: %d is no port", virt.ErrInvalid, e.Port)
	case len(e.Socket) > 107:
		return fmt.Errorf("%w service: the socket's path %.200q has %d bytes, at most 107 can be used: shorten it", virt.ErrInvalid, e.Socket, len(e.Socket))
	case e.Path != "":
		return CheckPath(e.Path)
	}
	return nil
}

// RPCOptions are how a service is called.
type RPCOptions struct {
	// Name is the service's, for errors. The endpoint if empty.
	Name string
	// MaxPending bounds the calls and streams under way; further ones wait for a
	// place, as long as their context lets them. 4 if 0, as Mistify has it.
	MaxPending int
	// MaxAnswer bounds an answer, in bytes. MaxAnswer if 0.
	MaxAnswer int64
	// Stall bounds how long a stream waits for its beginning and for its next
	// byte. 30 seconds if 0.
	Stall time.Duration
	// Dial connects to a sub-agent inside this process; the endpoint has neither
	// port nor socket then.
	Dial func(ctx context.Context) (net.Conn, error)
}

// RPC calls the methods of one sub-agent. It is safe for concurrent use and
// keeps its connections; Close ends those that are idle.
//
// A call is sent once. Whether one that failed was begun is told by its error:
// a *CallError that says NotSent was not.
type RPC struct {
	name      string
	path      string
	host      string
	dial      func(ctx context.Context) (net.Conn, error)
	client    *plainhttp.Client
	places    chan struct{}
	maxAnswer int64
	stall     time.Duration
	id        atomic.Uint64
}

// NewRPC returns a client of the sub-agent at e. Nothing is dialled yet.
func NewRPC(e Endpoint, o RPCOptions) (*RPC, error) {
	if err := e.check(); err != nil && (o.Dial == nil || e.Port != 0 || e.Socket != "") {
		return nil, err
	}
	if o.MaxPending < 0 || o.MaxPending > 10_000 {
		return nil, fmt.Errorf("%w service: max_pending = %d must be 1 to 10000", virt.ErrInvalid, o.MaxPending)
	}
	c := &RPC{name: o.Name, path: e.Path, maxAnswer: o.MaxAnswer, stall: o.Stall}
	if c.name == "" {
		c.name = e.String()
	}
	if c.path == "" {
		c.path = RPCPath
	}
	if c.maxAnswer <= 0 {
		c.maxAnswer = MaxAnswer
	}
	if c.stall <= 0 {
		c.stall = 30 * time.Second
	}
	if o.MaxPending == 0 {
		o.MaxPending = 4
	}
	c.places = make(chan struct{}, o.MaxPending)
	network, address := "tcp", e.String()
	host := "127.0.0.1:" + strconv.Itoa(e.Port)
	if e.Socket != "" || o.Dial != nil {
		host, network, address = "127.0.0.1", "unix", e.Socket
	}
	dial := o.Dial
	if dial == nil {
		dialer := &net.Dialer{}
		dial = func(ctx context.Context) (net.Conn, error) { return dialer.DialContext(ctx, network, address) }
	}
	c.host, c.dial = host, dial
	c.client = plainhttp.New(plainhttp.Options{
		Dial: dial, Host: host, MaxIdle: o.MaxPending,
		IdleTimeout: 5 * time.Second, // sub-agents of Mistify close theirs after 10
	})
	return c, nil
}

// Close ends the idle connections. Calls under way go on.
func (c *RPC) Close() { c.client.Close() }

// Name is the service's.
func (c *RPC) Name() string { return c.name }

// Pending returns how many calls and streams are under way.
func (c *RPC) Pending() int { return len(c.places) }

// ErrNoDeadline is a call with a context that never ends.
var ErrNoDeadline = errors.New("the call has no deadline")

// CallError is a call that got no proper answer. It is a virt.ErrUnreachable,
// and context.DeadlineExceeded if that is why.
type CallError struct {
	Service string
	Method  string
	NotSent bool // the sub-agent has not begun it
	Err     error
}

func (e *CallError) Error() string {
	what := "did not answer properly to"
	if e.NotSent {
		what = "could not be asked for"
	}
	return fmt.Sprintf("the sub-agent %s %s %s: %v", e.Service, what, e.Method, e.Err)
}

// Unwrap returns virt.ErrUnreachable and the cause.
func (e *CallError) Unwrap() []error { return []error{virt.ErrUnreachable, e.Err} }

// RemoteError is an error that a sub-agent answered. It is the error of its
// kind, such as virt.ErrNotFound.
type RemoteError struct {
	Service string
	Method  string
	Message string
	Status  int // of HTTP: 200 for an error of the method itself
	Kind    ErrorKind
}

func (e *RemoteError) Error() string {
	return fmt.Sprintf("%s of the sub-agent %s: %s", e.Method, e.Service, e.Message)
}

func (e *RemoteError) Unwrap() error { return e.Kind.Err() }

type envelope struct {
	Method string `json:"method"`
	Params [1]any `json:"params"`
	ID     uint64 `json:"id"`
}

type reply struct {
	Result json.RawMessage `json:"result"`
	Error  json.RawMessage `json:"error"`
}

// Call asks method with request and reads what it answers into response. ctx
// must have a deadline; its trail goes along. The id of the answer is not
// compared: over HTTP an answer belongs to its request, and sub-agents that get
// it wrong worked before.
func (c *RPC) Call(ctx context.Context, method string, request, response any) error {
	if _, ok := ctx.Deadline(); !ok {
		return c.failed(method, true, ErrNoDeadline)
	}
	body, err := c.encode(method, request)
	if err != nil {
		return err
	}
	if err := c.enter(ctx, method); err != nil {
		return err
	}
	defer c.leave()
	resp, err := c.post(ctx, method, body, 0)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	return c.answered(ctx, method, resp, response)
}

// answered reads an answer, or the error that it is, into response.
func (c *RPC) answered(ctx context.Context, method string, resp *http.Response, response any) error {
	if resp.StatusCode != http.StatusOK {
		return c.refusal(method, resp)
	}
	data, err := readAnswer(resp, c.maxAnswer)
	if err != nil {
		return c.failed(method, false, brokenOff(ctx, err))
	}
	return c.decode(method, resp.Header, data, response)
}

func (c *RPC) encode(method string, request any) ([]byte, error) {
	body, err := json.Marshal(envelope{Method: method, Params: [1]any{request}, ID: c.id.Add(1)})
	if err != nil {
		return nil, c.failed(method, true, fmt.Errorf("the request cannot be encoded: %w", err))
	}
	return body, nil
}

func (c *RPC) enter(ctx context.Context, method string) error {
	if err := ctx.Err(); err != nil {
		return c.failed(method, true, context.Cause(ctx))
	}
	select {
	case c.places <- struct{}{}:
		return nil
	default:
	}
	select {
	case c.places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return c.failed(method, true, fmt.Errorf("%w after waiting behind %d other calls", context.Cause(ctx), cap(c.places)))
	}
}

func (c *RPC) leave() { <-c.places }

// post sends a request, again only if nothing of it was sent on a connection
// that turned out to be closed.
func (c *RPC) post(ctx context.Context, method string, body []byte, stall time.Duration) (*http.Response, error) {
	h := http.Header{"Content-Type": {"application/json"}, "User-Agent": {"vagoth"}}
	SetTrail(h, trail.From(ctx))
	resp, err := c.client.Do(ctx, plainhttp.Request{Method: http.MethodPost, Path: c.path, Header: h, Body: body, Stall: stall})
	if err == nil {
		return resp, nil
	}
	var failed *plainhttp.Error
	if !errors.As(err, &failed) {
		return nil, c.failed(method, false, err)
	}
	return nil, c.failed(method, !failed.Sent, brokenOff(ctx, failed.Err))
}

// brokenOff says in plain words why nothing, or no more, came.
func brokenOff(ctx context.Context, err error) error {
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("it took too long, or was given up: %w", context.Cause(ctx))
	case errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("it took too long, or was given up: %w", errStalled)
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		return fmt.Errorf("it closed the connection in the middle of its answer: %w", err)
	}
	return err
}

// readAnswer makes room at once for an answer that says its length.
func readAnswer(resp *http.Response, limit int64) ([]byte, error) {
	if n := resp.ContentLength; n >= 0 && n <= min(limit, 1<<20) {
		data := make([]byte, n)
		if _, err := io.ReadFull(resp.Body, data); err != nil {
			return nil, err
		}
		return data, nil
	}
	return ReadBody(resp.Body, limit)
}

func (c *RPC) decode(method string, h http.Header, data []byte, response any) error {
	if p, ok := split(data); ok && null(p.problem) && !null(p.result) && (p.id == nil || json.Valid(p.id)) && p.method == nil && p.params == nil {
		if some, ok := response.(Picker); ok && pick(p.result, some) {
			return nil
		}
		if json.Unmarshal(p.result, response) == nil {
			return nil
		}
	}
	var r reply
	if err := Decode(data, &r); err != nil {
		return c.nonsense(method, "its answer is not JSON-RPC ("+strconv.Quote(clip(data))+")", err)
	}
	if !null(r.Error) {
		e := &RemoteError{Service: c.name, Method: method, Message: messageOf(r.Error), Status: http.StatusOK, Kind: ErrorKind(h.Get(HeaderError))}
		e.fill()
		return e
	}
	if null(r.Result) {
		return c.failed(method, false, fmt.Errorf("its answer has neither a result nor an error: %s", strconv.Quote(clip(data))))
	}
	if err := json.Unmarshal(r.Result, response); err != nil {
		return c.nonsense(method, "its result is not what was asked for", jsonError(r.Result, err))
	}
	return nil
}

func null(raw json.RawMessage) bool { return len(raw) == 0 || string(raw) == "null" }

// messageOf takes the text of an error, and of one that is no text its JSON.
func messageOf(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) != nil {
		text = string(raw)
	}
	if text == "" {
		text = "it failed and does not say why"
	}
	return oneLine(text)
}

// maxMessage bounds what is kept of a message, in bytes.
const maxMessage = 4096

func oneLine(text string) string {
	if len(text) > maxMessage {
		text = text[:maxMessage] + "..."
	}
	return printable(text)
}

func (e *RemoteError) fill() {
	if e.Kind.Err() == nil {
		e.Kind = kindOfText(e.Message)
	}
}

// refusal makes an error of an answer with another status than 200.
func (c *RPC) refusal(method string, resp *http.Response) error {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxMessage)) // what came of it is all there is to tell
	e := &RemoteError{Service: c.name, Method: method, Status: resp.StatusCode, Kind: ErrorKind(resp.Header.Get(HeaderError))}
	e.Message = fmt.Sprintf("it answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	if s := oneLine(string(bytes.TrimSpace(text))); s != "" {
		e.Message += ": " + s
	}
	if e.Kind.Err() == nil {
		e.Kind = kindOfText(string(text))
	}
	if e.Kind == "" && resp.StatusCode == http.StatusNotFound && c.path != RPCPath {
		e.Kind = KindNotFound // a stream has no other way to say so
	}
	return e
}

// nonsense is an answer that cannot be read. What is invalid in it is not so in
// what was asked, so the error is no virt.ErrInvalid: that would be the caller's.
func (c *RPC) nonsense(method, what string, err error) error {
	return c.failed(method, false, errors.New(what+": "+err.Error()))
}

func (c *RPC) failed(method string, notSent bool, err error) error {
	return &CallError{Service: c.name, Method: method, NotSent: notSent, Err: err}
}
