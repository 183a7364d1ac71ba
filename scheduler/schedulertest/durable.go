package schedulertest

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// Durable runs what a scheduler that keeps its jobs in a directory must pass
// beside Leased. The package's TestMain must call Main.
func Durable(t *testing.T, open Opener) {
	t.Helper()
	Kept(t, open)
	Killed(t, open)
	t.Run("lock", func(t *testing.T) { locked(t, open) })
	t.Run("damage", func(t *testing.T) { damage(t, open) })
	t.Run("full-disk", func(t *testing.T) { fullDisk(t, open) })
	t.Run("power-cut", func(t *testing.T) { powerCuts(t, open) })
}

// Kept is Durable without Killed and what concerns the files of the directory: for a scheduler
// that keeps its jobs elsewhere. For its opener the directory stands for a store, and
// a copy of the directory for the store as it was when the copy was made.
func Kept(t *testing.T, open Opener) {
	t.Helper()
	for _, how := range []string{"closed", "killed"} {
		for _, c := range durables() {
			t.Run(c.name+"/"+how, func(t *testing.T) {
				inHands(t, open, standard(), func(h *hands) { c.fn(h, func() { h.again(how) }) })
			})
		}
	}
	t.Run("tokens/restored", func(t *testing.T) { inHands(t, open, standard(), restored) })
	t.Run("history-pruned", func(t *testing.T) {
		s := standard()
		s.HistoryCount, s.HistoryAge = 20, time.Hour
		inHands(t, open, s, historyPruned)
	})
	t.Run("machine-reopened", func(t *testing.T) { machine(t, open, true) })
	t.Run("many", func(t *testing.T) { many(t, open) })
	t.Run("storm", func(t *testing.T) { storm(t, open) })
}

// Killed kills processes that have the scheduler open.
func Killed(t *testing.T, open Opener) {
	t.Helper()
	t.Run("kill", func(t *testing.T) { kills(t, open) })
}

// again opens the scheduler again: after Close, or as it would be found had its
// process been killed now.
func (h *hands) again(how string) {
	h.t.Helper()
	synctest.Wait()
	if how == "killed" {
		h.openAt(h.backup())
		return
	}
	h.reopen()
	*h = *newHands(h.bench)
}

// backup copies the store as it is now.
func (h *hands) backup() string {
	h.t.Helper()
	copied := h.t.TempDir()
	if err := os.CopyFS(copied, os.DirFS(h.deps.Data)); err != nil {
		h.t.Fatal(err)
	}
	return copied
}

// openAt opens another store instead of the one that is open.
func (h *hands) openAt(data string) {
	h.t.Helper()
	h.shut()
	h.deps.Data = data
	h.s = h.opener(h.t, h.deps)
	h.work(scheduler.RunOptions{})
	synctest.Wait()
	*h = *newHands(h.bench)
}

// closedFor lets time pass while nobody has the store open.
func (h *hands) closedFor(d time.Duration) {
	h.t.Helper()
	h.shut()
	time.Sleep(d)
	h.s = h.opener(h.t, h.deps)
	h.work(scheduler.RunOptions{})
	synctest.Wait()
	*h = *newHands(h.bench)
}

type durableCase struct {
	name string
	fn   func(h *hands, again func())
}

func durables() []durableCase {
	return []durableCase{
		{"jobs", keepsJobs},
		{"order", keepsOrder},
		{"ends", keepsEnds},
		{"log", keepsLog},
		{"dependencies", keepsDependencies},
		{"packages", keepsPackages},
		{"queues", keepsQueues},
		{"keys", keepsKeys},
		{"parked", keepsParked},
		{"backoff", keepsBackoff},
		{"cancel", keepsCancel},
		{"tokens", tokensGrow},
		{"lease/in-process", inProcessAtOnce},
		{"lease/outside", outsideFull},
		{"lease/unrecorded", outsideUnrecorded},
		{"lease/identity", keepsIdentity},
		{"lease/limits", keepsSlots},
		{"complete/repeat", keepsAnswers},
		{"expires-meanwhile", expiresMeanwhile},
		{"run/submitted", runSubmitted},
	}
}

// stable is what a job keeps while it only waits, is parked or has ended.
func stable(st scheduler.Status) string {
	return fmt.Sprintf("%+v package %s state %s attempt %d failed %d lost %d token %s result %s error %q code %q cause %s attempts %+v at %s %s %s %s",
		st.Job, st.Package, st.State, st.Attempt, st.Failed, st.Lost, st.Token, st.Result, st.Error, st.Code, st.Cause, st.Attempts,
		st.SubmittedAt.UTC(), st.StartedAt.UTC(), st.EndedAt.UTC(), st.ParkedAt.UTC())
}

