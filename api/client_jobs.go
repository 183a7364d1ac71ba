package api

import (
	"context"
	"fmt"
	"iter"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
)

// SubmitWait queues a package and answers when all of its jobs have ended, or
// as they are after d.
func (c *Client) SubmitWait(ctx context.Context, p scheduler.Package, d time.Duration) (list []scheduler.Status, err error) {
	return list, c.call(ctx, "POST", "/v1/jobs"+waitQuery(d), p, &list)
}

// DoWait queues an action for a node and answers when its job has ended, or as
// it is after d.
func (c *Client) DoWait(ctx context.Context, ref string, req JobRequest, d time.Duration) (scheduler.Status, error) {
	path := nodePath(ref, "jobs")
	if path != "" {
		path += waitQuery(d)
	}
	var list []scheduler.Status
	if err := c.call(ctx, "POST", path, req, &list); err != nil {
		return scheduler.Status{}, err
	}
	if len(list) != 1 {
		return scheduler.Status{}, fmt.Errorf("the server took one job and answered with %d", len(list))
	}
	return list[0], nil
}

func waitQuery(d time.Duration) string {
	if d <= 0 {
		return ""
	}
	return "?wait=" + url.QueryEscape(d.String())
}

// JobPage returns the newest jobs that match f, were submitted at or after
// since if it is set and, if after is set, come behind the job of that ID: the
// last one of the page before. A page holds f.Limit jobs, at most MaxPage.
func (c *Client) JobPage(ctx context.Context, f scheduler.Filter, since time.Time, after string) (list []scheduler.Status, err error) {
	v := filterValues(f)
	if !since.IsZero() {
		v.Set("since", since.Format(time.RFC3339Nano))
	}
	if after != "" {
		v.Set("after", after)
	}
	return list, c.call(ctx, "GET", "/v1/jobs?"+v.Encode(), nil, &list)
}

func filterValues(f scheduler.Filter) url.Values {
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
	return v
}

// AllJobs yields the jobs that match f, the newest first, page by page; f.Limit
// bounds their number. Jobs that are submitted meanwhile are left out.
func (c *Client) AllJobs(ctx context.Context, f scheduler.Filter, since time.Time) iter.Seq2[scheduler.Status, error] {
	return pages(f.Limit, func(after string, limit int) ([]scheduler.Status, error) {
		f.Limit = limit
		return c.JobPage(ctx, f, since, after)
	}, func(st scheduler.Status) string { return st.ID })
}

// pages yields what a list holds, page by page; limit 0 is no limit.
func pages[T any](limit int, page func(after string, limit int) ([]T, error), id func(T) string) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		limited, after := limit > 0, ""
		for {
			size := PageSize
			if limited {
				size = min(size, limit)
			}
			list, err := page(after, size)
			if err != nil {
				yield(*new(T), err)
				return
			}
			for _, v := range list {
				if !yield(v, nil) {
					return
				}
				after = id(v)
			}
			limit -= len(list)
			if len(list) < size || limited && limit <= 0 {
				return
			}
		}
	}
}

// RetryJob gives a job another round of attempts.
func (c *Client) RetryJob(ctx context.Context, id string, o scheduler.RetryOptions) (list []scheduler.Status, err error) {
	return list, c.call(ctx, "POST", jobPath(id, "retry"), o, &list)
}

// SkipJob cancels a parked job and lets its dependents go on.
func (c *Client) SkipJob(ctx context.Context, id string) (st scheduler.Status, err error) {
	return st, c.call(ctx, "POST", jobPath(id, "skip"), nil, &st)
}

// DoneJob marks a parked job as succeeded.
func (c *Client) DoneJob(ctx context.Context, id string, result registry.Document) (st scheduler.Status, err error) {
	return st, c.call(ctx, "POST", jobPath(id, "done"), DoneRequest{Result: result}, &st)
}

// NewPackage makes a package to which jobs are added.
func (c *Client) NewPackage(ctx context.Context, p scheduler.Package) (st scheduler.PackageStatus, err error) {
	if p.Jobs == nil {
		p.Jobs = []scheduler.Job{}
	}
	return st, c.call(ctx, "POST", "/v1/packages", p, &st)
}

// AddJobs adds jobs to a package that is not enqueued yet, and returns their IDs.
func (c *Client) AddJobs(ctx context.Context, id string, jobs ...scheduler.Job) ([]string, error) {
	var out Added
	err := c.call(ctx, "POST", packagePath(id, "jobs"), AddRequest{Jobs: jobs}, &out)
	return out.Jobs, err
}

