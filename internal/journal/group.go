package journal

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
)

// ErrPanicked is given to the other submitters of a batch whose commit panicked. The panic
// itself goes on in the goroutine that ran the commit.
var ErrPanicked = errors.New("the commit of this batch panicked")

// Group makes one commit out of what many goroutines submit at about the same time: while
// a batch is being committed the next one gathers.
//
// It has no goroutine of its own. The first to come commits, at once, so that one caller
// alone waits for nobody; when it is done, the longest waiting one commits all that have
// gathered. Items are committed in the order in which Do was called.
type Group[T any] struct {
	max    int
	commit func(batch []T, errs []error)

	mu      sync.Mutex
	waiting []*groupItem[T]
	busy    bool          // somebody commits, or has been told to
	closed  bool          //
	idle    chan struct{} // closed when nobody is left after Close
}

type groupItem[T any] struct {
	value T
	taken bool
	lead  chan struct{} // has room for one: it is this one's turn to commit
	done  chan error    // has room for one
}

// NewGroup makes a group that commits at most max items at once. The commit function runs
// in the goroutine of one of the submitters, never twice at a time; it sets errs[i], nil at
// first, where the i-th item failed. It must not call Do.
func NewGroup[T any](max int, commit func(batch []T, errs []error)) *Group[T] {
	return &Group[T]{max: max, commit: commit, idle: make(chan struct{})}
}

// Do submits v and waits for its outcome. If ctx ends before v was taken into a batch, v
// is withdrawn and Do gives the context's error; afterwards Do waits for the outcome,
// whatever becomes of ctx. After Close it gives ErrClosed.
func (g *Group[T]) Do(ctx context.Context, v T) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	it := &groupItem[T]{value: v, lead: make(chan struct{}, 1), done: make(chan error, 1)}
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return ErrClosed
	}
	g.waiting = append(g.waiting, it)
	if !g.busy {
		g.busy = true
		it.lead <- struct{}{}
	}
	g.mu.Unlock()

	select {
	case err := <-it.done:
		return err
	case <-it.lead:
		g.run()
		return <-it.done
	case <-ctx.Done():
	}
	if g.withdraw(it) {
		return ctx.Err()
	}
	return <-it.done
}

// withdraw takes an item out unless it has been taken into a batch.
func (g *Group[T]) withdraw(it *groupItem[T]) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if it.taken {
		return false
	}
	g.waiting = slices.DeleteFunc(g.waiting, func(o *groupItem[T]) bool { return o == it })
	select {
	case <-it.lead:
		g.passOn()
	default:
	}
	return true
}

// passOn gives the turn to the longest waiting item. The caller has the turn, and g.mu.
func (g *Group[T]) passOn() {
	if len(g.waiting) > 0 {
		g.waiting[0].lead <- struct{}{}
		return
	}
	g.busy = false
	if g.closed {
		close(g.idle)
	}
}

// run commits one batch. Its caller's item is the first that waits, hence part of it.
func (g *Group[T]) run() {
	// Those that the batch before has just woken get to come back first: with many callers
	// that nearly halves the commits, and costs nothing where nobody else is.
	runtime.Gosched()
	g.mu.Lock()
	n := min(len(g.waiting), g.max)
	batch := slices.Clone(g.waiting[:n])
	g.waiting = slices.Delete(g.waiting, 0, n)
	values := make([]T, n)
	for i, it := range batch {
		it.taken = true
		values[i] = it.value
	}
	g.mu.Unlock()

	errs := make([]error, n)
	finished := false
	defer func() { // also when commit panics or ends the goroutine
		for i, it := range batch {
			if !finished {
				errs[i] = ErrPanicked
			}
			it.done <- errs[i]
		}
		g.mu.Lock()
		g.passOn()
		g.mu.Unlock()
	}()
	g.commit(values, errs)
	finished = true
}

// Close lets nobody in any more and waits until all that were in have their outcome.
// If ctx ends first, Close gives its error, and may be called again.
func (g *Group[T]) Close(ctx context.Context) error {
	g.mu.Lock()
	if !g.closed {
		g.closed = true
		if !g.busy {
			close(g.idle)
		}
	}
	g.mu.Unlock()
	select {
	case <-g.idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("cannot wait for the last batch: %w", ctx.Err())
	}
}
