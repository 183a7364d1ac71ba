package engine

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	gosync "sync"
	"time"

	"github.com/vagoth/vagoth/internal/journal"
	"github.com/vagoth/vagoth/scheduler"
)

// Engine is the scheduler.
type Engine struct {
	cfg     settings
	actions map[string]scheduler.Action
	log     *slog.Logger
	now     func() time.Time
	began   time.Time // for the monotonic clock

	journal Log     // nil for one in memory
	crew    Crew    // nil if the functions of jobs are called here
	drafts  *drafts // nil if packages that are being built stand in the log
	group   *group
	work    gosync.WaitGroup // what runs beside the callers
	tx      tx               // of the command that has the turn to commit

	mu        gosync.Mutex
	thawed    *gosync.Cond // frozen became false
	core      *core
	busy      []*queue // those that are not idle
	lanes     lanes
	waiters   waiters
	limits    map[string]*limit
	runner    runner
	parallel  int // jobs that the runner has at once
	events    events
	waits     map[*job]chan struct{} // closed when the job ends
	logs      map[*job]chan struct{} // closed when there are more lines, or it changes
	awaits    map[*job]map[*job]int  // jobs for which functions of others wait
	ride      []record               // applied, and not written yet
	frozen    bool                   // nothing is handed out
	closing   bool                   // nothing is taken any more
	closed    bool
	broken    error         // the journal failed: nothing can be written any more
	dead      chan struct{} // closed then
	snapping  bool
	stopSnap  context.CancelFunc // of the snapshot that is being written
	lastSnap  int64              // bytes
	snapEvery int64

	timers     timers
	alarm      *time.Timer
	alarmAt    int64
	flushTimer *timer
	pruneTimer *timer
}

var (
	_ scheduler.Scheduler      = (*Engine)(nil)
	_ scheduler.Runner         = (*Engine)(nil)
	_ scheduler.Broker         = (*Engine)(nil)
	_ scheduler.Operator       = (*Engine)(nil)
	_ scheduler.QueueInspector = (*Engine)(nil)
	_ scheduler.Builder        = (*Engine)(nil)
	_ scheduler.Watcher        = (*Engine)(nil)
	_ scheduler.LogFollower    = (*Engine)(nil)
	_ scheduler.Server         = (*Engine)(nil)
)

// Log is where the records are kept: a journal on the disk, or what behaves as
// one. A record that was acknowledged is there when the log is opened again, after
// all that were acknowledged before it. An error that is journal.ErrFailed says
// that the log can take nothing more, and that what it was last given may be in it
// or not; after any other error nothing of that is in it.
type Log interface {
	// AppendBatch appends the records, all or none, as the only caller.
	AppendBatch(ctx context.Context, records [][]byte) (last uint64, err error)
	// WriteSnapshot takes the place of all records up to index. It runs beside
	// AppendBatch.
	WriteSnapshot(ctx context.Context, index uint64, records iter.Seq2[[]byte, error]) error
	Stats() journal.Stats
	Close() error
}

// Ground is what an engine stands on.
type Ground struct {
	// Open opens the log and gives the loader what it holds.
	Open func(ctx context.Context, load journal.Loader) (Log, error)
	// SnapshotEvery is how many bytes of log there are at least between two
	// snapshots; 0 is 64 MiB.
	SnapshotEvery int64
	// Drafts is the file for packages that are being built. Without one they stand in
	// the log, and each step waits until it is on disk.
	Drafts string
	// Boot names the boot of the machine; see scratch.Boot.
	Boot string
	// Crew is nil where functions run in this process and end with it.
	Crew Crew
}

// groupMax is how many commands are committed at once.
const groupMax = 1024

// snapshotEvery is how much log there is at least between two snapshots.
const snapshotEvery = 64 << 20

// Open opens the scheduler that a log holds, and makes it if the log is empty. It
// hands out nothing to workers of this process before Run.
func Open(ctx context.Context, cfg Config, deps scheduler.Deps, on Ground) (*Engine, error) {
	b := newEngine(cfg, deps)
	if b.snapEvery = on.SnapshotEvery; b.snapEvery == 0 {
		b.snapEvery = snapshotEvery
	}
	if b.crew = on.Crew; b.crew != nil {
		b.parallel = 0
	}
	load := &loader{core: b.core}
	j, err := on.Open(ctx, load)
	if err != nil {
		return nil, err
	}
	b.journal = j
	b.lastSnap = load.bytes
	if to := b.core.retired; to != "" {
		err = &scheduler.RetiredError{To: to}
	}
	if err == nil && on.Drafts != "" {
		err = b.openDrafts(on.Drafts, on.Boot)
	}
	if err == nil {
		err = b.start()
	}
	if err == nil {
		err = b.tidyDrafts()
	}
	if err != nil {
		if b.drafts != nil {
			err = errors.Join(err, b.drafts.log.Leave())
		}
		return nil, errors.Join(err, j.Close())
	}
	return b, nil
}

// Memory returns an engine that keeps nothing on disk, for tests and
// experiments.
func Memory(cfg Config, deps scheduler.Deps) *Engine {
	b := newEngine(cfg, deps)
	_ = b.start() // only a disk can refuse
	return b
}

