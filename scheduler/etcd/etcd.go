package etcd

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/vagoth/vagoth/internal/journal"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/scheduler/engine"
	"github.com/vagoth/vagoth/scheduler/spin"
)

// Scheduler is the scheduler.
type Scheduler struct {
	cfg       Config
	deps      scheduler.Deps
	log       *slog.Logger
	now       func() time.Time
	st        store
	keys      layout
	net       network
	address   string
	snapEvery int64

	worker *worker
	server *http.Server
	served sync.WaitGroup // requests of other managers
	work   sync.WaitGroup
	stop   context.CancelFunc // of work

	closing context.Context // ended by Close
	close   context.CancelFunc
	once    sync.Once
	closed  error

	mu       sync.Mutex
	view     *view
	sealed   bool     // no request of another manager begins any more
	queueing Queueing // as last reloaded
}

var (
	_ scheduler.Scheduler      = (*Scheduler)(nil)
	_ scheduler.Runner         = (*Scheduler)(nil)
	_ scheduler.Broker         = (*Scheduler)(nil)
	_ scheduler.Operator       = (*Scheduler)(nil)
	_ scheduler.QueueInspector = (*Scheduler)(nil)
	_ scheduler.Builder        = (*Scheduler)(nil)
	_ scheduler.Watcher        = (*Scheduler)(nil)
	_ scheduler.LogFollower    = (*Scheduler)(nil)
	_ scheduler.Server         = (*Scheduler)(nil)
	_ scheduler.Shared         = (*Scheduler)(nil)
)

// view is what a manager knows of the others at a time.
type view struct {
	session *session
	leader  member
	office  *office // if this manager leads
	link    *link   // if another does
	members map[string]member
	err     error         // why it knows nothing
	next    chan struct{} // closed when there is another view
}

// office is a term of leading.
type office struct {
	session *session
	term    int64 // the revision that made its key
	engine  *engine.Engine
	crew    *crew
}

// snapshotEvery is how much log there is in etcd at least between two snapshots.
const snapshotEvery = 16 << 20

// Open joins the managers whose scheduler is in etcd, and makes it if there is
// none. It returns when it is known who leads. Nothing is handed to workers of this
// process before Run.
func Open(ctx context.Context, cfg Config, deps scheduler.Deps) (*Scheduler, error) {
	s, err := openDirect(ctx, cfg, deps)
	if err != nil {
		return nil, fmt.Errorf("cannot open the scheduler on etcd %v: %w", cfg.Endpoints, err)
	}
	return s, nil
}

func openDirect(ctx context.Context, cfg Config, deps scheduler.Deps) (*Scheduler, error) {
	st, n, err := reach(cfg)
	if err != nil {
		return nil, err
	}
	return open(ctx, cfg, deps, st, n, snapshotEvery)
}

// reach makes the ways to etcd and to the other managers. Nothing is asked yet.
func reach(cfg Config) (store, network, error) {
	if err := cfg.Validate(); err != nil {
		return nil, nil, err
	}
	if len(cfg.Endpoints) == 0 {
		return nil, nil, errors.New("no endpoints are given")
	}
	n, err := newTLS(cfg)
	if err != nil {
		return nil, nil, err
	}
	client, err := cfg.Client(max(cfg.Session/4, time.Second))
	if err != nil {
		return nil, nil, err
	}
	return direct{client, cfg.Timeout}, n, nil
}

