package engine

import (
	"context"
	"runtime"
	"slices"
	gosync "sync"
	"time"

	"github.com/vagoth/vagoth/scheduler"
)

// group makes one commit out of the commands that come at about the same time.
// It has no goroutine of its own: the first to come commits at once, so that one
// caller alone waits for nobody; while a commit runs the next commands gather.
//
// Beside journal.Group it waits a little for those that were answered by the last
// commit and are about to come again: a sync costs much more than that.
type group struct {
	commit func(batch []command, errs []error)

	mu      gosync.Mutex
	waiting []*call
	busy    bool
	closed  bool
	idle    chan struct{} // closed when nobody is left after close
	present int           // callers whom the last commit answered or let wait
	took    time.Duration // the last commit
	spare   gosync.Pool   // of *call

	calls []*call // of who has the turn
	batch []command
	errs  []error
}

type call struct {
	cmd   command
	taken bool
	err   error     // set before it is woken
	wake  chan bool // has room for one: true if it is this one's turn, false if it is done
}

func newGroup(commit func([]command, []error)) *group {
	g := &group{commit: commit, idle: make(chan struct{})}
	g.spare.New = func() any { return &call{wake: make(chan bool, 1)} }
	return g
}

// do commits cmd and waits for its outcome. If ctx ends before that begins, the
// command is withdrawn.
func (g *group) do(ctx context.Context, cmd command) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c := g.spare.Get().(*call) //nolint:forcetypeassert // nothing else is put there
	c.cmd, c.taken, c.err = cmd, false, nil
	defer func() {
		c.cmd = nil
		g.spare.Put(c)
	}()
	g.mu.Lock()
	if g.closed {
		g.mu.Unlock()
		return scheduler.ErrClosed
	}
	g.waiting = append(g.waiting, c)
	first := !g.busy
	g.busy = true
	g.mu.Unlock()
	if first {
		g.run(c)
		return c.err
	}
	select {
	case lead := <-c.wake:
		if lead {
			g.run(c)
		}
		return c.err
	case <-ctx.Done():
	}
	if g.withdraw(c) {
		return ctx.Err()
	}
	<-c.wake
	return c.err
}

func (g *group) withdraw(c *call) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.taken {
		return false
	}
	g.waiting = slices.DeleteFunc(g.waiting, func(o *call) bool { return o == c })
	select {
	case <-c.wake:
		g.passOn()
	default:
	}
	return true
}

// passOn gives the turn to the longest waiting. The caller has the turn, and
// g.mu.
func (g *group) passOn() {
	if len(g.waiting) > 0 {
		g.waiting[0].wake <- true
		return
	}
	g.busy = false
	if g.closed {
		close(g.idle)
	}
}

// maxYields bounds how often a leader lets others go first.
const maxYields = 100

// gather waits for those who are expected, for a fraction of what a commit takes.
// The caller has the turn, and g.mu.
func (g *group) gather() {
	expected := min(g.present, groupMax)
	if expected <= 2 || len(g.waiting) >= expected {
		return
	}
	begin := time.Now()
	for i := 0; i < maxYields && len(g.waiting) < expected && time.Since(begin) < g.took/4; i++ {
		g.mu.Unlock()
		runtime.Gosched()
		g.mu.Lock()
	}
}

// run commits one batch. Its caller's command is the first that waits.
func (g *group) run(mine *call) {
	g.mu.Lock()
	g.gather()
	n := min(len(g.waiting), groupMax)
	g.calls, g.batch, g.errs = append(g.calls[:0], g.waiting[:n]...), g.batch[:0], g.errs[:0]
	g.waiting = slices.Delete(g.waiting, 0, n)
	for _, c := range g.calls {
		c.taken = true
		g.batch, g.errs = append(g.batch, c.cmd), append(g.errs, nil)
	}
	g.mu.Unlock()

	begin := time.Now()
	g.commit(g.batch, g.errs)
	took := time.Since(begin)

	for i, c := range g.calls {
		if c.err = g.errs[i]; c != mine {
			c.wake <- false
		}
	}
	clear(g.calls)
	clear(g.batch)
	clear(g.errs)
	g.mu.Lock()
	g.took, g.present = took, n+len(g.waiting)
	g.passOn()
	g.mu.Unlock()
}

// close lets nobody in any more, and waits until all that were in have their
// outcome.
func (g *group) close() {
	g.mu.Lock()
	if !g.closed {
		g.closed = true
		if !g.busy {
			close(g.idle)
		}
	}
	g.mu.Unlock()
	<-g.idle
}
