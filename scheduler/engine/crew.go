package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/vagoth/vagoth/internal/journal"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// Crew is who calls the functions of jobs, where that is not this process alone. An
// engine with a crew has hand-outs in its log before anybody outside of this process is
// told of them, and when it is opened again the attempts that members had are theirs still: it asks
// them what became of each.
type Crew interface {
	// Alive names the members that there are when the engine is opened. What the
	// others had is lost.
	Alive() []string
	// Choose names the member that is to have a job of the queue. It is called
	// with the engine locked, returns at once, and is followed by one Call.
	Choose(queue string) string
	// Over is told that an attempt of the member has ended, and that the end is in
	// the log. It is called with the engine locked.
	Over(member, job string, token trail.Token)
	// Call has the member call the job's function, and returns its answer.
	// ErrLost says that there will be none; an ErrHandedBack, that the member gives the
	// job back. What ends ctx is passed on to the function, which is still waited for.
	Call(ctx context.Context, c Call) (result any, err error)
}

// Call is an attempt for a member of a crew.
type Call struct {
	Member string
	Again  bool           // it began before the engine was opened, and is only to be found
	Job    scheduler.Job  // its trail has attempt and token
	Task   scheduler.Task // takes what the function tells; it is a scheduler.Limiter too
	// Record returns when the hand-out is in the log. Without it, whoever opens the
	// engine next knows nothing of the attempt.
	Record func(context.Context) error
}

// ErrLost is the answer of an attempt that ended without one.
var ErrLost = errors.New("the attempt ended without an answer")

// ErrNotBegun is the answer of a member that was never told of the attempt.
var ErrNotBegun = fmt.Errorf("the attempt had not begun: the job is %w", scheduler.ErrHandedBack)

// Members says how many members the crew has, each of which takes as many jobs as
// this process would alone, and whether they take only what was submitted through
// this process. An engine with a crew begins with none, and what Run is told of that is
// not heeded.
func (b *Engine) Members(n int, submitted bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.parallel = n * b.cfg.Parallel
	if r := &b.runner; r.options.Submitted != submitted {
		r.options.Submitted = submitted
		r.refresh()
	}
	b.dispatch()
	b.settle()
}

// Fail says that the log takes nothing more: this engine is not the one that may
// write to it. Run ends, nothing is handed out, and every change is refused.
func (b *Engine) Fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.breaks(fmt.Errorf("%w: %w", journal.ErrFailed, err))
}

// As is ctx in the hands of the function that has the job with this token, so that
// what it submits and waits for counts as its. If that attempt does not run, it is ctx.
func (b *Engine) As(ctx context.Context, job string, token trail.Token) context.Context {
	b.mu.Lock()
	defer b.mu.Unlock()
	if j := b.core.jobs[job]; j != nil && j.run != nil && j.run.task != nil && j.run.token == token {
		return context.WithValue(ctx, callerKey{}, j.run.task)
	}
	return ctx
}

// Attempts is how many attempts each member of the crew has.
func (b *Engine) Attempts() map[string]int {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := map[string]int{}
	for _, q := range b.busy {
		if j := q.holder; j != nil && !j.run.remote {
			n[j.run.worker]++
		}
	}
	return n
}

// Holds reports whether the attempt has not ended.
func (b *Engine) Holds(job string, token trail.Token) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	j := b.core.jobs[job]
	return j != nil && j.run != nil && j.run.token == token
}

// adopt goes on with the attempts that members of the crew had when the engine was
// opened. The caller holds the mutex, and the runner is active.
func (b *Engine) adopt() {
	if b.crew == nil {
		return
	}
	for _, q := range b.busy {
		if j := q.holder; j != nil && !j.run.remote && j.run.task == nil {
			b.runner.start(j, true)
		}
	}
}

// delegate has a member of the crew call the function.
func (t *task) delegate() (any, error) {
	b := t.b
	return b.crew.Call(t.ctx, Call{Member: t.run.worker, Again: t.again, Job: t.job, Task: t, Record: b.recorded})
}

// recorded returns when what was handed out so far is in the log.
func (b *Engine) recorded(ctx context.Context) error { return b.do(ctx, flushCmd{}) }

// flushCmd writes what was applied already.
type flushCmd struct{}

func (flushCmd) alone() bool { return false }

func (flushCmd) prepare(_ *Engine, t *tx) error {
	t.flush = true
	return nil
}