// open opens the scheduler over a store, which it closes also if it fails.
func open(ctx context.Context, cfg Config, deps scheduler.Deps, st store, n network, every int64) (*Scheduler, error) {
	s := &Scheduler{
		cfg: cfg, deps: deps, log: deps.Log, now: deps.Now, st: st, keys: newLayout(cfg.Prefix), net: n, snapEvery: every,
		queueing: cfg.Queueing, view: &view{next: make(chan struct{})},
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.worker = newWorker(s)
	s.closing, s.close = context.WithCancel(context.Background())
	listener, address, err := n.listen()
	if err != nil {
		return nil, errors.Join(err, st.Close())
	}
	s.address = address
	s.server = &http.Server{Handler: http.HandlerFunc(s.serve), ReadHeaderTimeout: 10 * time.Second, ErrorLog: slog.NewLogLogger(s.log.Handler(), slog.LevelDebug)}
	working, stop := context.WithCancel(context.Background())
	s.stop = stop
	s.work.Go(func() { s.listen(listener) })
	s.work.Go(func() { s.follow(working) })
	waiting, cancel := context.WithTimeout(ctx, s.patience())
	defer cancel()
	if _, err := s.leader(waiting); err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

func (s *Scheduler) listen(l net.Listener) {
	if err := s.server.Serve(l); err != nil && !errors.Is(err, http.ErrServerClosed) {
		s.log.Error("scheduler: the other managers cannot reach this one any more", "address", s.address, "err", err)
	}
}

// patience is how long a call waits for somebody who leads: for a takeover, and for
// etcd.
func (s *Scheduler) patience() time.Duration { return 2*s.cfg.Session + s.cfg.Timeout }

// follow lives one session after the other.
func (s *Scheduler) follow(ctx context.Context) {
	pause := 50 * time.Millisecond
	for {
		begin := time.Now()
		err := s.attend(ctx)
		if ctx.Err() != nil {
			return
		}
		s.show(&view{err: err})
		s.log.Warn("scheduler: this manager is out of the cluster's, and joins it again", "err", err)
		if time.Since(begin) > s.cfg.Session {
			pause = 50 * time.Millisecond
		}
		if !sleep(ctx, pause) {
			return
		}
		pause = min(2*pause, 5*time.Second)
	}
}

// sleep is false if ctx ended before.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// attend lives one session: it looks who leads, and tries to if nobody does.
func (s *Scheduler) attend(ctx context.Context) error {
	v, err := s.newSession(ctx)
	if err != nil {
		return err
	}
	var keeping sync.WaitGroup
	keeping.Go(func() { v.keep(s.st) })
	var held *office
	defer func() {
		v.end(context.Canceled)
		keeping.Wait()
		s.worker.abandon(v.name)
		if held != nil {
			s.leave(held, context.Cause(v.alive))
		}
		// Who waits to lead need not wait for the lease.
		if err := s.st.Revoke(context.WithoutCancel(ctx), v.lease); err != nil {
			s.log.Warn("scheduler: the session cannot be ended in etcd, it runs out", "err", err)
		}
	}()
	for v.alive.Err() == nil {
		seen, err := s.look(v.alive)
		switch {
		case err != nil:
			s.log.Warn("scheduler: cannot see who leads", "err", err)
			sleep(v.alive, v.ttl/20)
			continue
		case seen.members[v.name].Name == "":
			return errLeaseGone
		case held != nil && seen.leader.Name != v.name:
			return errDeposed
		case seen.leader.Name == "":
			if err := s.campaign(v); err != nil {
				sleep(v.alive, v.ttl/20) // it may have come through all the same
			}
			continue
		case seen.leader.Name == v.name && held == nil:
			s.show(&view{session: v, members: seen.members, err: errors.New("this manager is about to lead, and reads what is stored")})
			if held, err = s.lead(v, seen); err != nil {
				return fmt.Errorf("cannot lead: %w", err)
			}
			s.log.Info("scheduler: this manager leads", "term", seen.term)
		}
		s.show(&view{session: v, leader: seen.leader, office: held, members: seen.members})
		if held != nil {
			held.crew.seen(seen.members, seen.revision)
		}
		if err := s.st.Changed(v.alive, s.keys.who(), seen.revision); err != nil {
			sleep(v.alive, v.ttl/20)
		}
	}
	return context.Cause(v.alive)
}

// seen is what stands in etcd about managers.
type seen struct {
	leader   member
	term     int64
	members  map[string]member
	revision int64
}

func (s *Scheduler) look(ctx context.Context) (seen, error) {
	r, err := s.st.Txn(ctx, nil, []clientv3.Op{clientv3.OpGet(s.keys.leader()), clientv3.OpGet(s.keys.members(), clientv3.WithPrefix())}, nil)
	if err != nil {
		return seen{}, err
	}
	n := seen{members: map[string]member{}, revision: r.Header.Revision}
	for _, kv := range r.Responses[0].GetResponseRange().Kvs {
		if n.leader, err = parseMember(kv.Value); err != nil {
			return n, err
		}
		n.term = kv.CreateRevision
	}
	for _, kv := range r.Responses[1].GetResponseRange().Kvs {
		m, err := parseMember(kv.Value)
		if err != nil {
			return n, err
		}
		n.members[m.Name] = m
	}
	return n, nil
}

// campaign leads if nobody does.
func (s *Scheduler) campaign(v *session) error {
	m := member{Name: v.name, Host: s.net.host(), Address: s.address, Cert: s.net.shows()}
	nobody := clientv3.Compare(clientv3.CreateRevision(s.keys.leader()), "=", 0)
	_, err := s.st.Txn(v.alive, []clientv3.Cmp{nobody}, []clientv3.Op{clientv3.OpPut(s.keys.leader(), m.String(), clientv3.WithLease(v.lease))}, nil)
	return err
}

// lead opens the engine over what is stored.
func (s *Scheduler) lead(v *session, n seen) (*office, error) {
	log := &etcdLog{st: s.st, keys: s.keys, term: n.term, lease: v.lease, alive: v.alive}
	c := newCrew(s, v, n.members)
	s.mu.Lock()
	cfg := s.queueing
	s.mu.Unlock()
	e, err := engine.Open(v.alive, cfg, s.deps, engine.Ground{SnapshotEvery: s.snapEvery, Crew: c, Open: func(ctx context.Context, load journal.Loader) (engine.Log, error) {
		return log, log.load(ctx, load)
	}})
	if err != nil {
		return nil, err
	}
	c.take(e)
	return &office{session: v, term: n.term, engine: e, crew: c}, nil
}

var errLeaving = errors.New("this manager ends, and another will lead")

// leave ends a term. What still runs here is told, and waited for by Close.
func (s *Scheduler) leave(o *office, why error) {
	o.engine.Fail(why)
	s.work.Go(func() {
		if err := o.engine.Close(); err != nil {
			s.log.Warn("scheduler: the end of a term", "err", err)
		}
		o.crew.driving.Wait()
	})
}

// show lets the callers see another view.
func (s *Scheduler) show(w *view) {
	w.next = make(chan struct{})
	s.mu.Lock()
	defer s.mu.Unlock()
	old := s.view
	if w.office == nil && w.leader.Name != "" {
		if w.link = old.link; w.link == nil || w.link.to.Name != w.leader.Name {
			w.link = newLink(s, w.leader)
		}
	}
	if old.link != nil && old.link != w.link {
		old.link.close()
	}
	s.view = w
	close(old.next)
}

func (s *Scheduler) current() *view {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.view
}

// leader waits until somebody leads.
func (s *Scheduler) leader(ctx context.Context) (*view, error) {
	patience := time.NewTimer(s.patience())
	defer patience.Stop()
	for {
		w := s.current()
		if w.link != nil || w.office != nil && w.office.session.valid() {
			return w, nil
		}
		why := w.err
		if why == nil {
			why = errors.New("nobody leads the managers")
		}
		if retired := (*scheduler.RetiredError)(nil); errors.As(why, &retired) {
			return nil, why // waiting does not help
		}
		select {
		case <-w.next:
		case <-s.ends(ctx):
			return nil, scheduler.ErrClosed
		case <-patience.C:
			return nil, fmt.Errorf("%w: the scheduler: %w", registry.ErrUnavailable, why)
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return nil, fmt.Errorf("%w: the scheduler: %w: %w", registry.ErrUnavailable, ctx.Err(), why)
			}
			return nil, ctx.Err()
		}
	}
}

// Reload takes the sections [queue.NAME] and [limit.NAME] of cfg in the place of
// those that it has. They are in force while this manager leads.
func (s *Scheduler) Reload(ctx context.Context, cfg Config) error {
	if err := cfg.Validate(); err != nil {
		return fmt.Errorf("%w: %w", scheduler.ErrInvalid, err)
	}
	if o := s.current().office; o != nil {
		if err := o.engine.Reload(ctx, cfg.Queueing); err != nil {
			return err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.queueing.Queues, s.queueing.Limits = cfg.Queues, cfg.Limits
	return nil
}

// NeedsFencing implements scheduler.Shared.
func (s *Scheduler) NeedsFencing() bool { return s.cfg.Unfenced != "accept" }

// Managers implements scheduler.Shared.
func (s *Scheduler) Managers() (all []scheduler.Manager, err error) {
	v := s.current()
	for _, m := range v.members {
		all = append(all, scheduler.Manager{
			Name: m.Name, Host: m.Host, Address: m.Address, Leads: m.Name == v.leader.Name, Self: v.session != nil && m.Name == v.session.name,
		})
	}
	slices.SortFunc(all, func(a, b scheduler.Manager) int {
		return cmp.Or(cmp.Compare(a.Host, b.Host), cmp.Compare(a.Name, b.Name))
	})
	return all, v.err
}

// Listeners implements scheduler.Server: the six verbs of spin-broker, if an
// address is configured for them.
func (s *Scheduler) Listeners() []scheduler.Listener {
	if s.cfg.SpinListen == "" {
		return nil
	}
	return []scheduler.Listener{{
		Name: "spin-broker's verbs", Address: s.cfg.SpinListen, Small: true,
		Handler: spin.New(s, spin.Options{Lease: s.cfg.SpinLease, Now: s.now}),
	}}
}

// Close ends what Run does, gives the jobs back whose functions stop for it, lets
// another manager lead if this one does, and leaves etcd.
func (s *Scheduler) Close() error {
	s.once.Do(func() {
		s.close()
		s.worker.wait()
		var err error
		if o := s.current().office; o != nil {
			o.crew.leave() // what the others do is theirs
			err = o.engine.Close()
		}
		s.stop()
		s.mu.Lock()
		s.sealed = true
		s.mu.Unlock()
		_ = s.server.Close() // nothing of it is to be kept
		s.work.Wait()
		s.served.Wait()
		if l := s.current().link; l != nil {
			l.close()
		}
		s.closed = errors.Join(err, s.st.Close())
	})
	return s.closed
}
