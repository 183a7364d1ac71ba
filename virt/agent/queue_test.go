package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt/mistify"
)

func answerSame(r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	return &mistify.GuestResponse{Guest: r.Guest}, nil
}

// The jobs of one guest run one at a time, in order; guests do not wait for
// each other; a full queue refuses.
func TestQueue(t *testing.T) {
	cfg := testConfig()
	cfg.QueueJobs, cfg.MaxJobs = 5, 8
	h := newHost(t, hostOptions{cfg: &cfg})
	h.create(vm1)
	h.create(ct1)
	block := make(chan struct{})
	var at, most atomic.Int32
	var mu sync.Mutex
	var order []string
	h.sub.onGuest(func(ctx context.Context, _ string, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
		if r.Guest.ID != vm1 {
			return answerSame(r)
		}
		most.Store(max(most.Load(), at.Add(1)))
		defer at.Add(-1)
		select {
		case <-block:
		case <-ctx.Done():
		}
		mu.Lock()
		order = append(order, trail.From(ctx).Job)
		mu.Unlock()
		return answerSame(r)
	})
	var ids []string
	for range 5 {
		ids = append(ids, h.want(202, "POST", "/guests/"+vm1+"/reboot", "").job())
	}
	a := h.want(429, "POST", "/guests/"+vm1+"/reboot", "")
	if a.header.Get("Retry-After") == "" || !strings.Contains(a.body, `"kind":"too_many"`) {
		t.Errorf("%v %s", a.header, a.body)
	}
	h.until("the first runs", func() bool { return at.Load() == 1 })
	if j := h.ended(h.want(202, "POST", "/guests/"+ct1+"/reboot", "").job()); j.Status != mistify.JobComplete {
		t.Errorf("another guest: %+v", j)
	}
	for i := range 3 { // five wait, and eight may
		h.agent.store.mu.Lock()
		h.agent.store.open++
		h.agent.store.mu.Unlock()
		if i == 2 {
			h.want(429, "POST", "/guests/"+ct1+"/reboot", "")
		}
	}
	h.agent.store.mu.Lock()
	h.agent.store.open -= 3
	h.agent.store.mu.Unlock()
	if j := h.agent.store.job(ids[0]); j.Status != mistify.JobRunning {
		t.Errorf("%+v", j)
	}
	if j := h.agent.store.job(ids[1]); j.Status != mistify.JobQueued {
		t.Errorf("%+v", j)
	}
	begin := time.Now()
	if a := h.want(200, "GET", "/jobs/"+ids[4]+"?wait=50ms", ""); !strings.Contains(a.body, `"Status":"Queued"`) || time.Since(begin) < 50*time.Millisecond {
		t.Errorf("%s after %v", a.body, time.Since(begin))
	}
	close(block)
	h.ended(ids[4])
	if mu.Lock(); !slices.Equal(order, ids) || most.Load() != 1 {
		t.Errorf("order %v, want %v, at once %d", order, ids, most.Load())
	}
	mu.Unlock()
}

// After a delete the guest, its runner and its queue are gone.
func TestDeleteEndsQueue(t *testing.T) {
	h := newHost(t, hostOptions{})
	h.create(vm1)
	block := make(chan struct{})
	h.sub.onGuest(func(ctx context.Context, _ string, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
		select {
		case <-block:
		case <-ctx.Done():
		}
		return answerSame(r)
	})
	del := h.want(202, "DELETE", "/guests/"+vm1, "").job()
	late := h.want(202, "POST", "/guests/"+vm1+"/start", "").job()
	close(block)
	if j := h.ended(del); j.Status != mistify.JobComplete {
		t.Errorf("%+v", j)
	}
	if j := h.ended(late); j.Status != mistify.JobError || !strings.Contains(j.Message, "deleted") {
		t.Errorf("%+v", j)
	}
	for _, c := range h.sub.seen() {
		if strings.Contains(c, "Start") {
			t.Errorf("a job of a deleted guest ran")
		}
	}
	h.until("the runner is gone", func() bool {
		h.agent.mu.Lock()
		defer h.agent.mu.Unlock()
		return len(h.agent.runners) == 0
	})
	h.create(vm1) // its id is free again
	// A delete that fails deletes nothing.
	h.sub.onGuest(func(context.Context, string, *mistify.GuestRequest) (*mistify.GuestResponse, error) {
		return nil, errNo
	})
	h.ended(h.want(202, "DELETE", "/guests/"+vm1, "").job())
	h.want(200, "GET", "/guests/"+vm1, "")
}

