package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/monitor"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
)

// Client asks a Handler, here or elsewhere. It is safe for concurrent use. Its
// errors are *Error where the server answered, in which errors.Is finds what
// the server's error was. Changes carry the trail of ctx.
type Client struct {
	base  string
	http  *http.Client
	brief bool
	fresh bool // see Consistent
}

// NewClient returns a client of the handler at base, such as
// "https://manager:8443", reached over transport (nil is one like the default
// one, which keeps as many connections as are used at once).
func NewClient(base string, transport http.RoundTripper) *Client {
	if transport == nil {
		transport = defaultTransport()
	}
	return &Client{base: strings.TrimSuffix(base, "/"), http: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

// defaultTransport is the default one, which would keep but two connections to a
// server open: a client that many share would make new ones all the time.
func defaultTransport() http.RoundTripper {
	t, ok := http.DefaultTransport.(*http.Transport)
	if !ok {
		return http.DefaultTransport
	}
	t = t.Clone()
	t.MaxIdleConnsPerHost = t.MaxIdleConns
	return t
}

// Brief returns a client of the same server that reads no more of jobs than it
// must, which is for busy workers: Submit and Enqueue give ID, package and state
// of the jobs, Complete their IDs.
func (c *Client) Brief() *Client {
	b := *c
	b.brief = true
	return &b
}

// Consistent returns a client of the same server whose requests see all that any
// manager acknowledged before: one more round trip to the store each, where several
// managers share it.
func (c *Client) Consistent() *Client {
	f := *c
	f.fresh = true
	return &f
}

// nodePath is "" if one of the words is.
func nodePath(ref string, more ...string) string {
	p := "/v1/nodes"
	for _, word := range append([]string{ref}, more...) {
		if word == "" {
			return ""
		}
		p += "/" + segment(word)
	}
	return p
}

// segment escapes a word. That of dots alone is escaped too, so that nobody on
// the way cleans the path.
func segment(word string) string {
	if strings.Trim(word, ".") == "" {
		return strings.ReplaceAll(word, ".", "%2E")
	}
	return url.PathEscape(word)
}

// Version says what answers.
func (c *Client) Version(ctx context.Context) (v Version, err error) {
	return v, c.call(ctx, "GET", "/v1/version", nil, &v)
}

// Nodes yields the nodes that match q, page by page, ordered by ID.
func (c *Client) Nodes(ctx context.Context, q registry.Query) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		limited, left := q.Limit > 0, q.Limit
		for {
			var page Page
			if err := c.call(ctx, "GET", "/v1/nodes?"+QueryValues(q).Encode(), nil, &page); err != nil {
				yield(Item{}, err)
				return
			}
			for _, it := range page.Items {
				if it.Node == nil {
					yield(Item{}, errNoNode)
					return
				}
				if !yield(it, nil) {
					return
				}
			}
			left -= len(page.Items)
			if page.Next == "" || limited && left <= 0 {
				return
			}
			if page.Next <= q.After {
				yield(Item{}, fmt.Errorf("the server repeats itself: the page after %q is followed by the one after %q", q.After, page.Next))
				return
			}
			q.After = page.Next
			if limited {
				q.Limit = left
			}
		}
	}
}

// Node returns the node with the ID, name or key.
func (c *Client) Node(ctx context.Context, ref string) (it Item, err error) {
	if err = c.call(ctx, "GET", nodePath(ref), nil, &it); err == nil && it.Node == nil {
		err = errNoNode
	}
	return it, err
}

var errNoNode = errors.New("the server answered without a node: is it a vagoth of another version?")

// Create makes a node, or on a dry run says what it would be.
func (c *Client) Create(ctx context.Context, req CreateRequest) (out Created, err error) {
	return out, c.call(ctx, "POST", "/v1/nodes", req, &out)
}

// Patch changes a node.
func (c *Client) Patch(ctx context.Context, ref string, p Patch) (*registry.Node, error) {
	return call[registry.Node](ctx, c, "PATCH", nodePath(ref), p)
}

// Delete deletes a node that stands nowhere and has nothing on it.
func (c *Client) Delete(ctx context.Context, ref string) (*registry.Node, error) {
	return call[registry.Node](ctx, c, "DELETE", nodePath(ref), nil)
}

// Blob returns a blob of a node.
func (c *Client) Blob(ctx context.Context, ref, key string) ([]byte, error) {
	body, err := c.open(ctx, "GET", nodePath(ref, "blobs", key), nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }()
	data, err := io.ReadAll(io.LimitReader(body, registry.MaxBlob+1))
	switch {
	case err != nil:
		return nil, fmt.Errorf("the blob was cut off: %w", err)
	case len(data) > registry.MaxBlob:
		return nil, &registry.LimitError{What: "the answer", Unit: "bytes", Got: len(data), Max: registry.MaxBlob}
	}
	return data, nil
}

