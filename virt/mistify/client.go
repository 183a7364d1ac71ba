package mistify

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
)

// ClientOptions are how an agent is asked.
type ClientOptions struct {
	Transport http.RoundTripper // http.DefaultTransport if nil; for TLS, sockets and bounds on dialling
	Token     func() string     // gives the bearer token, if there is one
}

// Client asks an agent, ours or Mistify's own. It is safe for concurrent use.
// Calls carry the trail and the token of their context. An answer that is an
// error is an *Error; an agent that cannot be asked is a virt.ErrUnreachable.
type Client struct {
	base  string
	http  *http.Client
	token func() string
}

// NewClient returns a client of the agent at base, such as
// http://127.0.0.1:8080.
func NewClient(base string, o ClientOptions) (*Client, error) {
	u, err := url.Parse(base)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("%w agent %.200q: give its URL, such as http://127.0.0.1:8080", virt.ErrInvalid, base)
	}
	return &Client{base: strings.TrimSuffix(base, "/"), token: o.Token, http: &http.Client{
		Transport:     o.Transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Error is an error that an agent answered. It is the error of its kind, such
// as virt.ErrNotFound or ErrFenced.
type Error struct {
	ErrorBody
	Request string // such as "GET /guests"
}

func (e *Error) Error() string { return fmt.Sprintf("the agent refused %s: %s", e.Request, e.Message) }

func (e *Error) Unwrap() error {
	if err := e.Kind.Err(); err != nil {
		return err
	}
	return kindOfStatus(e.Code).Err()
}

// kindOfStatus knows what the answers of an agent without kinds mean.
func kindOfStatus(status int) ErrorKind {
	switch status {
	case http.StatusNotFound:
		return KindNotFound
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity:
		return KindInvalid
	case http.StatusUnauthorized, http.StatusForbidden:
		return KindDenied
	case http.StatusConflict:
		return KindConflict
	case http.StatusPreconditionFailed:
		return KindFenced
	case http.StatusTooManyRequests:
		return KindTooMany
	case http.StatusMethodNotAllowed, http.StatusNotImplemented:
		return KindUnsupported
	case http.StatusBadGateway, http.StatusServiceUnavailable:
		return KindUnreachable
	case http.StatusGatewayTimeout:
		return KindTimeout
	}
	return ""
}

// path joins words, each escaped. That of dots alone is escaped too, so that
// nobody on the way cleans the path.
func path(words ...string) string {
	var b strings.Builder
	for _, word := range words {
		b.WriteByte('/')
		if strings.Trim(word, ".") == "" {
			b.WriteString(strings.ReplaceAll(word, ".", "%2E"))
		} else {
			b.WriteString(url.PathEscape(word))
		}
	}
	return b.String()
}

// call sends in, if it is not nil, reads the answer into out, if it is not nil,
// and returns the id of the job that the answer names.
func (c *Client) call(ctx context.Context, verb, path string, in, out any) (job string, err error) {
	var body io.Reader
	if in != nil {
		data, err := json.Marshal(in)
		if err != nil {
			return "", fmt.Errorf("cannot encode the request %s %s: %w", verb, path, err)
		}
		body = bytes.NewReader(data)
	}
	resp, err := c.open(ctx, verb, path, body)
	if err != nil {
		return "", err
	}
	defer func() { _ = resp.Body.Close() }()
	return answerOf(ctx, verb, path, resp, out)
}

// answerOf reads an answer into out, if it is not nil.
func answerOf(ctx context.Context, verb, path string, resp *http.Response, out any) (job string, err error) {
	data, err := ReadBody(resp.Body, maxListing)
	if err == nil && out != nil {
		err = Decode(data, out)
	}
	if err != nil {
		return "", fmt.Errorf("%w: cannot read the agent's answer to %s %s: %w", virt.ErrUnreachable, verb, path, brokenOff(ctx, err))
	}
	return jobHeader(resp.Header), nil
}

// maxListing bounds an answer of an agent: 10,000 guests are about 10 MB.
const maxListing = 256 << 20

// jobHeader takes the job's id, if it can be one.
func jobHeader(h http.Header) string {
	id, err := ParseJobID(h.Get(HeaderJob))
	if err != nil {
		return ""
	}
	return id
}

func (c *Client) open(ctx context.Context, verb, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, verb, c.base+path, body)
	if err != nil {
		return nil, fmt.Errorf("%w request %s %.200q: %w", virt.ErrInvalid, verb, path, err)
	}
	if body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	return c.send(req, path)
}

// send sends a request, with what every one has.
func (c *Client) send(req *http.Request, path string) (*http.Response, error) {
	req.Header.Set("Accept", "application/json, */*;q=0.5")
	req.Header.Set("User-Agent", "vagoth")
	if c.token != nil {
		if token := c.token(); token != "" {
			req.Header.Set("Authorization", "Bearer "+token)
		}
	}
	SetTrail(req.Header, trail.From(req.Context()))
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", virt.ErrUnreachable, err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	e := &Error{Request: req.Method + " " + path}
	data, err := io.ReadAll(io.LimitReader(resp.Body, MaxBody))
	if err != nil || json.Unmarshal(data, &e.ErrorBody) != nil || e.Message == "" {
		e.ErrorBody = ErrorBody{Message: "it answered " + resp.Status}
		e.foreign(resp)
	}
	e.Code, e.Message = resp.StatusCode, oneLine(e.Message)
	return nil, e
}

// foreign marks a 404 that is no agent's own words about what it looked for: a
// path that it does not serve. That is what an agent without our additions says.
func (e *Error) foreign(resp *http.Response) {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if resp.StatusCode == http.StatusNotFound && kind != "application/json" {
		e.Kind = KindUnsupported
	}
}

// limitQuery is the query of a listing: limit 0 is the agent's own.
func limitQuery(limit int) string {
	if limit <= 0 {
		return ""
	}
	return "?limit=" + strconv.Itoa(limit)
}

// errNoJob is an answer that names no job though one does the work.
var errNoJob = fmt.Errorf("%w: its answer names no job (header %s)", virt.ErrUnreachable, HeaderJob)

// poll is how long one request waits for a job to end.
const poll = 30 * time.Second
