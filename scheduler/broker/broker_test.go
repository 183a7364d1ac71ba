package broker

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	gosync "sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/vagoth/vagoth/internal/journal"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// dump is all that a core knows, in lines that can be compared.
func dump(c *core) []string {
	var list []string
	for _, b := range c.frame() {
		list = append(list, fmt.Sprintf("frame %q", b))
	}
	for _, s := range c.stones.list {
		e := &enc{}
		putStone(e, s)
		list = append(list, fmt.Sprintf("stone %q", e.b))
	}
	for j := c.table.after(0); j != nil; j = c.table.after(j.seq) {
		e := &enc{}
		putState(e, j)
		var edges []string
		for _, d := range j.dependents {
			if c.jobs[d.job.id] == d.job {
				edges = append(edges, fmt.Sprint(d.job.id, d.accept))
			}
		}
		slices.Sort(edges)
		list = append(list, fmt.Sprintf("job %s %s blockers %d edges %v %q", j.id, j.state.word(), j.blockers, edges, e.b))
	}
	for _, name := range sortedQueues(c) {
		q := c.queues[name]
		if q.first == nil && q.parked == 0 {
			continue
		}
		line := fmt.Sprintf("queue %s waiting %d blocked %d urgent %d moved %d parked %d held %t list", name, q.waiting, q.blocked, q.urgent, q.moved, q.parked, q.holder != nil)
		if q.urgent > 0 {
			line = fmt.Sprintf("base %d ", q.base) + line
		}
		for j := q.first; j != nil; j = j.next {
			line += " " + j.id
		}
		ready := slices.Clone(q.ready)
		slices.SortFunc(ready, func(a, b *job) int { return cmp.Compare(a.place, b.place) })
		line += " ready"
		for _, j := range ready {
			line += " " + j.id
		}
		list = append(list, line)
	}
	line := fmt.Sprintf("blocked %d count %v history", *c.block, c.count)
	for j := c.ended.first; j != nil; j = j.next {
		line += " " + j.id
	}
	return append(list, line)
}

// same compares two dumps.
func same(t *rapid.T, got, want []string) {
	for i := range max(len(got), len(want)) {
		a, b := "nothing", "nothing"
		if i < len(got) {
			a = got[i]
		}
		if i < len(want) {
			b = want[i]
		}
		if a != b {
			t.Fatalf("line %d is\n%s\nwant\n%s", i, a, b)
		}
	}
}