func newEngine(cfg Config, deps scheduler.Deps) *Engine {
	b := &Engine{
		actions: deps.Actions, log: deps.Log, now: deps.Now, began: time.Now(),
		lanes: newLanes(), waiters: waiters{byQueue: map[string][]*waiter{}, byAction: map[string][]*waiter{}},
		dead: make(chan struct{}), limits: map[string]*limit{}, waits: map[*job]chan struct{}{}, logs: map[*job]chan struct{}{}, awaits: map[*job]map[*job]int{},
	}
	b.cfg.set(cfg.withDefaults())
	b.parallel = b.cfg.Parallel
	if b.log == nil {
		b.log = slog.New(slog.DiscardHandler)
	}
	if b.now == nil {
		b.now = time.Now
	}
	b.thawed = gosync.NewCond(&b.mu)
	b.core = newCore(&b.cfg, b.isRemote)
	b.runner.b = b
	b.group = newGroup(b.commit)
	return b
}

// start begins a new epoch over what was loaded.
func (b *Engine) start() error {
	c := b.core
	at := b.now()
	store := c.store
	if store == "" {
		store = rand.Text()[:12]
	}
	// The time makes the epochs of two copies of a store differ.
	epoch := max(c.epoch+1, uint64(max(at.UnixMilli(), 1)))
	begin := &opened{store: store, epoch: epoch, at: at.UnixNano()}
	if b.crew != nil {
		begin.kept = b.crew.Alive()
	}
	moved, gone := b.inLog()
	err := b.do(context.Background(), &plain{records: append([]record{begin}, gone...)})
	if err != nil {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, r := range moved {
		if err := r.apply(c); err != nil {
			return err
		}
	}
	c.live, c.since = true, counters{}
	b.events.begin(c.store, c.epoch)
	for j := c.table.after(0); j != nil; j = c.table.after(j.seq) {
		if j.state.ended() {
			continue
		}
		if j.run != nil {
			b.restartLease(j)
		}
		b.arm(j)
		if j.ready() && int(j.lost) >= b.cfg.MaxLost {
			b.setTimer(&j.timer, b.mono(), timer{job: j})
		}
	}
	for _, q := range c.queues {
		c.touchQueue(q)
	}
	for p := c.packs.first; p != nil; p = p.next {
		b.armPack(p)
	}
	for c.ended.n > b.cfg.HistoryCount {
		if before := c.ended.n; b.prune(4096) == before {
			break
		}
	}
	b.prune(4096)
	b.settle()
	return nil
}

// restartLease gives a worker outside its full time again, since nobody knows how
// long the engine was away, and its limits to every attempt that goes on.
func (b *Engine) restartLease(j *job) {
	r := j.run
	if r.remote {
		r.until, r.wall = b.mono()+int64(r.length), b.now().Add(r.length).UnixNano()
		if t := j.timeout(); t > 0 {
			r.deadline = b.mono() + int64(t)
		}
	}
	for _, name := range j.limits() {
		l := b.limit(name)
		l.taken = append(l.taken, j)
		r.held = append(r.held, l)
	}
}

// loader takes what the journal holds.
type loader struct {
	core  *core
	bytes int64 // of the snapshot
}

// Restore implements journal.Loader.
func (l *loader) Restore(index uint64, records iter.Seq2[[]byte, error]) error {
	r := &restorer{c: l.core, packs: map[string]*pack{}}
	n := 0
	for rec, err := range records {
		if err != nil {
			return err
		}
		n++
		l.bytes += int64(len(rec))
		if err := r.one(rec); err != nil {
			return fmt.Errorf("record %d of the snapshot of record %d cannot be read: %w", n, index, err)
		}
	}
	if err := r.done(); err != nil {
		return fmt.Errorf("the snapshot of record %d does not fit together: %w", index, err)
	}
	return nil
}

// Replay implements journal.Loader.
func (l *loader) Replay(index uint64, rec []byte) error {
	applied := false
	err := unbundle(rec, func(one []byte) error {
		r, err := decode(&dec{b: one, name: l.core.wordOf})
		if err != nil {
			return err
		}
		applied = true
		return r.apply(l.core)
	})
	switch {
	case err != nil && applied:
		return fmt.Errorf("record %d cannot be applied: %w", index, err)
	case err != nil:
		return fmt.Errorf("record %d cannot be read: %w", index, err)
	}
	return nil
}

// isRemote reports whether only workers outside get jobs of the action in the
// queue.
func (b *Engine) isRemote(action string, q *queue) bool {
	return q.cfg.Remote || b.actions[action].Remote
}

// Close ends what Run does, gives the jobs back whose functions stop for it, wakes
// all that wait, and releases the store. It is not to be called by a handler.
func (b *Engine) Close() error {
	b.mu.Lock()
	if b.closing {
		b.mu.Unlock()
		b.work.Wait()
		return nil
	}
	b.closing = true
	gone := b.runner.stop()
	b.mu.Unlock()
	<-gone

	size, err := b.closeDrafts()
	if err == nil { // else it is as if the process had been killed
		err = b.do(context.Background(), &plain{records: []record{&closed{b.now().UnixNano(), size}}})
	}
	if errors.Is(err, journal.ErrFailed) {
		err = nil // Run, and whoever wanted something, was told
	}
	b.mu.Lock()
	b.closed = true
	for _, w := range b.waiters.all() {
		w.err = scheduler.ErrClosed
		b.waiters.remove(w)
		close(w.done)
	}
	b.events.close()
	for j, ch := range b.waits {
		delete(b.waits, j)
		close(ch)
	}
	for j := range b.logs {
		b.wakeLog(j)
	}
	b.thawed.Broadcast()
	b.setAlarm()
	b.mu.Unlock()
	b.group.close()
	if b.stopSnap != nil {
		b.stopSnap()
	}
	b.work.Wait()
	if b.journal != nil {
		err = errors.Join(err, b.journal.Close())
	}
	if err != nil {
		return fmt.Errorf("cannot close the scheduler: %w", err)
	}
	return nil
}
