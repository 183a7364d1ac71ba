package schedulertest

import (
	"context"
	"errors"
	"iter"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// Moved is for schedulers whose stores can be copied into another: what Durable asks
// of one that is opened again, asked of the copy. Its opener takes Deps.Still.
func Moved(t *testing.T, open Opener) {
	t.Helper()
	for _, c := range durables() {
		t.Run(c.name, func(t *testing.T) {
			inHands(t, open, standard(), func(h *hands) { c.fn(h, func() { h.move(false) }) })
		})
	}
	t.Run("lease/in-process/killed", func(t *testing.T) {
		inHands(t, open, standard(), func(h *hands) { inProcessAtOnce(h, func() { h.move(true) }) })
	})
	t.Run("lease/outside/killed", func(t *testing.T) {
		inHands(t, open, standard(), func(h *hands) { outsideFull(h, func() { h.move(true) }) })
	})
	t.Run("away", func(t *testing.T) { inHands(t, open, standard(), func(h *hands) { movedAway(h, open) }) })
	for name, fn := range map[string]func(*hands){
		"tokens-rise": movedTokens, "not-empty": movedInto, "again": movedAgain, "interrupted": movedInPart,
		"not-of-ours": movedRubbish, "from-as-it-was": movedFrom,
	} {
		t.Run(name, func(t *testing.T) { inHands(t, open, standard(), fn) })
	}
}

// A store that was handed over is not opened any more, but for another copy; and is when
// the jobs have come back, or somebody says so.
func movedAway(h *hands, open Opener) {
	first, second := h.deps.Data, h.t.TempDir()
	h.submit(job("a", "r-q", "far"))
	h.shut()
	refused := func(data string) {
		h.t.Helper()
		deps := h.deps
		deps.Data = data
		s, err := open(ctx(), standard(), deps)
		var retired *scheduler.RetiredError
		if !errors.As(err, &retired) || retired.To != "elsewhere" || !errors.Is(err, scheduler.ErrConflict) {
			h.t.Errorf("a store whose jobs are elsewhere was opened: %v", err)
		}
		if c, ok := s.(interface{ Close() error }); err == nil && ok {
			_ = c.Close()
		}
	}
	over := func(from, to string, already bool) {
		h.t.Helper()
		source, target := h.still(from), h.still(to)
		if was, err := scheduler.CopyStore(ctx(), source, target, nil); err != nil || was != already {
			h.t.Fatal(was, err)
		}
		if err := scheduler.HandOver(ctx(), source, target, "elsewhere"); err != nil {
			h.t.Fatal(err)
		}
		if source.Retired() != "elsewhere" || target.Retired() != "" {
			h.t.Errorf("after it was handed over: %q and %q", source.Retired(), target.Retired())
		}
		h.closeStore(source)
		h.closeStore(target)
		refused(from)
	}
	over(first, second, false)
	over(first, second, true)
	over(second, first, true) // back, as nothing was done
	over(first, second, true)
	source := h.still(first)
	if held := h.held(source); held.Jobs != 1 {
		h.t.Errorf("the source holds %+v", held)
	}
	if err := source.Retire(ctx(), ""); err != nil {
		h.t.Fatal(err)
	}
	h.closeStore(source)
	h.goOn(first)
	h.finish(h.get("a"), "")
	h.shut()
	h.goOn(second)
	h.finish(h.get("a"), "")
}

// still opens what a directory holds, for a copy.
func (h *hands) still(data string) scheduler.Store {
	h.t.Helper()
	deps := h.deps
	deps.Data, deps.Still = data, true
	s, ok := h.opener(h.t, deps).(scheduler.Store)
	if !ok {
		h.t.Fatal("what was opened still is no Store")
	}
	return s
}

func (h *hands) closeStore(s scheduler.Store) {
	h.t.Helper()
	if err := s.Close(); err != nil {
		h.t.Fatal(err)
	}
}

func (h *hands) held(s scheduler.Store) scheduler.Held {
	h.t.Helper()
	held, err := s.Held(ctx())
	if err != nil {
		h.t.Fatal(err)
	}
	return held
}

// copyTo copies one directory's store into another's and looks at both anew.
func (h *hands) copyTo(from, to string) scheduler.Held {
	h.t.Helper()
	source, target := h.still(from), h.still(to)
	if _, err := scheduler.CopyStore(ctx(), source, target, nil); err != nil {
		h.t.Fatal(err)
	}
	for _, s := range []scheduler.Store{source, target} {
		h.closeStore(s)
	}
	source, target = h.still(from), h.still(to)
	held, err := scheduler.CompareStores(ctx(), source, target)
	if err != nil {
		h.t.Fatal(err)
	}
	for _, s := range []scheduler.Store{source, target} {
		h.closeStore(s)
	}
	return held
}

// move goes on with a copy: of the store after Close, or as it would be found had its
// process been killed now.
func (h *hands) move(killed bool) {
	h.t.Helper()
	synctest.Wait()
	from, to := h.deps.Data, h.t.TempDir()
	if killed {
		from = h.backup()
	}
	h.shut()
	h.copyTo(from, to)
	h.deps.Data = to
	h.s = h.opener(h.t, h.deps)
	h.work(scheduler.RunOptions{})
	synctest.Wait()
	*h = *newHands(h.bench)
}

// goOn opens the store at data instead of none.
func (h *hands) goOn(data string) {
	h.t.Helper()
	h.deps.Data = data
	h.s = h.opener(h.t, h.deps)
	h.work(scheduler.RunOptions{})
	synctest.Wait()
	*h = *newHands(h.bench)
}

// Tokens rise above those of the source, and above those that the target has given
// before, whichever of the two was opened last.
func movedTokens(h *hands) {
	first := h.deps.Data
	token := func() trail.Token {
		h.t.Helper()
		j := retries(job("", "r-q", "far"), 99, 0)
		list, err := h.s.Submit(ctx(), scheduler.Package{Jobs: []scheduler.Job{j}})
		if err != nil {
			h.t.Fatal(err)
		}
		l := h.get2("r-q", list[0].ID)
		h.finish(l, "")
		return l.Token
	}
	_ = token()
	h.shut()
	second := h.t.TempDir()
	h.deps.Now = func() time.Time { return time.Now().Add(time.Hour) } // a machine whose clock is ahead
	ahead := uint64(h.deps.Now().UnixMilli())                          // no epoch begins below its clock
	h.goOn(second)
	h.shut()
	h.deps.Now = nil
	h.copyTo(first, second)
	h.goOn(second)
	if after := token(); after.Epoch <= ahead {
		h.t.Errorf("the copy hands out %s, the target's epoch was %d or more", after, ahead)
	}
	before := token()
	h.move(false)
	if after := token(); after.Compare(before) <= 0 || after.Epoch == before.Epoch {
		h.t.Errorf("the copy hands out %s, the source handed out %s", after, before)
	}
}

// A store that holds something takes no copy, and keeps what it has.
func movedInto(h *hands) {
	first, second := h.deps.Data, h.t.TempDir()
	h.submit(job("a", "r-q", "far"))
	h.shut()
	h.goOn(second)
	h.mode("r-x", scheduler.Paused)
	h.shut()
	source, target := h.still(first), h.still(second)
	_, err := scheduler.CopyStore(ctx(), source, target, nil)
	h.wantErr("a copy into a store with a paused queue", err, scheduler.ErrConflict)
	h.wantErr("an import into it", target.Import(ctx(), source.Export(ctx())), scheduler.ErrConflict)
	if held := h.held(target); held.Queues != 1 || held.Jobs != 0 {
		h.t.Errorf("it holds %+v then", held)
	}
	h.closeStore(source)
	h.closeStore(target)
	h.goOn(second)
	if st, err := h.queues.Queue(ctx(), "r-x"); err != nil || st.Mode != scheduler.Paused {
		h.t.Errorf("the target's queue is %+v, %v", st, err)
	}
}

// A copy that is there already is known again, until something was done with it.
func movedAgain(h *hands) {
	first, second := h.deps.Data, h.t.TempDir()
	h.submit(job("a", "r-q", "far"), after(job("b", "r-q", "far"), "a"))
	h.shut()
	held := h.copyTo(first, second)
	if held.Jobs != 2 || held.Running+held.Parked+held.Ended+held.Packages+held.Queues+held.Keys != 0 {
		h.t.Errorf("the copy holds %+v", held)
	}
	source, target := h.still(first), h.still(second)
	if already, err := scheduler.CopyStore(ctx(), source, target, nil); err != nil || !already {
		h.t.Errorf("the same copy again: already %v, %v", already, err)
	}
	h.closeStore(source)
	h.closeStore(target)
	h.goOn(second)
	h.finish(h.get("a"), "")
	h.shut()
	source, target = h.still(first), h.still(second)
	_, err := scheduler.CopyStore(ctx(), source, target, nil)
	h.wantErr("a copy over one that went on", err, scheduler.ErrConflict)
	h.closeStore(source)
	h.closeStore(target)
	h.goOn(second)
	h.finish(h.get("b"), "")
}

var errInterrupted = errors.New("interrupted")

// A copy that was broken off has written nothing, and is made again.
func movedInPart(h *hands) {
	first, second := h.deps.Data, h.t.TempDir()
	for _, id := range ids("j", 200) {
		h.submit(job(id, "r-"+id, "far"))
	}
	h.shut()
	for _, n := range []int{0, 1, 2, 150} {
		source, target := h.still(first), h.still(second)
		seen := 0
		err := target.Import(ctx(), func(yield func([]byte, error) bool) {
			for r, err := range source.Export(ctx()) {
				if seen == n {
					yield(nil, errInterrupted)
					return
				}
				if seen++; !yield(r, err) {
					return
				}
			}
		})
		h.wantErr("a copy that is broken off", err, errInterrupted)
		if held := h.held(target); !held.Empty() {
			h.t.Errorf("after %d records the target holds %s", n, held)
		}
		stop, cancel := context.WithCancel(ctx())
		_, err = scheduler.CopyStore(stop, source, target, func(done int) {
			if done == n+1 {
				cancel()
			}
		})
		cancel()
		h.wantErr("a copy whose caller has gone", err, context.Canceled)
		h.closeStore(source)
		h.closeStore(target)
	}
	target := h.still(second)
	if held := h.held(target); !held.Empty() {
		h.t.Errorf("the target holds %s after all that", held)
	}
	h.closeStore(target)
	if held := h.copyTo(first, second); held.Jobs != 200 {
		h.t.Errorf("the copy holds %+v", held)
	}
	h.goOn(second)
	if list := h.take(scheduler.Want{Worker: "w", Max: 1000}); len(list) != 200 {
		h.t.Errorf("%d of 200 jobs are handed out", len(list))
	}
}

// Rubbish is refused, and nothing of it is kept.
func movedRubbish(h *hands) {
	first, second := h.deps.Data, h.t.TempDir()
	h.submit(job("a", "r-q", "far"), job("b", "r-q", "far"))
	h.shut()
	source, target := h.still(first), h.still(second)
	var all [][]byte
	for r, err := range source.Export(ctx()) {
		if err != nil {
			h.t.Fatal(err)
		}
		all = append(all, append([]byte(nil), r...))
	}
	list := func(records ...[]byte) iter.Seq2[[]byte, error] {
		return func(yield func([]byte, error) bool) {
			for _, r := range records {
				if !yield(r, nil) {
					return
				}
			}
		}
	}
	for what, records := range map[string]iter.Seq2[[]byte, error]{
		"nothing": list(), "no head": list(all[1:]...), "two heads": list(append([][]byte{all[0]}, all...)...), "a job twice": list(append(all, all[1])...),
		"an empty record": list(all[0], nil), "half a record": list(all[0], all[1][:len(all[1])/2]), "text": list([]byte("{}")),
	} {
		if err := target.Import(ctx(), records); err == nil {
			h.t.Errorf("%s was taken", what)
		}
	}
	if held := h.held(target); !held.Empty() {
		h.t.Errorf("the target holds %s", held)
	}
	h.closeStore(source)
	h.closeStore(target)
	h.goOn(second)
	h.none("nothing was copied")
}

// The source is as it was: it can be opened, and goes on.
func movedFrom(h *hands) {
	first := h.deps.Data
	h.submit(job("a", "r-q", "far"), job("b", "r-q", "far"))
	l := h.get("a")
	h.finish(l, "")
	h.shut()
	h.copyTo(first, h.t.TempDir())
	h.goOn(first)
	if l := h.get("b"); l.Attempt != 1 {
		h.t.Errorf("it is attempt %d after a copy", l.Attempt)
	}
}
