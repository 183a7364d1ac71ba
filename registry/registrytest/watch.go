package registrytest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vagoth/vagoth/registry"
)

// patience bounds what a test waits for.
const patience = 20 * time.Second

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// pull takes n changes from a watch.
func pull(t *testing.T, next func() (registry.Change, error, bool), n int) []registry.Change {
	t.Helper()
	var got []registry.Change
	for range n {
		c, err, ok := next()
		if err != nil || !ok {
			t.Fatalf("the watch ended after %d of %d changes: %v", len(got), n, err)
		}
		got = append(got, c)
	}
	return got
}

func brief(changes []registry.Change) string {
	var b strings.Builder
	for _, c := range changes {
		b.WriteString(string(c.Kind))
		if c.Node() != nil {
			b.WriteString(" " + c.Node().ID())
		}
		b.WriteString(", ")
	}
	return strings.TrimSuffix(b.String(), ", ")
}

// testWatchKinds: what a watch with a query delivers, a node that stops matching
// as having left.
func testWatchKinds(t *testing.T, r registry.Registry) {
	ctx := bounded(t)
	create(t, r, registry.Draft{ID: "a", State: "on"})
	create(t, r, registry.Draft{ID: "b"})
	next, stop := iter.Pull2(r.Watch(ctx, registry.Query{State: "on"}, registry.Start))
	defer stop()
	late, stopLate := iter.Pull2(r.Watch(ctx, registry.Query{}, registry.Now))
	defer stopLate()
	state := func(id, s string) {
		if _, err := registry.SetState(ctx, r, id, s); err != nil {
			t.Fatal(err)
		}
	}
	state("b", "off") // of no interest
	state("b", "on")
	state("a", "off")
	state("a", "off") // no change
	create(t, r, registry.Draft{ID: "c", State: "on"})
	if _, err := registry.SetTags(ctx, r, "c", map[string]string{"x": "1"}); err != nil {
		t.Fatal(err)
	}
	if err := registry.Delete(ctx, r, "c"); err != nil {
		t.Fatal(err)
	}
	if err := registry.Delete(ctx, r, "a"); err != nil {
		t.Fatal(err)
	}
	got := pull(t, next, 7)
	if is, want := brief(got), "existing a, synced, updated b, left a, created c, updated c, deleted c"; is != want {
		t.Fatalf("the watch delivered %s; want %s", is, want)
	}
	if l := got[3]; l.Before == nil || l.Before.State() != "on" || l.After == nil || l.After.State() != "off" {
		t.Fatalf("left: before %v, after %v", l.Before, l.After)
	}
	if d := got[6]; d.After != nil || d.Before == nil || d.Node().ID() != "c" {
		t.Fatalf("deleted: before %v, after %v", d.Before, d.After)
	}
	all := pull(t, late, 7)
	if is, want := brief(all), "updated b, updated b, updated a, created c, updated c, deleted c, deleted a"; is != want {
		t.Fatalf("the watch from now delivered %s; want %s", is, want)
	}
	for i, c := range all {
		if i > 0 && c.Revision <= all[i-1].Revision {
			t.Fatalf("revision %d follows %d", c.Revision, all[i-1].Revision)
		}
		if c.After != nil && c.After.Revision() != c.Revision {
			t.Fatalf("the change of revision %d holds a node of revision %d", c.Revision, c.After.Revision())
		}
	}
}