// PutBlob stores a blob of a node.
func (c *Client) PutBlob(ctx context.Context, ref, key string, data []byte) (*registry.Node, error) {
	n := new(registry.Node)
	if err := c.send(ctx, "PUT", nodePath(ref, "blobs", key), bytes.NewReader(data), n); err != nil {
		return nil, err
	}
	return n, nil
}

// DeleteBlob removes a blob of a node.
func (c *Client) DeleteBlob(ctx context.Context, ref, key string) (*registry.Node, error) {
	return call[registry.Node](ctx, c, "DELETE", nodePath(ref, "blobs", key), nil)
}

// Do queues an action for a node. The error is a refusal; whether the job
// succeeded is for JobError.
func (c *Client) Do(ctx context.Context, ref string, req JobRequest) (scheduler.Status, error) {
	var list []scheduler.Status
	if err := c.call(ctx, "POST", nodePath(ref, "jobs"), req, &list); err != nil {
		return scheduler.Status{}, err
	}
	if len(list) != 1 {
		return scheduler.Status{}, fmt.Errorf("the server took one job and answered with %d", len(list))
	}
	return list[0], nil
}

// JobError is the error of a job that ended otherwise than succeeded, or nil.
// errors.Is finds in it the errors of the code that the server gave it, and
// errors.As the *scheduler.JobError.
func JobError(st scheduler.Status) error {
	err := st.Err()
	if err == nil || st.Code == "" {
		return err
	}
	c, _ := codeNamed(st.Code)
	return &Error{Problem: Problem{Message: err.Error(), Code: st.Code, Trail: st.Trail}, Status: c.Status, cause: err}
}

// Info looks at a VM on its host, now.
func (c *Client) Info(ctx context.Context, ref string) (i virt.Info, err error) {
	return i, c.call(ctx, "GET", nodePath(ref, "info"), nil, &i)
}

// LastDecision is why the VM was placed where it is.
func (c *Client) LastDecision(ctx context.Context, ref string) (*allocator.Decision, error) {
	a, err := call[DecisionAnswer](ctx, c, "GET", nodePath(ref, "decision"), nil)
	if err != nil {
		return nil, err
	}
	return a.Decision, nil
}

// Decide says where the VM would be placed now, and reserves nothing.
func (c *Client) Decide(ctx context.Context, ref string, req DecisionRequest) (a DecisionAnswer, err error) {
	return a, c.call(ctx, "POST", nodePath(ref, "decision"), req, &a)
}

// SetMaintenance switches a hypervisor's maintenance; the reason is the trail's.
func (c *Client) SetMaintenance(ctx context.Context, ref string, on bool) (*registry.Node, error) {
	return call[registry.Node](ctx, c, "POST", nodePath(ref, "maintenance"), MaintenanceRequest{On: on})
}

// ConfirmDown frees the VMs of a hypervisor that does not answer; the reason is
// the trail's.
func (c *Client) ConfirmDown(ctx context.Context, ref string, req ConfirmRequest) (out Confirmed, err error) {
	return out, c.call(ctx, "POST", nodePath(ref, "confirm-down"), req, &out)
}

// Poll polls the hypervisors, or all of them if there are none.
func (c *Client) Poll(ctx context.Context, hosts ...string) (r monitor.Report, err error) {
	return r, c.call(ctx, "POST", "/v1/poll", PollRequest{Hosts: hosts}, &r)
}

// Submit queues a package.
func (c *Client) Submit(ctx context.Context, p scheduler.Package) (list []scheduler.Status, err error) {
	return list, c.call(ctx, "POST", "/v1/jobs", p, &list)
}

// Job returns a job's status.
func (c *Client) Job(ctx context.Context, id string) (st scheduler.Status, err error) {
	return st, c.call(ctx, "GET", jobPath(id), nil, &st)
}

// WaitJob returns a job's status when it has ended, or as it is after d.
func (c *Client) WaitJob(ctx context.Context, id string, d time.Duration) (st scheduler.Status, err error) {
	path := jobPath(id)
	if path != "" {
		path += "?wait=" + url.QueryEscape(d.String())
	}
	return st, c.call(ctx, "GET", path, nil, &st)
}

// CancelJob ends a job early; the reason is the trail's.
func (c *Client) CancelJob(ctx context.Context, id string) (st scheduler.Status, err error) {
	return st, c.call(ctx, "POST", jobPath(id, "cancel"), nil, &st)
}

func jobPath(id string, more ...string) string {
	if id == "" {
		return ""
	}
	return strings.Join(append([]string{"/v1/jobs", segment(id)}, more...), "/")
}