// threeStages is a host whose restart has three.
func threeStages(t *testing.T, data string) (*host, Config) {
	cfg := testConfig()
	cfg.MaxRetries, cfg.MaxRetryWait = 3, 10*time.Millisecond
	cfg.Actions["restart"] = ActionConfig{Stages: []Stage{
		{Service: "test", Method: "Test.Start", Args: map[string]string{"n": "1"}}, {Service: "test", Method: "Test.Reboot"}, {Service: "test", Method: "Test.Shutdown"},
	}}
	return newHost(t, hostOptions{cfg: &cfg, data: data}), cfg
}

// A pipeline passes the guest on, has it on disk after each stage, and stops at
// the first error.
func TestPipeline(t *testing.T) {
	h, _ := threeStages(t, "")
	h.create(vm1)
	fail := false
	h.sub.onGuest(func(_ context.Context, method string, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
		stored, err := h.agent.store.guest(vm1).decode()
		if err != nil {
			return nil, err
		}
		if stored.VNC != r.Guest.VNC {
			return nil, fmt.Errorf("%s is given %d, and %d is stored", method, r.Guest.VNC, stored.VNC)
		}
		if (r.Args["n"] == "1") != (method == "Test.Start") || r.Action != "restart" {
			return nil, fmt.Errorf("args %v, action %s", r.Args, r.Action)
		}
		if method == "Test.Reboot" && fail {
			return nil, errNo
		}
		r.Guest.VNC++
		return &mistify.GuestResponse{Guest: r.Guest, Message: method}, nil
	})
	if j := h.ended(h.want(202, "POST", "/guests/"+vm1+"/restart", "").job()); j.Status != mistify.JobComplete || j.Message != "Test.Shutdown" || j.Stage != "" {
		t.Errorf("%+v", j)
	}
	if a := h.want(200, "GET", "/guests/"+vm1, ""); !strings.Contains(a.body, `"vnc":3`) {
		t.Errorf("%s", a.body)
	}
	fail = true
	if j := h.ended(h.want(202, "POST", "/guests/"+vm1+"/restart", "").job()); j.Status != mistify.JobError || j.Stage != "2/3 Test.Reboot of test" {
		t.Errorf("%+v", j)
	}
	if a := h.want(200, "GET", "/guests/"+vm1, ""); !strings.Contains(a.body, `"vnc":4`) {
		t.Errorf("what the first stage did is not kept: %s", a.body)
	}
	if n := strings.Count(strings.Join(h.sub.seen(), " "), "Shutdown"); n != 1 {
		t.Errorf("the third stage ran %d times", n)
	}
}

// A sub-agent can ask to be asked again, but not for ever.
func TestRetry(t *testing.T) {
	h, _ := threeStages(t, "")
	h.create(vm1)
	var asked atomic.Int32
	var attempts sync.Map
	again := int32(2)
	h.sub.onGuest(func(ctx context.Context, method string, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
		if method == "Test.Reboot" {
			if _, twice := attempts.LoadOrStore(trail.From(ctx).Attempt, true); twice {
				return nil, fmt.Errorf("attempt %d is made twice", trail.From(ctx).Attempt)
			}
			if asked.Add(1) <= again {
				return &mistify.GuestResponse{Retry: 3600, Message: "not yet"}, nil
			}
		}
		return answerSame(r)
	})
	if j := h.ended(h.want(202, "POST", "/guests/"+vm1+"/restart", "").job()); j.Status != mistify.JobComplete || asked.Load() != 3 || j.Attempt != 3 {
		t.Errorf("asked %d times: %+v", asked.Load(), j)
	}
	asked.Store(0)
	attempts.Clear()
	again = 1000
	if j := h.ended(h.want(202, "POST", "/guests/"+vm1+"/restart", "").job()); j.Status != mistify.JobError || asked.Load() != 4 || !strings.Contains(j.Message, "not yet") {
		t.Errorf("asked %d times: %+v", asked.Load(), j)
	}
}

// What a sub-agent asks to be left alone for is waited for, up to max_retry_wait;
// an agent that is being stopped does not wait for it.
func TestRetryWaits(t *testing.T) {
	now := time.Date(2024, 2, 29, 12, 0, 0, 0, time.UTC)
	for asked, want := range map[int]time.Duration{7: 7 * time.Second, 3600: 5 * time.Minute} {
		h := newHost(t, hostOptions{deps: Deps{Now: func() time.Time { return now }}})
		h.create(vm1)
		h.sub.onGuest(func(_ context.Context, _ string, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
			return &mistify.GuestResponse{Guest: r.Guest, Retry: asked, Message: "not yet"}, nil
		})
		id := h.want(202, "POST", "/guests/"+vm1+"/restart", "").job()
		h.until("it waits", func() bool { return h.agent.store.job(id).Attempt == 2 })
		if st := h.agent.store.job(id); st.Status != mistify.JobQueued || st.RetryAt != now.Add(want).UnixMilli() {
			t.Errorf("asked for %d s: %+v", asked, st)
		}
		h.stop()
		if n := strings.Count(strings.Join(h.sub.seen(), " "), "Restart"); n != 1 {
			t.Errorf("asked for %d s, and asked again %d times at once", asked, n-1)
		}
	}
}

