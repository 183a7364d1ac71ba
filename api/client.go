package api

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"strconv"
	"strings"

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
	base string
	http *http.Client
}

// NewClient returns a client of the handler at base, such as
// "https://manager:8443", reached over transport (nil is the default one).
func NewClient(base string, transport http.RoundTripper) *Client {
	return &Client{base: strings.TrimSuffix(base, "/"), http: &http.Client{Transport: transport}}
}

func nodePath(ref string, more ...string) string {
	p := "/v1/nodes/" + url.PathEscape(ref)
	for _, m := range more {
		p += "/" + url.PathEscape(m)
	}
	return p
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
				if !yield(it, nil) {
					return
				}
			}
			left -= len(page.Items)
			if page.Next == "" || limited && left <= 0 {
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
	return it, c.call(ctx, "GET", nodePath(ref), nil, &it)
}

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
	return io.ReadAll(io.LimitReader(body, MaxBody+1))
}

// PutBlob stores a blob of a node.
func (c *Client) PutBlob(ctx context.Context, ref, key string, data []byte) (*registry.Node, error) {
	var n registry.Node
	return &n, c.send(ctx, "PUT", nodePath(ref, "blobs", key), bytes.NewReader(data), &n)
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

// JobError is the error of a job that ended otherwise than succeeded, with the
// code that the server gave it, or nil.
func JobError(st scheduler.Status) error {
	err := st.Err()
	if err == nil || st.Code == "" {
		return err
	}
	return &Error{Problem: Problem{Message: err.Error(), Code: st.Code, Trail: st.Trail}}
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
	return st, c.call(ctx, "GET", "/v1/jobs/"+url.PathEscape(id), nil, &st)
}

// Jobs returns the newest jobs that match f.
func (c *Client) Jobs(ctx context.Context, f scheduler.Filter) (list []scheduler.Status, err error) {
	v := url.Values{}
	for name, text := range map[string]string{"queue": f.Queue, "action": f.Action, "package": f.Package} {
		if text != "" {
			v.Set(name, text)
		}
	}
	for _, st := range f.States {
		v.Add("state", string(st))
	}
	if f.Limit > 0 {
		v.Set("limit", strconv.Itoa(f.Limit))
	}
	return list, c.call(ctx, "GET", "/v1/jobs?"+v.Encode(), nil, &list)
}

// JobLog returns the lines that a job has logged.
func (c *Client) JobLog(ctx context.Context, id string) (lines []scheduler.Line, err error) {
	return lines, c.call(ctx, "GET", "/v1/jobs/"+url.PathEscape(id)+"/log", nil, &lines)
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
		data, err := json.Marshal(in)
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
	if err := json.NewDecoder(answer).Decode(out); err != nil {
		return fmt.Errorf("cannot read the answer to %s %s: %w", method, path, err)
	}
	return nil
}

// open sends a request and returns the body of an answer that is no error.
func (c *Client) open(ctx context.Context, method, path string, body io.Reader) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	t := trail.From(ctx)
	for header, text := range map[string]string{HeaderTransaction: t.Transaction, HeaderSource: t.Source, HeaderReason: t.Reason} {
		if text != "" {
			req.Header.Set(header, url.PathEscape(text))
		}
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode < 300 {
		return resp.Body, nil
	}
	defer func() { _ = resp.Body.Close() }()
	e := &Error{Status: resp.StatusCode}
	data, err := io.ReadAll(io.LimitReader(resp.Body, 4*MaxBody))
	if err != nil || json.Unmarshal(data, &e.Problem) != nil || e.Message == "" {
		e.Problem = Problem{Message: fmt.Sprintf("%s %s: %s", method, path, resp.Status), Code: Internal}
	}
	return nil, e
}
