package etcd

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/vagoth/vagoth/internal/etcdclient"
	"github.com/vagoth/vagoth/internal/journal"
	"github.com/vagoth/vagoth/internal/testlong"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/scheduler/engine"
	"github.com/vagoth/vagoth/test/etcdtest"
	"github.com/vagoth/vagoth/trail"
)

// stoppable is etcd for a manager that can be held up: meanwhile it learns nothing of
// its session and of the others, as if its process were stopped, while what it has on
// its way still arrives.
type stoppable struct {
	direct
	mu   sync.Mutex
	held chan struct{} // closed when it goes on; nil if it is not held
}

func (s *stoppable) hold() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held = make(chan struct{})
}

func (s *stoppable) goOn() {
	s.mu.Lock()
	defer s.mu.Unlock()
	close(s.held)
	s.held = nil
}

func (s *stoppable) wait(ctx context.Context) error {
	s.mu.Lock()
	held := s.held
	s.mu.Unlock()
	if held == nil {
		return nil
	}
	select {
	case <-held:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *stoppable) KeepAlive(ctx context.Context, id clientv3.LeaseID) error {
	if err := s.wait(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	return s.direct.KeepAlive(ctx, id)
}

func (s *stoppable) Changed(ctx context.Context, prefix string, after int64) error {
	return errors.Join(s.direct.Changed(ctx, prefix, after), s.wait(ctx))
}

// shortest is the least session that etcd grants.
const shortest = 2 * time.Second

// cluster is managers in real time over a real etcd.
type cluster struct {
	t        *testing.T
	cfg      Config
	deps     scheduler.Deps
	managers []*Scheduler
	stores   []*stoppable
	snapshot int64 // how many bytes of log make one
	work     sync.WaitGroup
	ctx      context.Context
	stop     context.CancelFunc
}

func newCluster(t *testing.T, session time.Duration, actions map[string]scheduler.Action) *cluster {
	t.Helper()
	c := &cluster{t: t, snapshot: 4 << 10, cfg: Defaults(), deps: scheduler.Deps{Actions: actions}}
	c.cfg.Endpoints = []string{etcdtest.Embedded(t)}
	c.cfg.Session = session
	c.cfg.Queues = map[string]engine.QueueConfig{"r-*": {Remote: true}}
	c.ctx, c.stop = context.WithCancel(context.Background())
	t.Cleanup(func() {
		c.stop()
		c.work.Wait()
		for _, m := range c.managers {
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return c
}

// add opens one more, whose Run runs.
func (c *cluster) add(run bool) *Scheduler {
	c.t.Helper()
	client, err := etcdclient.Config{Endpoints: c.cfg.Endpoints, Timeout: 10 * time.Second}.Client(time.Second)
	if err != nil {
		c.t.Fatal(err)
	}
	n, err := newTLS(c.cfg)
	if err != nil {
		c.t.Fatal(err)
	}
	st := &stoppable{direct: direct{client, 10 * time.Second}}
	m, err := open(c.t.Context(), c.cfg, c.deps, st, n, c.snapshot)
	if err != nil {
		c.t.Fatal(err)
	}
	c.managers, c.stores = append(c.managers, m), append(c.stores, st)
	if run {
		c.work.Go(func() {
			if err := m.Run(c.ctx, scheduler.RunOptions{}); err != nil {
				c.t.Error(err)
			}
		})
	}
	return m
}

// leader waits for one that leads and is not the given, and returns its place.
func (c *cluster) leader(but int, within time.Duration) int {
	c.t.Helper()
	for end := time.Now().Add(within); time.Now().Before(end); {
		for i, m := range c.managers {
			if o := m.current().office; i != but && o != nil && o.session.valid() {
				return i
			}
		}
		time.Sleep(5 * time.Millisecond)
	}
	c.t.Fatalf("nobody leads within %s", within)
	return -1
}

// Whoever was deposed and does not know it yet writes nothing: no commit, and no
// snapshot, which would take away what others have written since.
func TestDeposedLeaderWritesNothing(t *testing.T) {
	// Whoever meets a log with a commit that is not its own may wait for ever.
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	c := newCluster(t, time.Minute, nil)
	a := c.add(false)
	first := c.leader(-1, time.Minute)
	submit := func(m target, id string) error {
		_, err := m.Submit(ctx, scheduler.Package{Jobs: []scheduler.Job{{ID: id, Queue: "r-q", Action: "x"}}})
		return err
	}
	if err := submit(a, "before"); err != nil {
		t.Fatal(err)
	}
	old := a.current().office
	log := &etcdLog{st: a.st, keys: a.keys, term: old.term, lease: old.session.lease, alive: context.Background()}
	b := c.add(false)
	c.stores[first].hold()
	if err := a.st.Revoke(ctx, old.session.lease); err != nil {
		t.Fatal(err)
	}
	c.leader(first, time.Minute)
	for i := range 20 {
		if err := submit(b, fmt.Sprint("after", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := submit(old.engine, "late"); !errors.Is(err, journal.ErrFailed) {
		t.Errorf("the commit of a deposed leader: %v", err)
	}
	log.stats.LastIndex = 1000 // a commit that nobody else has written
	if _, err := log.AppendBatch(ctx, [][]byte{{1}}); !errors.Is(err, journal.ErrFailed) {
		t.Errorf("a commit of a deposed leader that is none of another's: %v", err)
	}
	none := iter.Seq2[[]byte, error](func(func([]byte, error) bool) {})
	if err := log.WriteSnapshot(ctx, 1, none); !errors.Is(err, journal.ErrFailed) {
		t.Errorf("the snapshot of a deposed leader: %v", err)
	}
	c.stores[first].goOn()
	if t.Failed() {
		t.Fatal("a deposed leader has written: its term is not compared, and the log is of no use to the one that leads")
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	d := c.add(false)
	for _, id := range []string{"before", "after0", "after19"} {
		if st, err := d.Status(ctx, id); err != nil || st.State != scheduler.Waiting {
			t.Errorf("%s is %s, %v", id, st.State, err)
		}
	}
	if _, err := d.Status(ctx, "late"); !errors.Is(err, scheduler.ErrNotFound) {
		t.Errorf("what the deposed leader took: %v", err)
	}
}

// fence is a host's end of the calls: it refuses the lower token, and notes what it
// should not see.
type fence struct {
	mu    sync.Mutex
	last  map[string]trail.Token
	begun map[string]map[trail.Token]int // by queue: functions that have not returned, and whose they are
	wrong []string
	calls int
}

func (f *fence) enter(manager int, queue string, t trail.Token) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.begun[queue] == nil {
		f.begun[queue] = map[trail.Token]int{}
	}
	f.begun[queue][t] = manager
}

func (f *fence) exit(queue string, t trail.Token) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.begun[queue], t)
}

// dies excuses what a manager does that is taken for dead from now on: its calls are
// refused once there is a greater token.
func (f *fence) dies(manager int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, begun := range f.begun {
		for t, m := range begun {
			if m == manager {
				delete(begun, t)
			}
		}
	}
}

// call is false if it is refused.
func (f *fence) call(queue string, t trail.Token) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls++
	if t.Compare(f.last[queue]) < 0 {
		return false
	}
	f.last[queue] = t
	for o, m := range f.begun[queue] {
		if o != t {
			f.wrong = append(f.wrong, fmt.Sprintf("queue %s: the job with token %s works while that with %s does, of manager %d, which lives", queue, t, o, m))
		}
	}
	return true
}

// TestTakeover ends the term of one leader after the other while jobs are submitted
// through all managers, and run by them: its lease is revoked, or it is held up for
// longer than its session. Somebody leads within two sessions, every job ends, tokens
// never decrease, and of a queue no two jobs run at once, but for one that a manager
// did not let go which was taken for dead: its calls are refused.
func TestTakeover(t *testing.T) {
	rnd := rand.New(rand.NewSource(testlong.Seed(t))) //nolint:gosec // a test's choices
	f := &fence{last: map[string]trail.Token{}, begun: map[string]map[trail.Token]int{}}
	c := newCluster(t, shortest, nil)
	for i := range 3 {
		c.deps.Actions = map[string]scheduler.Action{"do": {Name: "do", Run: func(ctx context.Context, task scheduler.Task) (any, error) {
			tr, queue := trail.From(ctx), task.Job().Queue
			f.enter(i, queue, tr.Token)
			defer f.exit(queue, tr.Token)
			for range 5 {
				if !f.call(queue, tr.Token) {
					return nil, errors.New("fenced off")
				}
				if !sleep(ctx, 5*time.Millisecond) {
					return nil, context.Cause(ctx)
				}
			}
			return nil, nil
		}}}
		c.add(true)
	}
	ctx, enough := context.WithCancel(t.Context())
	var submitting sync.WaitGroup
	var mu sync.Mutex
	var taken []string
	for w := range 4 {
		submitting.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				id := fmt.Sprintf("w%d-%d", w, n)
				_, err := c.managers[n%len(c.managers)].Submit(context.WithoutCancel(ctx), scheduler.Package{Jobs: []scheduler.Job{
					{ID: id, Queue: fmt.Sprint("q", n%6), Action: "do", Retry: scheduler.Retry{Attempts: 10}},
				}})
				if err != nil {
					t.Errorf("%s: %v", id, err)
					return
				}
				mu.Lock()
				taken = append(taken, id)
				mu.Unlock()
				sleep(ctx, 50*time.Millisecond)
			}
		})
	}
	var longest time.Duration
	for round := range testlong.Count(t, 40) {
		i := c.leader(-1, time.Minute)
		old := c.managers[i].current().office
		if old == nil {
			continue // it has changed this moment
		}
		f.dies(i)
		begin := time.Now()
		how := []string{"revoked", "held"}[(round+rnd.Intn(2))%2]
		if how == "held" {
			c.stores[i].hold()
		} else if err := c.stores[i].Revoke(t.Context(), old.session.lease); err != nil {
			t.Error(err)
		}
		for c.managers[i].current().office == old || c.managers[i].current().office == nil && !c.others(i) {
			if time.Since(begin) > time.Minute {
				t.Fatalf("round %d (%s): the term does not end", round, how)
			}
			if how == "held" && c.others(i) {
				break
			}
			sleep(ctx, 5*time.Millisecond)
		}
		f.dies(i) // what it began in between
		took := time.Since(begin)
		longest = max(longest, took)
		if how == "held" {
			c.stores[i].goOn()
		}
		// Jobs run again, through the one that was deposed too.
		st, err := c.managers[i].Submit(t.Context(), scheduler.Package{Jobs: []scheduler.Job{{Queue: "q0", Action: "do", Retry: scheduler.Retry{Attempts: 10}}}})
		if err == nil {
			_, err = c.managers[i].Wait(t.Context(), st[0].ID)
		}
		if err != nil {
			t.Fatalf("round %d (%s): %v", round, how, err)
		}
	}
	enough()
	submitting.Wait()
	for _, id := range taken {
		st, err := c.managers[0].Wait(t.Context(), id)
		if err != nil || st.State != scheduler.Succeeded {
			t.Errorf("%s is %s (%s), %v", id, st.State, st.Error, err)
		}
	}
	t.Logf("%d jobs, %d calls; the longest time without a leader was %s, a session is %s", len(taken), f.calls, longest, shortest)
	for _, w := range f.wrong[:min(len(f.wrong), 20)] {
		t.Error(w)
	}
	const busy = 10 * time.Second // what other work on the machine may add
	if longest > 2*shortest+busy {
		t.Errorf("a takeover took %s", longest)
	}
}

// others reports whether another one than i leads.
func (c *cluster) others(i int) bool {
	for k, m := range c.managers {
		if o := m.current().office; k != i && o != nil && o.session.valid() {
			return true
		}
	}
	return false
}
