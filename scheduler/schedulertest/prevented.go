package schedulertest

import (
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/vagoth/vagoth/scheduler"
)

// prevented are the mistakes of systems before this one. Each name says what
// must not happen again.
func prevented() []hand {
	return []hand{
		{"prevented/a-job-deleted-when-handed-out-and-lost-with-its-worker", lostWithItsWorker},
		{"prevented/a-package-half-enqueued", halfEnqueued},
		{"prevented/a-failed-dependency-that-blocks-for-ever", blocksForEver},
		{"prevented/enqueued-twice-and-handed-out-twice", enqueuedTwice},
		{"prevented/a-failure-hidden-behind-an-earlier-unfinished-command", hiddenFailure},
		{"prevented/two-workers-on-one-queue", twoWorkers},
		{"prevented/completion-by-a-worker-that-lost-its-lease-or-never-had-one", foreignCompletion},
		{"prevented/one-malformed-parameter-that-poisons-a-queue", poisoned},
		{"prevented/an-unknown-action-silently-ignored", unknownAction},
		{"prevented/a-queue-name-ignored", queueIgnored},
	}
}

func lostWithItsWorker(h *hands) {
	h.submit(job("a", "r-q", "far"))
	h.get("a") // and its worker is never heard of again
	h.want("a=running")
	h.pass(lease + time.Millisecond)
	if l := h.get("a"); l.Attempt != 2 {
		h.t.Errorf("it comes back as attempt %d", l.Attempt)
	}
}

func halfEnqueued(h *hands) {
	if _, err := h.builder.NewPackage(ctx(), scheduler.Package{ID: "p", Jobs: []scheduler.Job{job("a", "r-a", "far"), job("b", "r-b", "far")}}); err != nil {
		h.t.Fatal(err)
	}
	h.mode("r-b", scheduler.Draining) // so that the second cannot be enqueued
	if _, err := h.builder.Enqueue(ctx(), "p"); err == nil {
		h.t.Error("it was enqueued into a queue that takes no jobs")
	}
	h.none("the package was refused as a whole")
	h.mode("r-b", scheduler.Open)
	if _, err := h.builder.Enqueue(ctx(), "p"); err != nil {
		h.t.Fatal(err)
	}
	if list := h.take(scheduler.Want{Max: 10}); len(list) != 2 {
		h.t.Errorf("of two jobs %v are handed out", leased(list))
	}
}

func blocksForEver(h *hands) {
	h.submit(job("a", "r-a", "far"), after(job("b", "r-b", "far"), "a"), after(job("c", "r-c", "far"), "b"))
	h.submit(job("d", "r-b", "far")) // behind b
	h.finish(h.takeFrom("r-a"), "it broke")
	h.want("a=failed", "b=cancelled", "c=cancelled")
	if st := h.status("b"); st.Cause != "a" {
		h.t.Errorf("the cause is not named: %+v", st)
	}
	h.finish(h.get("d"), "")
}

func (h *hands) takeFrom(queue string) scheduler.Lease {
	h.t.Helper()
	list := h.take(scheduler.Want{Queues: []string{queue}})
	if len(list) != 1 {
		h.t.Fatalf("the queue %s hands out %v", queue, leased(list))
	}
	return list[0]
}

func enqueuedTwice(h *hands) {
	if _, err := h.builder.NewPackage(ctx(), scheduler.Package{ID: "p", Jobs: []scheduler.Job{job("a", "r-a", "far")}}); err != nil {
		h.t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if list, err := h.builder.Enqueue(ctx(), "p"); err != nil || len(list) != 1 || list[0].ID != "a" {
				h.t.Errorf("%+v, %v", list, err)
			}
		})
	}
	wg.Wait()
	if st, err := h.queues.Queue(ctx(), "r-a"); err != nil || st.Depth != 1 {
		h.t.Errorf("the queue holds %d jobs, %v", st.Depth, err)
	}
	h.finish(h.get("a"), "")
	h.none("it was enqueued by eight, and is one job")
}

func hiddenFailure(h *hands) {
	if _, err := h.s.Submit(ctx(), scheduler.Package{ID: "p", Jobs: []scheduler.Job{job("a", "r-a", "far"), job("b", "r-b", "far")}}); err != nil {
		h.t.Fatal(err)
	}
	h.takeFrom("r-a") // is not done yet
	if st := h.finish(h.takeFrom("r-b"), "it broke"); st.State != scheduler.Failed {
		h.t.Errorf("%+v", st)
	}
	if st, err := h.builder.Package(ctx(), "p"); err != nil || st.Counts[scheduler.Failed] != 1 || st.Counts[scheduler.Running] != 1 || st.State != scheduler.Queued {
		h.t.Errorf("the package shows %+v, %v", st, err)
	}
	h.want("a=running", "b=failed")
}