// max_pending bounds the calls to a service: the jobs of other guests wait, and
// show that they do.
func TestMaxPending(t *testing.T) {
	cfg := testConfig()
	cfg.Services["test"] = ServiceConfig{MaxPending: 3}
	h := newHost(t, hostOptions{cfg: &cfg})
	var at, most atomic.Int32
	full, free := make(chan struct{}), make(chan struct{})
	h.sub.onGuest(func(_ context.Context, _ string, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
		n := at.Add(1)
		defer at.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		if n == 3 {
			select {
			case full <- struct{}{}:
			case <-free:
			}
		}
		<-free
		return answerSame(r)
	})
	var jobs []string
	for n := range 20 {
		jobs = append(jobs, h.want(202, "POST", "/guests", `{"id":"`+uuidOf(n)+`"}`).job())
	}
	<-full
	running := 0
	for _, id := range jobs {
		if h.agent.store.job(id).Status == mistify.JobRunning {
			running++
		}
	}
	if running != 3 {
		t.Errorf("%d jobs run at once", running)
	}
	close(free)
	for _, id := range jobs {
		if j := h.ended(id); j.Status != mistify.JobComplete {
			t.Errorf("%+v", j)
		}
	}
	if n := most.Load(); n != 3 {
		t.Errorf("%d calls at once", n)
	}
	if n := len(h.agent.services["test"].places); n != 0 {
		t.Errorf("%d places are still taken", n)
	}
}

// Somebody may change metadata while a stage runs, and the stage too.
func TestMetadataMeets(t *testing.T) {
	h := newHost(t, hostOptions{})
	h.create(vm1) // with a = 1
	h.sub.onGuest(func(_ context.Context, _ string, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
		h.want(200, "PATCH", "/guests/"+vm1+"/metadata", `{"mine":"yes"}`)
		if r.Action == "start" {
			delete(r.Guest.Metadata, "a")
			r.Guest.Metadata["theirs"] = "too"
		}
		return answerSame(r)
	})
	h.ended(h.want(202, "POST", "/guests/"+vm1+"/reboot", "").job())
	h.want(200, "PATCH", "/guests/"+vm1+"/metadata", `{"mine":null}`)
	h.ended(h.want(202, "POST", "/guests/"+vm1+"/start", "").job())
	if a := h.want(200, "GET", "/guests/"+vm1+"/metadata", ""); a.body != `{"mine":"yes","theirs":"too"}`+"\n" {
		t.Errorf("%s", a.body)
	}
}

// The newest ended jobs are kept, and all that have not ended, over restarts.
func TestKeepJobs(t *testing.T) {
	cfg := testConfig()
	cfg.KeepJobs = 3
	data := t.TempDir()
	h := newHost(t, hostOptions{cfg: &cfg, data: data})
	block := make(chan struct{})
	h.sub.onGuest(func(ctx context.Context, _ string, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
		if r.Guest.ID == ct1 {
			select {
			case <-block:
			case <-ctx.Done():
			}
		}
		return answerSame(r)
	})
	old := h.want(202, "POST", "/guests", `{"id":"`+ct1+`"}`).job()
	h.create(vm1)
	var ids []string
	for range 6 {
		ids = append(ids, h.want(202, "POST", "/guests/"+vm1+"/reboot", "").job())
		h.ended(ids[len(ids)-1])
	}
	look := func(h *host) {
		t.Helper()
		for i, id := range ids {
			want := 404
			if i >= 3 {
				want = 200
			}
			h.want(want, "GET", "/jobs/"+id, "")
		}
		h.want(200, "GET", "/jobs/"+old, "")
	}
	look(h)
	close(block)
	h.until("it has ended", func() bool { return h.agent.store.job(old).Status.Ended() })
	h.want(404, "GET", "/jobs/"+ids[3], "") // the one that ended last of all is among the newest
	ids = ids[1:]
	look(h)
	h.stop()
	h = newHost(t, hostOptions{cfg: &cfg, data: data})
	look(h)
}