func sortedQueues(c *core) []string {
	var names []string
	for name := range c.queues {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

func testConfig() Config {
	cfg := Defaults()
	cfg.Queues = map[string]QueueConfig{"r*": {Remote: true}}
	cfg.Limits = map[string]LimitConfig{"one": {Slots: 1}}
	return cfg
}

// play does something at random.
func play(t *rapid.T, b *Broker, leases *[]scheduler.Lease, ids *[]string) {
	ctx := context.Background()
	pick := func() string { return rapid.SampledFrom(append(*ids, "none")).Draw(t, "id") }
	switch rapid.IntRange(0, 11).Draw(t, "deed") {
	case 0, 1, 2:
		var p scheduler.Package
		for range rapid.IntRange(1, 4).Draw(t, "jobs") {
			j := scheduler.Job{ID: fmt.Sprintf("j%d", len(*ids)), Queue: rapid.SampledFrom([]string{"ra", "rb", "rc"}).Draw(t, "queue"), Action: "far"}
			j.Urgent = rapid.IntRange(0, 5).Draw(t, "urgent") == 0
			j.Retry = scheduler.Retry{Attempts: rapid.IntRange(0, 2).Draw(t, "attempts"), Park: rapid.Bool().Draw(t, "park")}
			if rapid.IntRange(0, 3).Draw(t, "key") == 0 {
				j.Key = "k-" + j.ID
			}
			if len(*ids) > 0 && rapid.Bool().Draw(t, "depends") {
				d := scheduler.Dependency{ID: (*ids)[rapid.IntRange(max(0, len(*ids)-8), len(*ids)-1).Draw(t, "on")]}
				if rapid.Bool().Draw(t, "accept") {
					d.Accept = []scheduler.State{scheduler.Succeeded, scheduler.Failed, scheduler.Cancelled}
				}
				j.After = append(j.After, d)
			}
			*ids = append(*ids, j.ID)
			p.Jobs = append(p.Jobs, j)
		}
		_, _ = b.Submit(ctx, p) // a dependency that was forgotten is refused
	case 3, 4:
		list, err := b.Next(ctx, scheduler.Want{Max: rapid.IntRange(1, 3).Draw(t, "max")})
		if err != nil {
			t.Fatal(err)
		}
		*leases = append(*leases, list...)
	case 5, 6, 7:
		if len(*leases) == 0 {
			return
		}
		l := (*leases)[0]
		*leases = (*leases)[1:]
		switch rapid.IntRange(0, 3).Draw(t, "how") {
		case 0:
			_, _ = b.Complete(ctx, scheduler.Completion{Hold: l.Hold, Error: "boom"})
		case 1:
			_ = b.HandBack(ctx, l.Hold, "")
		default:
			_ = b.AddLog(ctx, l.Hold, "a line")
			_, _ = b.Complete(ctx, scheduler.Completion{Hold: l.Hold})
		}
	case 8:
		_ = b.Cancel(ctx, pick(), "")
	case 9:
		_, _ = b.Retry(ctx, pick(), scheduler.RetryOptions{WithDependents: rapid.Bool().Draw(t, "with")})
	case 10:
		_, _ = b.Skip(ctx, pick())
	case 11:
		_, _ = b.SetQueue(ctx, rapid.SampledFrom([]string{"ra", "rb"}).Draw(t, "queue"), rapid.SampledFrom([]scheduler.QueueMode{scheduler.Open, scheduler.Paused}).Draw(t, "mode"))
	}
}

// TestSnapshotBesideChanges takes a snapshot in small steps while jobs change: what
// is restored from it is the state when it began.
func TestSnapshotBesideChanges(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		cfg := testConfig()
		cfg.HistoryCount = 20
		b := Memory(cfg, scheduler.Deps{})
		defer b.Close()
		var leases []scheduler.Lease
		var ids []string
		for range rapid.IntRange(0, 40).Draw(t, "before") {
			play(t, b, &leases, &ids)
		}
		b.mu.Lock()
		want := dump(b.core)
		records := b.core.snapshot(&b.mu)
		b.mu.Unlock()
		other := newCore(&b.cfg, b.isRemote)
		r := &restorer{c: other, packs: map[string]*pack{}}
		for rec, err := range records {
			if err != nil {
				t.Fatal(err)
			}
			if err := r.one(rec); err != nil {
				t.Fatal(err)
			}
			if rapid.IntRange(0, 3).Draw(t, "meanwhile") == 0 {
				play(t, b, &leases, &ids)
			}
		}
		if err := r.done(); err != nil {
			t.Fatal(err)
		}
		same(t, dump(other), want)
	})
}

// recorder is a store that keeps what is written, and refuses when it is told to.
type recorder struct {
	gosync.Mutex
	records [][]byte
	err     error
}

func (r *recorder) AppendBatch(_ context.Context, list [][]byte) (uint64, error) {
	r.Lock()
	defer r.Unlock()
	if r.err != nil {
		return 0, r.err
	}
	for _, b := range list {
		r.records = append(r.records, bytes.Clone(b))
	}
	return uint64(len(r.records)), nil
}

func (r *recorder) WriteSnapshot(context.Context, uint64, iter.Seq2[[]byte, error]) error { return nil }
func (r *recorder) Stats() journal.Stats                                                  { return journal.Stats{} }
func (r *recorder) Close() error                                                          { return nil }

func (r *recorder) refuse(err error) {
	r.Lock()
	defer r.Unlock()
	r.err = err
}

// recorded is a broker over a recorder.
func recorded(cfg Config, deps scheduler.Deps) (*Broker, *recorder) {
	b, r := newBroker(cfg, deps), &recorder{}
	b.journal, b.snapEvery = r, 1<<60
	if err := b.start(); err != nil {
		panic(err)
	}
	return b, r
}

// TestReplayGivesTheSame compares what is in memory with what the log gives.
func TestReplayGivesTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b, r := recorded(testConfig(), scheduler.Deps{})
		defer b.Close()
		var leases []scheduler.Lease
		var ids []string
		for range rapid.IntRange(1, 60).Draw(t, "deeds") {
			play(t, b, &leases, &ids)
		}
		if err := b.do(context.Background(), &dueCmd{flush: true}); err != nil {
			t.Fatal(err)
		}
		l := &loader{core: newCore(&b.cfg, b.isRemote)}
		for i, rec := range r.records {
			if err := l.Replay(uint64(i+1), rec); err != nil {
				t.Fatal(err)
			}
		}
		same(t, dump(l.core), dump(b.core))
	})
}

