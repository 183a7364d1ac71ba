package broker

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
	last    int           // commands of the last commit
	before  int           // and of the one before
	took    time.Duration // the last commit

	batch []command // of who has the turn
	errs  []error
}

type call struct {
	cmd   command
	taken bool
	lead  chan struct{} // has room for one: it is this one's turn
	done  chan error    // has room for one
}

func newGroup(commit func([]command, []error)) *group {
	return &group{commit: commit, idle: make(chan struct{})}
}

// do commits cmd and waits for its outcome. If ctx ends before that begins, the
// command is withdrawn.
func (g *group) do(ctx context.Context, cmd command) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c := &call{cmd: cmd, lead: make(chan struct{}, 1), done: make(chan error, 1)}
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
		g.run()
		return <-c.done
	}
	select {
	case err := <-c.done:
		return err
	case <-c.lead:
		g.run()
		return <-c.done
	case <-ctx.Done():
	}
	if g.withdraw(c) {
		return ctx.Err()
	}
	return <-c.done
}

func (g *group) withdraw(c *call) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c.taken {
		return false
	}
	g.waiting = slices.DeleteFunc(g.waiting, func(o *call) bool { return o == c })
	select {
	case <-c.lead:
		g.passOn()
	default:
	}
	return true
}

// passOn gives the turn to the longest waiting. The caller has the turn, and
// g.mu.
func (g *group) passOn() {
	if len(g.waiting) > 0 {
		g.waiting[0].lead <- struct{}{}
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
	expected := min(g.last+g.before, groupMax)
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
func (g *group) run() {
	g.mu.Lock()
	g.gather()
	n := min(len(g.waiting), groupMax)
	calls := slices.Clone(g.waiting[:n])
	g.waiting = slices.Delete(g.waiting, 0, n)
	g.batch, g.errs = g.batch[:0], g.errs[:0]
	for _, c := range calls {
		c.taken = true
		g.batch, g.errs = append(g.batch, c.cmd), append(g.errs, nil)
	}
	g.before, g.last = g.last, n
	g.mu.Unlock()

	begin := time.Now()
	g.commit(g.batch, g.errs)
	took := time.Since(begin)

	for i, c := range calls {
		c.done <- g.errs[i]
	}
	clear(g.batch)
	g.mu.Lock()
	g.took = took
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
