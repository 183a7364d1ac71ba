package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

func lease(n int) scheduler.Lease {
	return scheduler.Lease{Hold: scheduler.Hold{Job: fmt.Sprintf("j%d", n), Token: trail.Token{Epoch: 1, Number: uint64(n)}}, Queue: "storage", Action: "volume", Attempt: 1}
}

// A worker takes jobs, beats, logs, completes and hands back; what it holds no
// more is stale, on the other side of the wire too.
func TestWork(t *testing.T) {
	c := newCluster(t, opts{full: true})
	var b scheduler.Broker = c.Client
	c.fake().offer(lease(1), lease(2), lease(3))
	got := must[[]scheduler.Lease](t)(b.Next(c.ctx, scheduler.Want{Worker: "w1", Queues: []string{"storage"}, Max: 3}))
	if len(got) != 3 || got[1].Token != lease(2).Token || got[1].Job != "j2" {
		t.Fatalf("%+v", got)
	}
	if beaten := must[scheduler.Beaten](t)(b.Heartbeat(c.ctx, scheduler.Beat{Hold: got[0].Hold, Percent: 50, Progress: "half"})); beaten.Cancel != "stop it" {
		t.Errorf("%+v", beaten)
	}
	if err := b.AddLog(c.ctx, got[0].Hold, make([]string, MaxLines+1)...); err != nil || c.fake().last().what != "log j1 1" {
		t.Errorf("%v, %s", err, c.fake().last().what)
	}
	if err := b.HandBack(c.ctx, got[2].Hold, "stopped"); err != nil || c.fake().last().what != "return j3 stopped" {
		t.Errorf("%v, %s", err, c.fake().last().what)
	}
	stale := got[1].Hold
	stale.Token.Number--
	sts, errs := b.Complete(c.ctx,
		scheduler.Completion{Hold: got[0].Hold, Result: doc(t, `{"path":"/dev/x"}`)},
		scheduler.Completion{Hold: stale},
		scheduler.Completion{Hold: got[1].Hold, Error: "no space", Code: "full"})
	if errs[0] != nil || sts[0].State != scheduler.Succeeded || !errors.Is(errs[1], scheduler.ErrStale) || errs[2] != nil || sts[2].Error != "no space" {
		t.Errorf("%+v, %v", sts, errs)
	}
	var e *Error
	if !errors.As(errs[1], &e) || e.Status != http.StatusConflict || e.Code != "stale" {
		t.Errorf("%+v", errs[1])
	}
	if _, err := b.Heartbeat(c.ctx, scheduler.Beat{Hold: got[0].Hold}); !errors.Is(err, scheduler.ErrStale) {
		t.Error(err)
	}
	// More than one request's worth, and none at all.
	many := make([]scheduler.Completion, MaxComplete+1)
	for i := range many {
		many[i].Hold = lease(i).Hold
	}
	if sts, errs := b.Complete(c.ctx, many...); len(sts) != len(many) || !errors.Is(errs[MaxComplete], scheduler.ErrStale) {
		t.Errorf("%d answers", len(sts))
	}
	if sts, errs := b.Complete(c.ctx); len(sts)+len(errs) != 0 {
		t.Errorf("%v %v", sts, errs)
	}
}

// A completion alone is answered alone.
func TestCompleteOne(t *testing.T) {
	c := newCluster(t, opts{full: true})
	c.fake().offer(lease(1))
	must[[]scheduler.Lease](t)(c.Next(c.ctx, scheduler.Want{}))
	for _, r := range []struct {
		body, says string
		status     int
	}{
		{`{"job":"j1","token":{"epoch":1,"number":9}}`, "no such lease", 409},
		{`{"job":"j1","token":{"epoch":1,"number":1},"completions":[{"job":"j1","token":{"epoch":1,"number":1}}]}`, "send one of both", 400},
		{`{"job":"../x","token":{"epoch":1,"number":1}}`, "job", 400},
		{`{}`, "job", 400},
		{`{"completions":[{"job":"j1"},{"job":""}]}`, "completions[1].job", 400},
		{`{"completions":[{"job":"j1","tokn":1}]}`, `did you mean "token"?`, 400},
		{`{"completions":[]}`, "", 200},
		{`{"job":"j1","token":{"epoch":1,"number":1},"result":{"a":1}}`, "", 200},
		{`{"job":"j1","token":{"epoch":1,"number":1},"result":{"a":1}}`, "no such lease", 409},
	} {
		if resp, p := c.request("POST", "/v1/leases/complete", r.body); resp.StatusCode != r.status || !strings.Contains(p.Message, r.says) {
			t.Errorf("%s: %d %s, want %d %s", r.body, resp.StatusCode, p.Message, r.status, r.says)
		}
	}
}

