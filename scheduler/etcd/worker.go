package etcd

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"sync"

	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/scheduler/engine"
	"github.com/vagoth/vagoth/trail"
)

// weigh is how much a queue tends to a manager.
func weigh(queue, name string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(name + "\x00" + queue)) // never fails
	return h.Sum64()
}

// worker calls functions for a manager that leads elsewhere. What it has begun it
// brings to its end also when the leader is gone: the next one asks for it.
type worker struct {
	s *Scheduler

	mu      sync.Mutex
	active  bool // Run runs
	ending  bool
	options scheduler.RunOptions
	gone    chan struct{} // closed when Run has ended
	has     map[ref]*attempt
	change  chan struct{} // closed when an attempt has ended
	work    sync.WaitGroup
}

// attempt is a function that runs here for another manager, or has ended and that
// one has not been told.
type attempt struct {
	w       *worker
	at      ref
	session string
	job     scheduler.Job
	ctx     context.Context
	cancel  context.CancelCauseFunc
	done    chan struct{} // closed when result and err are set
	result  any
	err     error

	mu     sync.Mutex
	told   []told // and not sent
	number uint64
	more   chan struct{} // has room for one
}

// told is progress, or a line of a log.
type told struct {
	Number  uint64 `json:"number"`
	Line    bool   `json:"line,omitempty"`
	Percent int    `json:"percent,omitempty"`
	Text    string `json:"text"`
}

// maxTold bounds what waits to be sent.
const maxTold = 2000

func newWorker(s *Scheduler) *worker {
	return &worker{s: s, has: map[ref]*attempt{}, change: make(chan struct{})}
}

// Run implements scheduler.Runner.
func (s *Scheduler) Run(ctx context.Context, o scheduler.RunOptions) error {
	w := s.worker
	w.mu.Lock()
	switch {
	case s.closing.Err() != nil:
		w.mu.Unlock()
		return scheduler.ErrClosed
	case w.active:
		w.mu.Unlock()
		return fmt.Errorf("%w: its jobs are being run already: only one Run at a time", scheduler.ErrConflict)
	}
	w.active, w.ending, w.options, w.gone = true, false, o, make(chan struct{})
	w.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(s.closing, cancel)()
	var under *session // that orders may have come under
	for ctx.Err() == nil {
		v := s.current()
		if b := v.boss(); b != nil {
			under = v.session
			if left := w.serve(ctx, v.session, b, o); left {
				under = nil
			}
			s.pause(ctx, v)
			continue
		}
		select {
		case <-v.next:
		case <-ctx.Done():
		}
	}
	w.finish()
	if under != nil {
		w.bye(under)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.active = false
	close(w.gone)
	return nil
}

// wait returns when Run has ended.
func (w *worker) wait() {
	w.mu.Lock()
	gone := w.gone
	w.mu.Unlock()
	if gone != nil {
		<-gone
	}
}

// boss is who leads: this manager's crew, or the way to another.
type boss interface {
	join(ctx context.Context, name string, submitted bool, has []ref, do func(order) error) error
	left(ctx context.Context, name string) error
	bye(ctx context.Context, name string) error
}

func (v *view) boss() boss {
	switch {
	case v.office != nil:
		return v.office.crew
	case v.link != nil:
		return v.link
	}
	return nil
}

// bye tells whoever leads that this manager has nothing, as the one who led when Run
// ended did not hear of it: it may have meant to give it jobs. It tries for as long as
// calls wait for a leader; then such jobs count as lost when the session has ended.
func (w *worker) bye(v *session) {
	ctx, cancel := context.WithTimeout(inside(v.alive), w.s.patience())
	defer cancel()
	for ctx.Err() == nil {
		now := w.s.current()
		if now.session != v {
			return
		}
		if b := now.boss(); b != nil && b.bye(ctx, v.name) == nil {
			return
		}
		w.s.pause(ctx, now)
	}
	if v.alive.Err() == nil {
		w.s.log.Warn("scheduler: nobody who leads was told that this manager ends", "waited", w.s.patience())
	}
}

// serve does what the leader says, until it is gone or ctx ends; then it leaves in
// good order, and reports whether the leader knows.
func (w *worker) serve(ctx context.Context, v *session, b boss, o scheduler.RunOptions) (left bool) {
	joined, cancel := context.WithCancel(v.alive)
	defer cancel()
	leaving := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(leaving)
		defer cancel()
		w.stopAll()
		// The orders still come until all has ended.
		err := b.left(joined, v.name)
		left = err == nil
		if err != nil && v.alive.Err() == nil {
			w.s.log.Debug("scheduler: who leads was not told that this manager ends; the next one is", "err", err)
		}
	})
	err := b.join(joined, v.name, o.Submitted, w.refs(v.name), func(o order) error {
		w.take(v, o)
		return nil
	})
	if err != nil && joined.Err() == nil {
		w.s.log.Debug("scheduler: who leads is gone", "err", err)
	}
	if !stop() {
		<-leaving
	}
	return left
}

