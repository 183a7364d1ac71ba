package api

import (
	"context"
	"fmt"
	"net/http"

	"github.com/vagoth/vagoth/scheduler"
)

// A Client is a Broker for workers that are not in the daemon's process.
var _ scheduler.Broker = (*Client)(nil)

// Next implements scheduler.Broker. It waits as long as w says; the connection
// is idle meanwhile.
func (c *Client) Next(ctx context.Context, w scheduler.Want) (list []scheduler.Lease, err error) {
	return list, c.call(ctx, "POST", "/v1/leases/next", w, &list)
}

// Heartbeat implements scheduler.Broker.
func (c *Client) Heartbeat(ctx context.Context, b scheduler.Beat) (out scheduler.Beaten, err error) {
	return out, c.call(ctx, "POST", "/v1/leases/heartbeat", b, &out)
}

// AddLog implements scheduler.Broker. More than MaxLines are sent in several
// requests.
func (c *Client) AddLog(ctx context.Context, h scheduler.Hold, lines ...string) error {
	for len(lines) > 0 {
		n := min(len(lines), MaxLines)
		if err := c.call(ctx, "POST", "/v1/leases/log", LogRequest{Hold: h, Lines: lines[:n]}, &Empty{}); err != nil {
			return err
		}
		lines = lines[n:]
	}
	return nil
}

// Complete implements scheduler.Broker. If the server could not be asked all
// entries have the same error, and may or may not have been taken: completing
// once more is answered with the status, or with scheduler.ErrStale.
func (c *Client) Complete(ctx context.Context, list ...scheduler.Completion) ([]scheduler.Status, []error) {
	statuses, errs := make([]scheduler.Status, len(list)), make([]error, len(list))
	for from := 0; from < len(list); from += MaxComplete {
		to := min(len(list), from+MaxComplete)
		var out Completed
		err := c.call(ctx, "POST", "/v1/leases/complete", CompleteRequest{Completions: list[from:to]}, &out)
		if err == nil && len(out.Results) != to-from {
			err = fmt.Errorf("the server was told the end of %d attempts and answered %d", to-from, len(out.Results))
		}
		for i := from; i < to; i++ {
			if err != nil {
				errs[i] = err
				continue
			}
			switch r := out.Results[i-from]; {
			case r.Error != nil:
				errs[i] = &Error{Problem: *r.Error, Status: statusOf(r.Error.Code)}
			case r.Status != nil:
				statuses[i] = *r.Status
			case c.brief:
				statuses[i].ID = list[i].Job
			default:
				errs[i] = fmt.Errorf("the server says nothing about the completion of %s", list[i].Job)
			}
		}
	}
	return statuses, errs
}

func statusOf(code string) int {
	if c, ok := codeNamed(code); ok {
		return c.Status
	}
	return http.StatusInternalServerError
}

// HandBack implements scheduler.Broker.
func (c *Client) HandBack(ctx context.Context, h scheduler.Hold, reason string) error {
	return c.call(ctx, "POST", "/v1/leases/return", ReturnRequest{Hold: h, Reason: reason}, &Empty{})
}

// Bearer sends the token with each request that goes over next (nil is the
// default transport of a client).
func Bearer(token string, next http.RoundTripper) http.RoundTripper {
	if next == nil {
		next = defaultTransport()
	}
	return bearer{token, next}
}

type bearer struct {
	token string
	next  http.RoundTripper
}

func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Authorization", "Bearer "+b.token)
	return b.next.RoundTrip(r)
}