func twoWorkers(h *hands) {
	for _, id := range ids("j", 20) {
		h.submit(job(id, "r-q", "far"))
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	out, done := 0, 0
	for range 8 {
		wg.Go(func() {
			for {
				list, err := h.broker.Next(ctx(), scheduler.Want{Max: 5, Wait: scheduler.Span(10 * time.Second)})
				if err != nil || len(list) == 0 {
					if err != nil {
						h.t.Error(err)
					}
					return
				}
				mu.Lock()
				if out += len(list); out > 1 {
					h.t.Errorf("%d jobs of one queue are out", out)
				}
				mu.Unlock()
				time.Sleep(time.Second)
				mu.Lock()
				out -= len(list)
				done += len(list)
				mu.Unlock()
				for _, l := range list {
					if _, errs := h.broker.Complete(ctx(), scheduler.Completion{Hold: l.Hold}); errs[0] != nil {
						h.t.Error(errs[0])
					}
				}
			}
		})
	}
	wg.Wait()
	if done != 20 {
		h.t.Errorf("%d of 20 jobs were done", done)
	}
}

func foreignCompletion(h *hands) {
	h.submit(job("a", "r-q", "far"), job("b", "r-p", "far"))
	list := h.take(scheduler.Want{Max: 2})
	if len(list) != 2 {
		h.t.Fatal(leased(list))
	}
	h.stale("a worker with a lease of another job", scheduler.Hold{Job: list[0].Job, Token: list[1].Token})
	h.pass(lease + time.Millisecond)
	h.stale("a worker that lost its lease", list[0].Hold)
	again := h.takeFrom(list[0].Queue)
	h.stale("a worker that lost its lease to another", list[0].Hold)
	h.finish(again, "")
}

func poisoned(h *hands) {
	_, err := h.s.Submit(ctx(), scheduler.Package{Jobs: []scheduler.Job{with(job("bad", "r-q", "far"), map[string]string{"n": "seven"})}})
	if !errors.Is(err, scheduler.ErrInvalid) || !strings.Contains(err.Error(), `"n"`) {
		h.t.Errorf("a parameter of the wrong type: %v", err)
	}
	// One that only its worker can see is malformed fails alone.
	h.submit(with(job("odd", "r-q", "theirs"), map[string]any{"n": []any{nil, map[string]any{"": -1e300}}}))
	h.submit(job("good", "r-q", "far"))
	if st, err := h.complete(scheduler.Completion{Hold: h.get("odd").Hold, Error: "n is no number", Code: "invalid", Final: true}); err != nil || st.State != scheduler.Failed {
		h.t.Errorf("%+v, %v", st, err)
	}
	h.finish(h.get("good"), "")
}

func unknownAction(h *hands) {
	_, err := h.s.Submit(ctx(), scheduler.Package{Jobs: []scheduler.Job{job("a", "q", "gaet")}})
	if !errors.Is(err, scheduler.ErrInvalid) || !strings.Contains(err.Error(), "gate") {
		h.t.Errorf("an unknown action: %v, want a refusal that says which was meant", err)
	}
	// In a queue of workers outside the worker says so.
	h.submit(job("b", "r-q", "gaet"))
	if st, err := h.complete(scheduler.Completion{Hold: h.get("b").Hold, Error: "no such action", Code: "invalid", Final: true}); err != nil || st.State != scheduler.Failed || st.Code != "invalid" {
		h.t.Errorf("%+v, %v", st, err)
	}
}

func queueIgnored(h *hands) {
	h.submit(job("a", "r-a", "far"), job("b", "r-b", "far"))
	if list := h.take(scheduler.Want{Queues: []string{"r-c"}, Max: 10}); len(list) > 0 {
		h.t.Errorf("the queue r-c hands out %v", leased(list))
	}
	if l := h.takeFrom("r-b"); l.Job != "b" || l.Queue != "r-b" {
		h.t.Errorf("the queue r-b hands out %+v", l)
	}
	_, err := h.s.Submit(ctx(), scheduler.Package{Jobs: []scheduler.Job{job("c", "", "far")}})
	h.wantErr("a job without a queue", err, scheduler.ErrInvalid)
	_, err = h.broker.Next(ctx(), scheduler.Want{Queues: []string{"no such\nname"}})
	h.wantErr("a queue that is no name", err, scheduler.ErrInvalid)
}