// keepsJobs compares every field of jobs of every kind.
func keepsJobs(h *hands, again func()) {
	full := with(job("full", "r-full", "far"), map[string]int{"n": 7})
	full.Timeout, full.Expires, full.Limits, full.Key = scheduler.Span(time.Minute), time.Now().Add(time.Hour), []string{"one", "host:h1"}, "key"
	full.Retry = scheduler.Retry{Attempts: 3, Backoff: scheduler.Span(time.Second), Max: scheduler.Span(time.Hour), Jitter: 0.5, Park: true}
	full.KeepQueued, full.Urgent = true, true
	full.After = []scheduler.Dependency{{ID: "dep", Accept: []scheduler.State{scheduler.Failed, scheduler.Succeeded}}}
	h.submitAs(trail.With(ctx(), trail.Trail{Transaction: "t-1", Source: "ann", Reason: "because"}), job("dep", "r-dep", "far"), full)
	h.submit(job("good", "q", "ok"), job("bad", "q2", "fail"), after(job("off", "q3", "ok"), "bad"), parks(job("parked", "q4", "fail")))
	h.submit(job("lost", "r-lost", "far"))
	h.get2("r-lost", "lost")
	h.pass(lease + time.Millisecond)
	h.submit(job("any", "r-any", "nobody-knows-it"))
	h.want("good=succeeded", "bad=failed", "off=cancelled", "parked=parked", "lost=waiting")
	names := []string{"dep", "full", "good", "bad", "off", "parked", "any"}
	before := map[string]string{}
	for _, id := range names {
		before[id] = stable(h.status(id))
	}
	lost := h.status("lost")
	for range 2 {
		again()
		for _, id := range names {
			if got := stable(h.status(id)); got != before[id] {
				h.t.Errorf("job %s came back as\n%s\nit was\n%s", id, got, before[id])
			}
		}
		if st := h.status("lost"); st.State != scheduler.Waiting || st.Attempt < lost.Attempt || st.Lost < lost.Lost {
			h.t.Errorf("job lost came back as %+v", st)
		}
		h.pass(time.Minute)
	}
	var listed []string
	for st, err := range h.s.List(ctx(), scheduler.Filter{}) {
		if err != nil {
			h.t.Fatal(err)
		}
		listed = append(listed, st.ID)
	}
	if want := []string{"any", "lost", "parked", "off", "bad", "good", "full", "dep"}; !slices.Equal(listed, want) {
		h.t.Errorf("listed are %v, want %v", listed, want)
	}
}

func (h *hands) get2(queue, id string) scheduler.Lease {
	h.t.Helper()
	l := h.takeFrom(queue)
	if l.Job != id {
		h.t.Fatalf("the queue %s hands out %s, want %s", queue, l.Job, id)
	}
	return l
}

func keepsOrder(h *hands, again func()) {
	names := ids("j", 6)
	for _, id := range names[:3] {
		h.submit(job(id, "r-q", "far"))
	}
	again()
	for _, id := range names[3:] {
		h.submit(job(id, "r-q", "far"))
	}
	u := job("u", "r-q", "far")
	u.Urgent = true
	h.submit(u)
	h.submit(parks(job("p", "r-p", "far")))
	h.finish(h.get2("r-p", "p"), "it broke")
	h.submit(job("p2", "r-p", "far"))
	if _, err := h.op.Retry(ctx(), "p", scheduler.RetryOptions{}); err != nil {
		h.t.Fatal(err)
	}
	again()
	for _, id := range append([]string{"u"}, names...) {
		h.finish(h.get2("r-q", id), "")
		again()
	}
	h.finish(h.get2("r-p", "p"), "")
	h.finish(h.get2("r-p", "p2"), "")
}

// keepsEnds: what was told to have ended has ended.
func keepsEnds(h *hands, again func()) {
	h.submit(job("a", "r-a", "far"), after(job("d", "r-d", "far"), "a"), job("in", "q", "gate"))
	h.finish(h.get("a"), "")
	again()
	h.want("a=succeeded", "d=waiting", "in=running")
	h.open("in", nil)
	if st, err := h.s.Wait(ctx(), "in"); err != nil || st.State != scheduler.Succeeded {
		h.t.Fatal(st, err)
	}
	again()
	h.want("in=succeeded")
	l := h.get("d")
	if err := h.op.Cancel(as("ann", ""), "d", "not needed"); err != nil {
		h.t.Fatal(err)
	}
	h.finish(l, "stopped")
	again()
	h.want("d=cancelled")
	h.none("all have ended")
	if st := h.status("d"); !strings.Contains(st.Error, "not needed") {
		h.t.Errorf("%+v", st)
	}
}

