package engine

import (
	"context"
	"fmt"
	gosync "sync"

	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// runner is the workers of this process: as many goroutines as jobs run, each of
// which ends with its job. Everything in it is guarded by the engine's mutex.
type runner struct {
	b       *Engine
	active  bool
	ending  bool // it starts nothing more
	options scheduler.RunOptions
	used    int // jobs that run, but for those that wait for other jobs or for a limit
	tasks   map[*task]bool
	end     chan struct{} // closed to end Run
	gone    chan struct{} // closed when Run has ended
	work    *gosync.WaitGroup
}

// errStopping is the cause with which functions are told that the program ends.
var errStopping = fmt.Errorf("the program ends, the job is %w", scheduler.ErrHandedBack)

// Run implements scheduler.Runner.
func (b *Engine) Run(ctx context.Context, o scheduler.RunOptions) error {
	b.mu.Lock()
	r := &b.runner
	switch {
	case b.closing:
		b.mu.Unlock()
		return scheduler.ErrClosed
	case r.active:
		b.mu.Unlock()
		return fmt.Errorf("%w: its jobs are being run already: only one Run at a time", scheduler.ErrConflict)
	}
	r.active, r.ending, r.used = true, false, 0
	if b.crew == nil {
		r.options = o
	}
	r.tasks, r.work = map[*task]bool{}, &gosync.WaitGroup{}
	r.end, r.gone = make(chan struct{}), make(chan struct{})
	end, gone, work := r.end, r.gone, r.work
	b.adopt()
	r.refresh()
	b.mu.Unlock()

	select {
	case <-ctx.Done():
	case <-end:
	case <-b.dead:
	}
	b.mu.Lock()
	r.stop()
	b.mu.Unlock()
	work.Wait()
	b.mu.Lock()
	defer b.mu.Unlock()
	r.active = false
	r.refresh()
	close(gone)
	if b.broken != nil {
		return fmt.Errorf("the scheduler's store takes nothing any more: %w: open it again when the cause is gone", b.broken)
	}
	return nil
}

// stop ends what runs through its context, and starts nothing more. What it
// returns is closed when all has ended.
func (r *runner) stop() <-chan struct{} {
	if !r.active {
		none := make(chan struct{})
		close(none)
		return none
	}
	if !r.ending {
		r.ending = true
		close(r.end)
		for t := range r.tasks {
			t.cancel(errStopping)
		}
	}
	return r.gone
}

// refresh looks at every queue again, since who can have its next job has
// changed.
func (r *runner) refresh() {
	for _, q := range r.b.busy {
		r.b.core.touchQueue(q)
	}
	r.b.settle()
}

// takes reports whether the workers of this process run such a job now.
func (r *runner) takes(j *job) bool {
	return r.active && !r.ending && (j.mine || !r.options.Submitted)
}

// free reports whether one more may begin.
func (r *runner) free() bool { return r.active && !r.ending && r.used < r.b.parallel }

// start begins an attempt, or goes on with one. The caller holds the mutex.
func (r *runner) start(j *job, again bool) {
	b := r.b
	call := j.call()
	call.Trail = j.trail()
	ctx, cancel := context.WithCancelCause(trail.With(context.Background(), call.Trail))
	t := &task{b: b, j: j, run: j.run, job: call, cancel: cancel, again: again, end: r.end}
	t.ctx = context.WithValue(ctx, callerKey{}, t)
	j.run.task = t
	r.used++
	r.tasks[t] = true
	if d := j.timeout(); d > 0 {
		t.left = d
		t.startClock()
	}
	r.work.Go(t.attempt)
}
