package engine

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/vagoth/vagoth/scheduler"
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
	for _, name := range sortedQueues(c) {
		if c.queues[name].newest == nil {
			continue
		}
		line, newer := "row "+name, (*job)(nil)
		for j := c.queues[name].newest; j != nil; newer, j = j, j.older {
			line += " " + j.id
			if j.newer != newer || j.queue != c.queues[name] {
				panic("torn: " + line)
			}
		}
		var walked []string
		for j := c.table.before(c.seq + 1); j != nil; j = c.table.before(j.seq) {
			if j.queue.name == name {
				walked = append(walked, j.id)
			}
		}
		if want := "row " + name + " " + strings.Join(walked, " "); line != want {
			panic(line + ", and not " + want)
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

// play does something at random.
func play(t *rapid.T, b *Engine, leases *[]scheduler.Lease, ids *[]string) {
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

// An urgent job that a worker had when a snapshot was taken, and that comes back, is
// before all that are not urgent: so is the next one.
func TestUrgentRestored(t *testing.T) {
	b := Memory(testConfig(), scheduler.Deps{})
	defer b.Close()
	for _, j := range []scheduler.Job{{ID: "plain"}, {ID: "urgent", Urgent: true}} {
		j.Queue, j.Action = "r", "far"
		if _, err := b.Submit(t.Context(), scheduler.Package{Jobs: []scheduler.Job{j}}); err != nil {
			t.Fatal(err)
		}
	}
	if list, err := b.Next(t.Context(), scheduler.Want{}); err != nil || len(list) != 1 || list[0].Job != "urgent" {
		t.Fatal(list, err)
	}
	r := &restorer{c: newCore(&b.cfg, b.isRemote), packs: map[string]*pack{}}
	b.mu.Lock()
	records := b.core.snapshot(&b.mu)
	b.mu.Unlock()
	for rec, err := range records {
		if err = errors.Join(err, r.one(rec)); err != nil {
			t.Fatal(err)
		}
	}
	if err := r.done(); err != nil {
		t.Fatal(err)
	}
	q := r.c.queues["r"]
	urgent, plain := q.holder, r.c.jobs["plain"]
	q.giveBack(urgent)
	if next := q.urgentPlace(r.c.seq + 1); next <= urgent.place || next >= plain.place {
		t.Errorf("the next urgent job stands at %d, the first one at %d, the other at %d", next, urgent.place, plain.place)
	}
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
		if err := unbundle(rec, func(one []byte) error { f.Add(one); return nil }); err != nil {
			f.Fatal(err)
		}
		f.Add(rec)
	}
	f.Fuzz(func(t *testing.T, rec []byte) {
		_ = unbundle(rec, func(one []byte) error { // which is no more than what is in it
			if len(one) > len(rec) {
				t.Fatalf("%d bytes out of %d", len(one), len(rec))
			}
			return nil
		})
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

// However often a store is opened after a crash, the next attempt's number is
// higher than any that a lost hand-out can have had.
func TestManyCrashes(t *testing.T) {
	c := newCore(&settings{}, func(string, *queue) bool { return false })
	q := &queue{name: "q", blockedAll: c.block}
	c.queues["q"] = q
	j := &job{id: "a", queue: q, attempt: 7}
	q.ready = append(q.ready, j)
	for n := range uint32(600) {
		c.clean = false
		if err := (&opened{store: "s", epoch: uint64(n) + 1}).apply(c); err != nil {
			t.Fatal(err)
		}
		if next := j.attempt + uint32(j.gap) + 1; next != 7+n+2 {
			t.Fatalf("after %d crashes the next attempt is %d", n+1, next)
		}
	}
}