// keepsLog: the lines of an attempt are kept when it has ended.
func keepsLog(h *hands, again func()) {
	h.submit(retries(job("a", "r-a", "far"), 2, time.Second))
	l := h.get("a")
	if err := h.broker.AddLog(ctx(), l.Hold, "one", "two"); err != nil {
		h.t.Fatal(err)
	}
	h.finish(l, "it broke")
	h.submit(job("talk", "q", "talk"))
	h.open("talk", nil)
	h.want("talk=succeeded")
	before, err := h.s.Log(ctx(), "a")
	if err != nil || len(before) < 2 {
		h.t.Fatal(before, err)
	}
	again()
	lines, err := h.s.Log(ctx(), "a")
	if err != nil || fmt.Sprint(lines) != fmt.Sprint(before) && !slices.EqualFunc(lines, before, sameLine) {
		h.t.Errorf("its log came back as %+v, %v; was %+v", lines, err, before)
	}
	if lines, err := h.s.Log(ctx(), "talk"); err != nil || len(lines) != 2 || lines[1].Text != "two" {
		h.t.Errorf("the log of talk: %+v, %v", lines, err)
	}
	if st := h.status("talk"); st.Result.String() != `{"answer":42}` || st.Progress != "nearly" {
		h.t.Errorf("talk came back as %+v", st)
	}
}

func sameLine(a, b scheduler.Line) bool {
	return a.At.Equal(b.At) && a.Attempt == b.Attempt && a.Text == b.Text
}

func keepsDependencies(h *hands, again func()) {
	h.submit(job("a", "r-a", "far"), job("b", "r-b", "far"), parks(job("p", "r-p", "far")), after(job("d", "r-d", "far"), "a", "b", "p"))
	h.finish(h.get2("r-a", "a"), "")
	h.finish(h.get2("r-p", "p"), "it broke")
	again()
	h.want("d=waiting", "p=parked")
	if _, err := h.op.Skip(ctx(), "p"); err != nil {
		h.t.Fatal(err)
	}
	again()
	h.want("d=waiting", "p=cancelled")
	h.wantWaiting("d", "b")
	h.submit(after(job("late", "r-late", "far"), "a", "b")) // a has ended before the store was opened
	h.finish(h.get2("r-b", "b"), "")
	again()
	h.finish(h.get2("r-d", "d"), "it broke")
	h.finish(h.get2("r-late", "late"), "")
	again()
	h.submit(after(job("on-failed", "r-x", "far"), "d"))
	h.want("on-failed=cancelled")
	if got, err := h.op.Retry(ctx(), "d", scheduler.RetryOptions{WithDependents: true}); err != nil || len(got) != 2 {
		h.t.Errorf("brought back after it was opened again: %+v, %v", got, err)
	}
	again()
	h.finish(h.get2("r-d", "d"), "")
	h.finish(h.get2("r-x", "on-failed"), "")
}

func keepsPackages(h *hands, again func()) {
	if _, err := h.builder.NewPackage(as("ann", "because"), scheduler.Package{ID: "p", Jobs: []scheduler.Job{job("a", "r-a", "far")}}); err != nil {
		h.t.Fatal(err)
	}
	again()
	got, err := h.builder.AddJobs(ctx(), "p", after(job("", "r-b", "far"), "a"))
	if err != nil {
		h.t.Fatal(err)
	}
	before, err := h.builder.Package(ctx(), "p")
	if err != nil {
		h.t.Fatal(err)
	}
	again()
	if st, err := h.builder.Package(ctx(), "p"); err != nil || st.State != scheduler.Building || !slices.Equal(st.Jobs, before.Jobs) || !st.ExpiresAt.Equal(before.ExpiresAt) || st.Trail != before.Trail {
		h.t.Errorf("the package came back as %+v, %v; was %+v", st, err, before)
	}
	h.none("it is not enqueued")
	for range 2 {
		list, err := h.builder.Enqueue(ctx(), "p")
		if err != nil || len(list) != 2 || list[0].ID != "a" || list[1].ID != got[0] {
			h.t.Fatalf("enqueued: %+v, %v", list, err)
		}
		again()
	}
	h.finish(h.get2("r-a", "a"), "")
	h.finish(h.get2("r-b", got[0]), "")
	again()
	if st, err := h.builder.Package(ctx(), "p"); err != nil || st.State != scheduler.Ended || st.Counts[scheduler.Succeeded] != 2 {
		h.t.Errorf("at the end: %+v, %v", st, err)
	}
	if list, err := h.builder.Enqueue(ctx(), "p"); err != nil || len(list) != 2 || list[1].State != scheduler.Succeeded {
		h.t.Errorf("enqueued at the end: %+v, %v", list, err)
	}
	h.none("it was done")
}