// Jobs returns the newest jobs that match f.
func (c *Client) Jobs(ctx context.Context, f scheduler.Filter) (list []scheduler.Status, err error) {
	return c.JobPage(ctx, f, time.Time{}, "")
}

// JobLog returns the lines that a job has logged.
func (c *Client) JobLog(ctx context.Context, id string) (lines []scheduler.Line, err error) {
	return lines, c.call(ctx, "GET", jobPath(id, "log"), nil, &lines)
}

// JobLines returns the lines that a job has logged behind the first so many. If
// there are none it waits, at most so long, for the next or for the job's end.
func (c *Client) JobLines(ctx context.Context, id string, after int, wait time.Duration) (part scheduler.LogPart, err error) {
	path := jobPath(id, "lines")
	if path != "" {
		path += fmt.Sprintf("?after=%d", after)
	}
	if wait > 0 {
		path += "&wait=" + url.QueryEscape(wait.String())
	}
	return part, c.call(ctx, "GET", path, nil, &part)
}

// Export writes every node as JSON lines.
func (c *Client) Export(ctx context.Context, w io.Writer) error {
	body, err := c.open(ctx, "GET", "/v1/registry/export", nil)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	if _, err := io.Copy(w, body); err != nil {
		return fmt.Errorf("the export was cut off: %w", err)
	}
	return nil
}

// Import creates the nodes of an export.
func (c *Client) Import(ctx context.Context, r io.Reader, dryRun bool) (rep ImportReport, err error) {
	path := "/v1/registry/import"
	if dryRun {
		path += "?dry_run=1"
	}
	return rep, c.send(ctx, "POST", path, r, &rep)
}

// Check reads the whole registry and says what is wrong in it.
func (c *Client) Check(ctx context.Context) (a registry.Audited, err error) {
	return a, c.call(ctx, "GET", "/v1/registry/check", nil, &a)
}

func call[T any](ctx context.Context, c *Client, method, path string, in any) (*T, error) {
	out := new(T)
	if err := c.call(ctx, method, path, in, out); err != nil {
		return nil, err
	}
	return out, nil
}

// call sends in as JSON and decodes the answer into out.
func (c *Client) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		data, err := encode(in)
		if err != nil {
			return fmt.Errorf("cannot encode the request: %w", err)
		}
		body = bytes.NewReader(data)
	}
	return c.send(ctx, method, path, body, out)
}

func (c *Client) send(ctx context.Context, method, path string, body io.Reader, out any) error {
	answer, err := c.open(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer func() { _ = answer.Close() }()
	// All of it is read, as the connection is of use again only then.
	room := bytes.NewBuffer(make([]byte, 0, 4<<10))
	_, err = room.ReadFrom(io.LimitReader(answer, maxAnswer))
	if err == nil && !plainDecode(room.Bytes(), out) {
		err = json.Unmarshal(room.Bytes(), out)
	}
	if err != nil {
		return fmt.Errorf("cannot read the answer to %s %s: %w", method, path, err)
	}
	return nil
}

// maxAnswer bounds what a client keeps of an answer.
const maxAnswer = 512 << 20

// open sends a request and returns the body of an answer that is no error.
func (c *Client) open(ctx context.Context, method, path string, body io.Reader) (io.ReadCloser, error) {
	resp, err := c.respond(ctx, method, path, body)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// respond sends a request and returns an answer that is no error.
func (c *Client) respond(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	if path == "" {
		return nil, &registry.InvalidError{Field: "reference", Reason: "it is empty: name a node, blob or job"}
	}
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	if c.brief {
		req.Header.Set(Preference, PreferBrief)
	}
	if c.fresh {
		req.Header.Set(HeaderConsistent, "true")
	}
	t := trail.From(ctx)
	for _, h := range [...]struct{ name, text string }{{HeaderTransaction, t.Transaction}, {HeaderSource, t.Source}, {HeaderReason, t.Reason}} {
		if h.text != "" {
			req.Header.Set(h.name, url.PathEscape(h.text))
		}
	}
	// Redirects are not followed and cookies not kept, so the transport is asked
	// itself.
	resp, err := c.http.Transport.RoundTrip(req)
	if err != nil {
		return nil, &url.Error{Op: method[:1] + strings.ToLower(method[1:]), URL: req.URL.Redacted(), Err: err}
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer func() { _ = resp.Body.Close() }()
	e := &Error{Status: resp.StatusCode}
	data, err := io.ReadAll(io.LimitReader(resp.Body, 4*MaxBody))
	if err != nil || json.Unmarshal(data, &e.Problem) != nil || e.Message == "" {
		e.Problem = Problem{Message: fmt.Sprintf("%s %s: %s", method, path, resp.Status), Code: Internal}
	}
	return nil, e
}