// refs are the attempts that it has under a session.
func (w *worker) refs(session string) []ref {
	w.mu.Lock()
	defer w.mu.Unlock()
	list := []ref{}
	for at, a := range w.has {
		if a.session == session {
			list = append(list, at)
		}
	}
	return list
}

// take does what an order says.
func (w *worker) take(v *session, o order) {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.has[o.Ref]
	switch {
	case o.Begin != nil && a == nil:
		job := *o.Begin
		ctx, cancel := context.WithCancelCause(trail.With(context.Background(), job.Trail))
		a = &attempt{w: w, at: o.Ref, session: v.name, job: job, cancel: cancel, done: make(chan struct{}), more: make(chan struct{}, 1)}
		a.ctx = context.WithValue(ctx, callerKey{}, o.Ref)
		w.has[o.Ref] = a
		if w.ending {
			cancel(errStopping)
		}
		w.work.Go(a.run)
	case o.Cancel != nil && a != nil:
		a.cancel(o.Cancel.err())
	}
}

// stopAll tells every function that the manager ends.
func (w *worker) stopAll() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ending = true
	for _, a := range w.has {
		a.cancel(errStopping)
	}
}

// finish ends all, and waits for it.
func (w *worker) finish() {
	w.stopAll()
	w.work.Wait()
}

var errAbandoned = errors.New("this manager was taken for dead, and its jobs were given to others")

// abandon ends what was begun under a session that has ended.
func (w *worker) abandon(session string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range w.has {
		if a.session == session {
			a.cancel(errAbandoned)
		}
	}
}

// run calls the function, and tells the leader until it has heard.
func (a *attempt) run() {
	var sending sync.WaitGroup
	sending.Go(a.send)
	returned := false
	defer func() { // also when the function leaves its goroutine
		if !returned {
			a.err = engine.PanicError("it left its goroutine")
		}
		close(a.done)
		sending.Wait()
		a.cancel(nil)
		a.w.mu.Lock()
		defer a.w.mu.Unlock()
		delete(a.w.has, a.at)
	}()
	action, ok := a.w.s.deps.Actions[a.job.Action]
	if !ok || action.Run == nil {
		a.err = &scheduler.FinalError{Err: fmt.Errorf("this manager knows no action %q: give all managers the same configuration", a.job.Action)}
	} else {
		a.result, a.err = engine.Guard(a.ctx, a.w.s.log, a.job, func() (any, error) { return action.Run(a.ctx, a) })
	}
	returned = true
}

// send sends what the function tells, in its order, and its answer at the end.
func (a *attempt) send() {
	for ended := false; !ended; {
		select {
		case <-a.more:
		case <-a.done:
			ended = true
		}
		a.mu.Lock()
		list := a.told
		a.told = nil
		a.mu.Unlock()
		if len(list) > 0 {
			_ = a.deliver(func(ctx context.Context) error { return a.w.s.tell(ctx, a.at, list) }) // nobody is left who keeps it
		}
	}
	_ = a.deliver(func(ctx context.Context) error { return a.w.s.answer(ctx, a.session, a.at, newAnswer(a)) }) // who leads finds out
}

// deliver says it until somebody has heard, or the session is over.
func (a *attempt) deliver(say func(context.Context) error) error {
	for {
		now := a.w.s.current()
		v := now.session
		if v == nil || v.name != a.session || v.alive.Err() != nil {
			return errAbandoned
		}
		ctx := inside(v.alive)
		if err := say(ctx); err == nil {
			return nil
		}
		a.w.s.pause(ctx, now)
	}
}

// newAnswer is what is told of an attempt that has ended.
func newAnswer(a *attempt) *answer {
	err := back(a.ctx, a.err)
	if err == nil {
		doc, failed := engine.Document(a.result)
		if failed == nil {
			return &answer{Result: doc}
		}
		err = failed
	}
	return &answer{Err: newFarError(err), Final: scheduler.IsFinal(err), Back: errors.Is(err, errStopping)}
}

// Job implements scheduler.Task.
func (a *attempt) Job() scheduler.Job { return a.job }

// Progress implements scheduler.Task.
func (a *attempt) Progress(percent int, text string) { a.say(told{Percent: percent, Text: text}) }

// Log implements scheduler.Task.
func (a *attempt) Log(text string) { a.say(told{Line: true, Text: text}) }

func (a *attempt) say(t told) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.number++; len(a.told) < maxTold {
		t.Number = a.number
		a.told = append(a.told, t)
	}
	select {
	case a.more <- struct{}{}:
	default:
	}
}

// TakeLimits implements scheduler.Limiter.
func (a *attempt) TakeLimits(ctx context.Context, names ...string) error {
	return a.w.s.takeLimits(ctx, a.at, names)
}