func keepsQueues(h *hands, again func()) {
	h.mode("r-q", scheduler.Paused)
	h.mode("r-d", scheduler.Draining)
	h.mode("r-shut", scheduler.Open) // what an operator says counts more than the configuration
	h.submit(job("a", "r-q", "far"), job("s", "r-shut", "far"))
	for range 2 {
		again()
		if st, err := h.queues.Queue(ctx(), "r-q"); err != nil || st.Mode != scheduler.Paused || !strings.Contains(st.Reason, "the disk is full") {
			h.t.Errorf("a paused queue came back as %+v, %v", st, err)
		}
		if st, err := h.queues.Queue(ctx(), "r-d"); err != nil || st.Mode != scheduler.Draining {
			h.t.Errorf("a draining queue came back as %+v, %v", st, err)
		}
	}
	h.finish(h.get("s"), "")
	h.mode("r-q", scheduler.Open)
	again()
	h.finish(h.get("a"), "")
}

func keepsKeys(h *hands, again func()) {
	j := with(job("", "q", "ok"), map[string]int{"n": 1})
	j.Key = "k"
	submit := func(who string) string {
		h.t.Helper()
		list, err := h.s.Submit(as(who, ""), scheduler.Package{Jobs: []scheduler.Job{j}})
		if err != nil {
			h.t.Fatal(err)
		}
		synctest.Wait()
		return list[0].ID
	}
	first := submit("ann")
	for range 2 {
		again()
		h.pass(time.Hour)
		if id := submit("ann"); id != first {
			h.t.Errorf("the same key gives %s, want %s", id, first)
		}
	}
	other := j
	other.Params = scheduler.MustParams(map[string]int{"n": 2})
	_, err := h.s.Submit(as("ann", ""), scheduler.Package{Jobs: []scheduler.Job{other}})
	h.wantErr("other content", err, scheduler.ErrConflict)
	if id := submit("bob"); id == first {
		h.t.Error("another source gets the job of ann")
	}
}

func keepsParked(h *hands, again func()) {
	h.submit(parks(job("a", "r-q", "far")), after(job("d", "r-d", "far"), "a"))
	h.breaks("a")
	at := h.status("a").ParkedAt
	for range 3 {
		h.pass(2 * 24 * time.Hour)
		again()
		if st := h.status("a"); st.State != scheduler.Parked || !st.ParkedAt.Equal(at) {
			h.t.Fatalf("it came back as %+v", st)
		}
	}
	h.closedFor(25 * time.Hour)
	h.pass(time.Second)
	h.want("a=failed", "d=cancelled")
}

func keepsBackoff(h *hands, again func()) {
	h.submit(retries(job("a", "r-q", "far"), 3, time.Hour))
	h.submit(job("b", "r-q", "far"))
	h.breaks("a")
	h.pass(30 * time.Minute)
	again()
	if st := h.status("a"); st.Failed != 1 || !strings.Contains(st.Error, "it broke") {
		h.t.Errorf("it came back as %+v", st)
	}
	h.pass(30*time.Minute - time.Second)
	h.none("a is in backoff and holds its queue")
	h.pass(time.Second + time.Millisecond)
	h.breaks("a")
	again()
	h.pass(2*time.Hour + time.Second)
	if st := h.breaks("a"); st.State != scheduler.Failed || st.Failed != 3 {
		h.t.Errorf("after its third failure: %+v", st)
	}
}

// keepsCancel: who cancelled a job that runs outside was told that this is
// known.
func keepsCancel(h *hands, again func()) {
	h.submit(job("a", "r-q", "far"))
	l := h.get("a")
	if err := h.op.Cancel(as("ann", ""), "a", "not needed"); err != nil {
		h.t.Fatal(err)
	}
	again()
	st := h.status("a")
	if st.State == scheduler.Running {
		if b := h.beat(l); !strings.Contains(b.Cancel, "not needed") {
			h.t.Errorf("the worker is told %q", b.Cancel)
		}
		h.pass(lease + time.Millisecond)
	}
	h.none("it was cancelled")
	h.want("a=cancelled")
}

// historyPruned opens a store again after much of it was pruned.
func historyPruned(h *hands) {
	h.submit(job("waits", "r-w", "far"))
	for i := range 200 {
		h.submit(job(fmt.Sprint("j", i), "q", "ok"))
	}
	h.pass(10 * time.Minute)
	for _, how := range []string{"killed", "closed"} {
		h.again(how)
		h.pass(10 * time.Minute)
		if n := h.count(scheduler.Succeeded); n < 20 || n > 40 {
			h.t.Errorf("%d ended jobs came back, want about 20", n)
		}
		h.want("waits=waiting", "j199=succeeded")
	}
	h.closedFor(2 * time.Hour)
	h.pass(10 * time.Minute)
	if n := h.count(scheduler.Succeeded); n > 0 {
		h.t.Errorf("%d jobs are older than an hour and were kept", n)
	}
	h.finish(h.get("waits"), "")
}
