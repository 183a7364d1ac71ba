package index

import (
	"context"
	"fmt"
	"iter"
	"strconv"
	"strings"

	"github.com/vagoth/vagoth/registry"
)

// place is a cursor taken apart: behind the first `at` changes of commit rev, or
// behind all of them if at is 0.
type place struct {
	rev uint64
	at  int
}

// cursor names the store, the commit and the place in it.
func (db *DB) cursor(p place) registry.Cursor {
	return registry.Cursor(db.store + "-" + strconv.FormatUint(p.rev, 36) + "-" + strconv.Itoa(p.at))
}

func (db *DB) place(c registry.Cursor) (place, error) {
	parts := strings.Split(string(c), "-")
	if len(parts) != 3 || parts[0] != db.store {
		return place{}, fmt.Errorf("cannot resume from cursor %.40q: %w", c, registry.ErrCursor)
	}
	rev, err1 := strconv.ParseUint(parts[1], 36, 64)
	at, err2 := strconv.ParseUint(parts[2], 10, 31)
	if err1 != nil || err2 != nil {
		return place{}, fmt.Errorf("cannot resume from cursor %.40q: %w", c, registry.ErrCursor)
	}
	return place{rev, int(at)}, nil
}

// change is the i-th change of c with its cursor.
func (db *DB) change(c *commit, i int) registry.Change {
	ch, at := c.changes[i], place{rev: c.rev}
	if i+1 < len(c.changes) {
		at.at = i + 1
	}
	ch.Cursor = db.cursor(at)
	return ch
}

// Watch implements registry.Registry.
func (db *DB) Watch(ctx context.Context, q registry.Query, from registry.Cursor) iter.Seq2[registry.Change, error] {
	// The place to begin is fixed by the call, not by the first step of the
	// iteration: what is committed in between must not be missed.
	s := db.state.Load()
	return func(yield func(registry.Change, error) bool) {
		w := watcher{db: db, ctx: ctx, q: q, yield: yield}
		if err := w.run(s, from); err != nil {
			yield(registry.Change{}, err)
		}
	}
}

// watcher is one Watch under way.
type watcher struct {
	db    *DB
	ctx   context.Context //nolint:containedctx // it lives as long as Watch's call
	q     registry.Query
	yield func(registry.Change, error) bool
}

// run returns nil when the caller stopped or the context ended.
func (w *watcher) run(s *state, from registry.Cursor) error {
	if err := w.q.Validate(); err != nil {
		return err
	}
	w.q.After, w.q.Limit = "", 0
	at := place{rev: s.rev}
	switch from {
	case registry.Start:
		if !w.existing(s) {
			return nil
		}
	case registry.Now:
	default:
		var err error
		if at, err = w.db.place(from); err != nil {
			return err
		}
		if at.rev > s.rev {
			// The store is an older copy of the one that gave this cursor.
			return registry.ErrCompacted
		}
	}
	return w.follow(s, at)
}

// existing delivers what matches in s, and reports whether to go on.
func (w *watcher) existing(s *state) bool {
	for n, err := range (stack{base: s}).list(w.ctx, w.q) {
		if err != nil {
			return false
		}
		if w.ctx.Err() != nil || !w.yield(registry.Change{Kind: registry.Existing, After: n, Revision: n.Revision()}, nil) {
			return false
		}
	}
	return w.ctx.Err() == nil &&
		w.yield(registry.Change{Kind: registry.Synced, Revision: s.rev, Cursor: w.db.cursor(place{rev: s.rev})}, nil)
}

// chunk is how many commits a watcher takes from the history at a time. What it
// has taken is not forgotten under it; how much that can be is bounded.
const chunk = 256

// follow delivers the changes behind at, as they come.
func (w *watcher) follow(s *state, at place) error {
	for {
		since := at.rev
		if at.at > 0 {
			since-- // for the rest of that commit
		}
		commits, ok := w.db.history.since(since, s.rev, chunk)
		if !ok {
			return registry.ErrCompacted
		}
		for _, c := range commits {
			for i := range c.changes {
				if c.rev == at.rev && i < at.at {
					continue
				}
				if w.ctx.Err() != nil {
					return nil
				}
				if ch, ok := w.seen(w.db.change(c, i)); ok && !w.yield(ch, nil) {
					return nil
				}
			}
			at = place{rev: c.rev}
		}
		if len(commits) == chunk {
			continue
		}
		at = place{rev: max(at.rev, s.rev)}
		select {
		case <-w.ctx.Done():
			return nil
		case <-s.next:
		case <-w.db.closing:
			return registry.ErrClosed
		}
		s = w.db.state.Load()
	}
}

// seen is the change as a watcher of q sees it, and whether it does.
func (w *watcher) seen(c registry.Change) (registry.Change, bool) {
	before := c.Before != nil && w.q.Matches(c.Before)
	after := c.After != nil && w.q.Matches(c.After)
	if before && !after && c.Kind == registry.Updated {
		c.Kind = registry.Left
	}
	return c, before || after
}