// testWatchOnce lets watchers follow writers, some breaking off and resuming at
// every step: each sees every change once, in commit order.
func testWatchOnce(t *testing.T, r registry.Registry) {
	const writers, writes, watchers = 6, 60, 4
	ctx := bounded(t)
	create(t, r, registry.Draft{ID: "end"})
	var readers, running sync.WaitGroup
	logs := make([][]registry.Change, watchers)
	for w := range watchers {
		seq := r.Watch(ctx, registry.Query{}, registry.Now)
		readers.Go(func() {
			for {
				breakOff := false
				for c, err := range seq {
					if err != nil {
						t.Errorf("watcher %d: %v", w, err)
						return
					}
					logs[w] = append(logs[w], c)
					if c.Node().ID() == "end" {
						return
					}
					if breakOff = w > 0 && len(logs[w])%w == 0; breakOff {
						break
					}
				}
				if !breakOff {
					t.Errorf("watcher %d: the watch ended after %d changes: %v", w, len(logs[w]), ctx.Err())
					return
				}
				seq = r.Watch(ctx, registry.Query{}, logs[w][len(logs[w])-1].Cursor)
			}
		})
	}
	for w := range writers {
		running.Go(func() {
			for i := range writes {
				err := r.Update(ctx, func(tx registry.Tx) error {
					for j := range 1 + i%3 {
						id := fmt.Sprintf("n%d-%d", w, j)
						n, err := tx.Get(id)
						switch {
						case errors.Is(err, registry.ErrNotFound):
							_, err = tx.Create(registry.Draft{ID: id, Name: id, Type: "vm"})
						case i%10 == 9:
							err = tx.Delete(id)
						default:
							d := n.Draft()
							d.State = fmt.Sprint("s", i)
							_, err = tx.Put(d)
						}
						if err != nil {
							return err
						}
					}
					return nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	running.Wait()
	if _, err := registry.SetState(ctx, r, "end", "now"); err != nil {
		t.Fatal(err)
	}
	readers.Wait()
	if t.Failed() {
		return
	}
	// The changes of a node form a chain, and no watcher saw another sequence.
	last := map[string]*registry.Node{}
	rev := uint64(0)
	for i, c := range logs[0] {
		id := c.Node().ID()
		if c.Revision < rev {
			t.Fatalf("change %d has revision %d after %d", i, c.Revision, rev)
		}
		rev = c.Revision
		before := last[id]
		if id != "end" && (c.Before == nil) != (before == nil) || before != nil && (c.Before == nil || c.Before.Revision() != before.Revision()) {
			t.Fatalf("change %d of %s begins at %v, the one before ended at %v: one is missing or doubled", i, id, c.Before, before)
		}
		last[id] = c.After
	}
	key := func(c registry.Change) string { return fmt.Sprint(c.Kind, c.Node().ID(), c.Revision, c.Cursor) }
	for w := 1; w < watchers; w++ {
		if !slices.EqualFunc(logs[0], logs[w], func(a, b registry.Change) bool { return key(a) == key(b) }) {
			t.Fatalf("watcher %d, which breaks off after every %d changes, saw %d changes, the one that does not %d; or others", w, w, len(logs[w]), len(logs[0]))
		}
	}
	v := view(t, r)
	for id, n := range last {
		now, err := v.Get(id)
		if n == nil && !errors.Is(err, registry.ErrNotFound) || n != nil && (err != nil || now.Revision() != n.Revision()) {
			t.Fatalf("the last change of %s is %v, it is %v, %v", id, n, now, err)
		}
	}
}

// testWatchCompacted: one that comes back too late is told so. It needs a store
// whose history is not much longer than ten thousand changes.
func testWatchCompacted(t *testing.T, r registry.Registry) {
	ctx := bounded(t)
	create(t, r, registry.Draft{ID: "a"})
	next, stop := iter.Pull2(r.Watch(ctx, registry.Query{}, registry.Now))
	defer stop()
	write := func(n int) {
		update(t, r, func(tx registry.Tx) error {
			for i := range 50 {
				id := fmt.Sprint("n", i)
				if _, err := tx.Create(registry.Draft{ID: id, Name: id, Type: "vm", State: fmt.Sprint("s", n)}); err == nil {
					continue
				} else if !errors.Is(err, registry.ErrConflict) {
					return err
				}
				if _, err := registry.ModifyIn(tx, id, func(d *registry.Draft) error { d.State = fmt.Sprint("s", n); return nil }); err != nil {
					return err
				}
			}
			return nil
		})
	}
	write(-1)
	cursor := pull(t, next, 1)[0].Cursor
	for n := range 4000 {
		write(n)
		if n%50 != 49 {
			continue
		}
		for c, err := range r.Watch(ctx, registry.Query{}, cursor) {
			if errors.Is(err, registry.ErrCompacted) {
				// One in the middle is told so as well, at the latest after what it
				// holds already; what it gets until then has no gap.
				rev := c.Revision
				for {
					c, err, ok := next()
					if errors.Is(err, registry.ErrCompacted) {
						return
					}
					if err != nil || !ok {
						t.Fatalf("the watch ended with %v", err)
					}
					if c.Revision > rev+1 && rev > 0 {
						t.Fatalf("revision %d follows %d without a word", c.Revision, rev)
					}
					rev = c.Revision
				}
			}
			if err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	t.Fatal("200,000 changes later the cursor is still good: open the store with a shorter history")
}

func testCursors(t *testing.T, r, other registry.Registry) {
	ctx := bounded(t)
	first := func(r registry.Registry, c registry.Cursor) (registry.Change, error) {
		for ch, err := range r.Watch(ctx, registry.Query{}, c) {
			return ch, err
		}
		return registry.Change{}, ctx.Err()
	}
	create(t, r, registry.Draft{ID: "a"})
	create(t, other, registry.Draft{ID: "a"})
	seq := r.Watch(ctx, registry.Query{}, registry.Now)
	create(t, r, registry.Draft{ID: "b"})
	var cursor registry.Cursor
	for c, err := range seq {
		if err != nil || c.Node().ID() != "b" {
			t.Fatalf("the watch began with %v, %v; want b, created after the call", c, err)
		}
		cursor = c.Cursor
		break
	}
	create(t, r, registry.Draft{ID: "c"})
	if c, err := first(r, cursor); err != nil || c.Node().ID() != "c" {
		t.Fatalf("resumed: %v, %v; want c", c, err)
	}
	for _, bad := range []registry.Cursor{"x", "--", cursor + "x", cursor[:len(cursor)/2], "0-0-0", "\x00"} {
		if _, err := first(r, bad); !errors.Is(err, registry.ErrCursor) {
			t.Errorf("cursor %q: %v, want ErrCursor", bad, err)
		}
	}
	if _, err := first(other, cursor); !errors.Is(err, registry.ErrCursor) {
		t.Fatalf("another store's cursor: %v, want ErrCursor", err)
	}
	for _, err := range r.Watch(ctx, registry.Query{Name: "["}, registry.Start) {
		want(t, err, registry.ErrInvalid)
	}
}

// testDelta checks the optional registry.Delta.
func testDelta(t *testing.T, r registry.Registry) {
	create(t, r, registry.Draft{ID: "a"})
	before, ok := view(t, r).(registry.Delta)
	if !ok {
		t.Skip("its readers are no registry.Delta, which is optional")
	}
	from := before.Revision()
	create(t, r, registry.Draft{ID: "b"})
	if _, err := registry.SetState(t.Context(), r, "a", "on"); err != nil {
		t.Fatal(err)
	}
	now := view(t, r).(registry.Delta)
	create(t, r, registry.Draft{ID: "later"})
	changes, ok := now.Since(from)
	if !ok {
		t.Fatal("two changes are already forgotten")
	}
	if is := brief(slices.Collect(changes)); is != "created b, updated a" {
		t.Fatalf("since: %s", is)
	}
	if changes, ok := now.Since(now.Revision()); !ok || len(slices.Collect(changes)) > 0 {
		t.Fatal("there is something since now")
	}
}