func FuzzRecord(f *testing.F) {
	b, r := recorded(testConfig(), scheduler.Deps{})
	one := 0
	_, err := b.Submit(f.Context(), scheduler.Package{Jobs: []scheduler.Job{
		{ID: "a", Queue: "r", Action: "far", Limits: []string{"one"}, Key: "k", Timeout: 1, Retry: scheduler.Retry{Attempts: 3, Jitter: 0.5}},
		{Queue: "r", Action: "far", After: []scheduler.Dependency{{Index: &one}}, Urgent: true},
	}})
	if err != nil {
		f.Fatal(err)
	}
	if _, err := b.NewPackage(f.Context(), scheduler.Package{ID: "p", Jobs: []scheduler.Job{{Queue: "r", Action: "far"}}}); err != nil {
		f.Fatal(err)
	}
	if err := b.Close(); err != nil {
		f.Fatal(err)
	}
	for _, rec := range r.records {
		f.Add(rec)
	}
	f.Fuzz(func(t *testing.T, rec []byte) {
		got, err := decode(&dec{b: rec})
		if err != nil {
			return
		}
		e := &enc{}
		encode(e, got)
		again, err := decode(&dec{b: e.b})
		if err != nil {
			t.Fatalf("what was written again cannot be read: %v", err)
		}
		f := &enc{}
		if encode(f, again); !bytes.Equal(e.b, f.b) {
			t.Fatalf("written twice: %q and %q", e.b, f.b)
		}
	})
}

// TestFullDisk has the disk refuse: a submission leaves nothing behind, and a job
// that has ended is kept until its end can be written, and does not run again.
func TestFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		runs, gate := 0, make(chan struct{})
		b, r := recorded(testConfig(), scheduler.Deps{Actions: map[string]scheduler.Action{"do": {Name: "do", Run: func(context.Context, scheduler.Task) (any, error) {
			runs++
			<-gate
			return map[string]int{"n": runs}, nil
		}}}})
		ctx, stop := context.WithCancel(t.Context())
		var work gosync.WaitGroup
		work.Go(func() { _ = b.Run(ctx, scheduler.RunOptions{}) })
		do := func(id string) error {
			_, err := b.Submit(ctx, scheduler.Package{Jobs: []scheduler.Job{{ID: id, Queue: "q", Action: "do"}}})
			return err
		}
		if err := do("a"); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		r.refuse(fmt.Errorf("no space left: %w", syscall.ENOSPC))
		if err := do("b"); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("a submission to a full disk: %v", err)
		}
		if _, err := b.Status(ctx, "b"); !errors.Is(err, scheduler.ErrNotFound) {
			t.Errorf("what was refused is there: %v", err)
		}
		close(gate)
		time.Sleep(time.Minute)
		st, err := b.Status(ctx, "a")
		if err != nil || st.State != scheduler.Running || !strings.Contains(st.Waiting, "tried again") {
			t.Errorf("while its end cannot be written: %+v, %v", st, err)
		}
		r.refuse(nil)
		time.Sleep(2 * time.Second)
		if st, err := b.Status(ctx, "a"); err != nil || st.State != scheduler.Succeeded || st.Result.String() != `{"n":1}` || runs != 1 {
			t.Errorf("when there is space again: %+v, %v; it ran %d times", st, err, runs)
		}
		if err := do("b"); err != nil {
			t.Error(err)
		}
		stop()
		work.Wait()
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestSubmittedOnly runs what came through this handle, and in its order.
func TestSubmittedOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		deps := scheduler.Deps{Data: dir, Actions: map[string]scheduler.Action{"do": {Name: "do", Run: func(context.Context, scheduler.Task) (any, error) { return nil, nil }}}}
		submit := func(b *Broker, id, queue string) {
			if _, err := b.Submit(t.Context(), scheduler.Package{Jobs: []scheduler.Job{{ID: id, Queue: queue, Action: "do"}}}); err != nil {
				t.Fatal(err)
			}
		}
		first, err := Open(t.Context(), testConfig(), deps)
		if err != nil {
			t.Fatal(err)
		}
		submit(first, "old", "q")
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		b, err := Open(t.Context(), testConfig(), deps)
		if err != nil {
			t.Fatal(err)
		}
		var work gosync.WaitGroup
		work.Go(func() { _ = b.Run(context.WithoutCancel(t.Context()), scheduler.RunOptions{Submitted: true}) })
		submit(b, "mine", "other")
		submit(b, "behind", "q")
		synctest.Wait()
		for id, want := range map[string]scheduler.State{"old": scheduler.Waiting, "mine": scheduler.Succeeded, "behind": scheduler.Waiting} {
			if st, err := b.Status(t.Context(), id); err != nil || st.State != want {
				t.Errorf("%s is %s (%s), %v; want %s", id, st.State, st.Waiting, err, want)
			}
		}
		if st, _ := b.Status(t.Context(), "behind"); st.Waiting != "waiting for its turn in queue q behind job old" {
			t.Errorf("it says %q", st.Waiting)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		work.Wait()
	})
}