// What no worker can mean is refused.
func TestHostileWants(t *testing.T) {
	c := newCluster(t, opts{full: true})
	for name, w := range map[string]scheduler.Want{
		"worker":  {Worker: "a\nb"},
		"long":    {Worker: strings.Repeat("x", 600)},
		"queue":   {Queues: []string{"a", "b c"}},
		"action":  {Actions: []string{"../x"}},
		"many":    {Queues: make([]string, scheduler.MaxWantQueues+1)},
		"nothing": {Queues: []string{""}},
	} {
		if _, err := c.Next(c.ctx, w); !errors.Is(err, registry.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := c.AddLog(c.ctx, scheduler.Hold{Job: "a b"}, "x"); !errors.Is(err, registry.ErrInvalid) {
		t.Error(err)
	}
	if err := c.HandBack(c.ctx, scheduler.Hold{}, ""); !errors.Is(err, registry.ErrInvalid) {
		t.Error(err)
	}
}

// A worker that goes while it waits holds nothing up, and a job that came for
// it all the same is handed back.
func TestNextEndsWithItsClient(t *testing.T) {
	c := newCluster(t, opts{full: true})
	srv := httptest.NewServer(c.h)
	defer srv.Close()
	remote := NewClient(srv.URL, srv.Client().Transport)
	ctx, cancel := context.WithCancel(c.ctx)
	done := make(chan error, 1)
	go func() {
		_, err := remote.Next(ctx, scheduler.Want{Wait: scheduler.Span(time.Minute)})
		done <- err
	}()
	<-c.fake().entered
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	srv.Close() // returns when the handler has
}

// gone is a scheduler whose worker goes while a job is on its way to it.
type gone struct {
	*full
	leave context.CancelFunc
}

func (g *gone) Next(context.Context, scheduler.Want) ([]scheduler.Lease, error) {
	g.leave()
	g.held["j1"] = lease(1)
	return []scheduler.Lease{lease(1)}, nil
}

func TestJobsOfWorkersThatWentAreHandedBack(t *testing.T) {
	c := newCluster(t, opts{full: true})
	ctx, cancel := context.WithCancel(c.ctx)
	defer cancel()
	f := c.fake()
	c.m.Scheduler = &gone{f, cancel}
	r := httptest.NewRequestWithContext(ctx, "POST", "/v1/leases/next", strings.NewReader(`{"wait":"1m"}`))
	c.h.ServeHTTP(httptest.NewRecorder(), r)
	if got := f.last().what; !strings.HasPrefix(got, "return j1 ") || len(f.held) != 0 {
		t.Errorf("the scheduler was asked last: %q, and %d leases are held", got, len(f.held))
	}
}

// A server that shuts down answers those who wait, and is not ready.
func TestDraining(t *testing.T) {
	drain := make(chan struct{})
	c := newCluster(t, opts{full: true, api: Options{Draining: drain}})
	if h := must[Health](t)(c.Ready(c.ctx)); h.Status != "ready" {
		t.Errorf("%+v", h)
	}
	done := make(chan error, 1)
	go func() {
		list, err := c.Next(c.ctx, scheduler.Want{Wait: scheduler.Span(time.Minute)})
		if len(list) > 0 {
			err = fmt.Errorf("got %+v", list)
		}
		done <- err
	}()
	<-c.fake().entered
	began := time.Now()
	close(drain)
	if err := <-done; err != nil || time.Since(began) > 30*time.Second {
		t.Errorf("the worker was answered after %s: %v", time.Since(began), err)
	}
	_, err := c.Ready(c.ctx)
	var e *Error
	if !errors.As(err, &e) || e.Status != http.StatusServiceUnavailable || !strings.Contains(e.Message, "draining") {
		t.Error(err)
	}
	if h := must[Health](t)(c.Alive(c.ctx)); h.Status != "ok" {
		t.Errorf("%+v", h)
	}
}

// Stores that do not answer make it not ready.
func TestReady(t *testing.T) {
	c := newCluster(t, opts{full: true})
	c.fake().refuse = errors.New("broken")
	if _, err := c.Ready(c.ctx); err == nil || !strings.Contains(err.Error(), "the scheduler does not answer") {
		t.Error(err)
	}
	c.fake().refuse = nil
	if err := c.m.Registry.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Ready(c.ctx); err == nil || !strings.Contains(err.Error(), "the registry does not answer") {
		t.Error(err)
	}
}