// Enqueue queues a package, all of it or nothing; with a time d it answers when
// all of its jobs have ended, or as they are after d.
func (c *Client) Enqueue(ctx context.Context, id string, d time.Duration) (list []scheduler.Status, err error) {
	path := packagePath(id, "enqueue")
	if path != "" {
		path += waitQuery(d)
	}
	return list, c.call(ctx, "POST", path, nil, &list)
}

// Package returns a package.
func (c *Client) Package(ctx context.Context, id string) (st scheduler.PackageStatus, err error) {
	return st, c.call(ctx, "GET", packagePath(id), nil, &st)
}

// Packages yields the packages in the states, or all, the newest first, page by
// page; limit 0 is no limit.
func (c *Client) Packages(ctx context.Context, limit int, states ...scheduler.PackageState) iter.Seq2[scheduler.PackageStatus, error] {
	return pages(limit, func(after string, limit int) (list []scheduler.PackageStatus, err error) {
		v := url.Values{"limit": {strconv.Itoa(limit)}}
		for _, st := range states {
			v.Add("state", string(st))
		}
		if after != "" {
			v.Set("after", after)
		}
		return list, c.call(ctx, "GET", "/v1/packages?"+v.Encode(), nil, &list)
	}, func(st scheduler.PackageStatus) string { return st.ID })
}

// CancelPackage cancels all jobs of a package that have not ended; the reason
// is the trail's.
func (c *Client) CancelPackage(ctx context.Context, id string) (st scheduler.PackageStatus, err error) {
	return st, c.call(ctx, "POST", packagePath(id, "cancel"), nil, &st)
}

func packagePath(id string, more ...string) string {
	if id == "" {
		return ""
	}
	return strings.Join(append([]string{"/v1/packages", segment(id)}, more...), "/")
}

// Queues yields the queues that hold jobs, are not open or are configured,
// ordered by name.
func (c *Client) Queues(ctx context.Context) iter.Seq2[scheduler.QueueStatus, error] {
	return pages(0, func(after string, limit int) (list []scheduler.QueueStatus, err error) {
		v := url.Values{"limit": {strconv.Itoa(limit)}}
		if after != "" {
			v.Set("after", after)
		}
		return list, c.call(ctx, "GET", "/v1/queues?"+v.Encode(), nil, &list)
	}, func(st scheduler.QueueStatus) string { return st.Name })
}

// Queue says what stands in a queue.
func (c *Client) Queue(ctx context.Context, name string) (st scheduler.QueueStatus, err error) {
	return st, c.call(ctx, "GET", queuePath(name), nil, &st)
}

// SetQueue pauses (scheduler.Paused), resumes (scheduler.Open) or drains
// (scheduler.Draining) a queue; the reason is the trail's.
func (c *Client) SetQueue(ctx context.Context, name string, m scheduler.QueueMode) (st scheduler.QueueStatus, err error) {
	verb := map[scheduler.QueueMode]string{scheduler.Open: "resume", scheduler.Paused: "pause", scheduler.Draining: "drain"}[m]
	if verb == "" {
		return st, &registry.InvalidError{Field: "mode", Reason: fmt.Sprintf("%.32q is no mode of a queue: there are open, paused and draining", m)}
	}
	return st, c.call(ctx, "POST", queuePath(name, verb), nil, &st)
}

func queuePath(name string, more ...string) string {
	if name == "" {
		return ""
	}
	return strings.Join(append([]string{"/v1/queues", segment(name)}, more...), "/")
}

// Limits returns the limits that are configured or in use.
func (c *Client) Limits(ctx context.Context) (list []scheduler.LimitStatus, err error) {
	return list, c.call(ctx, "GET", "/v1/limits", nil, &list)
}

// Stats returns the figures of the scheduler as a whole.
func (c *Client) Stats(ctx context.Context) (st scheduler.Stats, err error) {
	return st, c.call(ctx, "GET", "/v1/stats", nil, &st)
}

// Alive asks whether the server's process lives. It needs no credentials.
func (c *Client) Alive(ctx context.Context) (h Health, err error) {
	return h, c.call(ctx, "GET", "/healthz", nil, &h)
}

// Ready asks whether the server takes requests. It needs no credentials.
func (c *Client) Ready(ctx context.Context) (h Health, err error) {
	return h, c.call(ctx, "GET", "/readyz", nil, &h)
}