// TestKeysOutliveTheirJobs prunes a job whose idempotency key still counts.
func TestKeysOutliveTheirJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.HistoryCount = 2
		ctx := trail.With(t.Context(), trail.Trail{Transaction: "t", Source: "ann"})
		dir := t.TempDir()
		b, err := open(ctx, cfg, scheduler.Deps{Data: dir}, 1)
		if err != nil {
			t.Fatal(err)
		}
		done := func(j scheduler.Job) (scheduler.Status, error) {
			list, err := b.Submit(ctx, scheduler.Package{Jobs: []scheduler.Job{j}})
			if err != nil {
				return scheduler.Status{}, err
			}
			leases, err := b.Next(ctx, scheduler.Want{})
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range leases {
				if _, errs := b.Complete(ctx, scheduler.Completion{Hold: l.Hold}); errs[0] != nil {
					t.Fatal(errs[0])
				}
			}
			return list[0], nil
		}
		keyed := scheduler.Job{Queue: "r", Action: "far", Key: "k"}
		first, err := done(keyed)
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if _, err := done(scheduler.Job{Queue: "r", Action: "far"}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := b.Status(ctx, first.ID); !errors.Is(err, scheduler.ErrNotFound) {
			t.Fatalf("it is still kept: %v", err)
		}
		for range 2 {
			if again, err := done(keyed); err != nil || again.ID != first.ID || again.State != scheduler.Succeeded {
				t.Errorf("the same content: %+v, %v", again, err)
			}
			other := keyed
			other.Action = "farther"
			if _, err := done(other); !errors.Is(err, scheduler.ErrConflict) {
				t.Errorf("other content: %v", err)
			}
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			if b, err = open(ctx, cfg, scheduler.Deps{Data: dir}, 1); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(25 * time.Hour)
		if again, err := done(keyed); err != nil || again.ID == first.ID {
			t.Errorf("after a day: %+v, %v", again, err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestUnknownRecordIsRefused opens a store with a record of a newer program.
func TestUnknownRecordIsRefused(t *testing.T) {
	dir := t.TempDir()
	b, err := Open(t.Context(), testConfig(), scheduler.Deps{Data: dir})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.journal.AppendBatch(t.Context(), [][]byte{{format, 99}}); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = Open(t.Context(), testConfig(), scheduler.Deps{Data: dir})
	if err == nil || !strings.Contains(err.Error(), "record 2 cannot be read: its kind 99 is unknown") {
		t.Errorf("it says %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, folder)); err != nil {
		t.Error(err)
	}
}

func TestListeners(t *testing.T) {
	cfg := testConfig()
	b := Memory(cfg, scheduler.Deps{})
	if l := b.Listeners(); len(l) != 0 {
		t.Errorf("by default it listens at %v", l)
	}
	_ = b.Close()
	cfg.SpinListen = "127.0.0.1:8081"
	b = Memory(cfg, scheduler.Deps{})
	defer b.Close()
	if l := b.Listeners(); len(l) != 1 || l[0].Address != cfg.SpinListen || l[0].Handler == nil {
		t.Errorf("it listens at %v", l)
	}
	for _, bad := range []string{"0.0.0.0:8081", "8081", "192.0.2.1:1", ":8081"} {
		cfg.SpinListen = bad
		if err := cfg.Validate(); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
