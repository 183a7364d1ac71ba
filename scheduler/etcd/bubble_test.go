package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/vagoth/vagoth/internal/etcdclient"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/scheduler/engine"
	"github.com/vagoth/vagoth/scheduler/schedulertest"
)

// outside does what cannot be done in the fake time of the suites: it asks a real
// etcd. While a test waits for it the fake time stands still.
type outside struct {
	client *clientv3.Client
	jobs   chan func()
	spare  chan chan struct{}
	work   sync.WaitGroup
}

func newOutside(urls []string) (*outside, error) {
	client, err := etcdclient.Config{Endpoints: urls, Timeout: 30 * time.Second}.Client(time.Second)
	if err != nil {
		return nil, err
	}
	const atOnce = 32
	o := &outside{client: client, jobs: make(chan func()), spare: make(chan chan struct{}, atOnce)}
	for range atOnce {
		o.spare <- make(chan struct{}, 1)
		o.work.Go(func() {
			for f := range o.jobs {
				f()
			}
		})
	}
	return o, nil
}

func (o *outside) close() error {
	close(o.jobs)
	o.work.Wait()
	return o.client.Close()
}

// do has f done outside.
func (o *outside) do(f func(d direct)) {
	done := <-o.spare
	o.jobs <- func() {
		f(direct{o.client, 30 * time.Second})
		done <- struct{}{}
	}
	<-done
	o.spare <- done
}

// hub is what the managers of one store share in fake time: who has changed what
// others watch, and the pipes between them.
type hub struct {
	o *outside

	mu      sync.Mutex
	changes int
	changed chan struct{}
	lost    map[clientv3.LeaseID]bool
	doors   map[string]*door
	opened  int

	noting  sync.Mutex
	written int64 // the newest revision that is noted
}

func newHub(o *outside) *hub {
	return &hub{o: o, changed: make(chan struct{}), lost: map[clientv3.LeaseID]bool{}, doors: map[string]*door{}}
}

// wrote notes in a folder up to which revision a copy of it reaches. Of two that write at
// once the later one may say so first.
func (h *hub) wrote(dir string, revision int64) error {
	h.noting.Lock()
	defer h.noting.Unlock()
	if revision <= h.written {
		return nil
	}
	h.written = revision
	return note(dir, revisionName, os.O_CREATE|os.O_WRONLY, revision)
}

func (h *hub) bump() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.changes++
	close(h.changed)
	h.changed = make(chan struct{})
}

// inBubble is the store of one manager.
type inBubble struct {
	h    *hub
	who  string // prefix of what others watch
	dir  string // of the folder that stands for the store
	seen int
}

func (s *inBubble) Txn(ctx context.Context, cmps []clientv3.Cmp, then, otherwise []clientv3.Op) (r *clientv3.TxnResponse, err error) {
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	s.h.o.do(func(d direct) { r, err = d.Txn(context.Background(), cmps, then, otherwise) })
	if err != nil || !r.Succeeded {
		return r, err
	}
	for _, op := range then {
		if op.IsPut() && strings.HasPrefix(string(op.KeyBytes()), s.who) {
			s.h.bump()
		}
	}
	return r, s.h.wrote(s.dir, r.Header.Revision)
}

func (s *inBubble) Grant(context.Context, time.Duration) (id clientv3.LeaseID, err error) {
	s.h.o.do(func(d direct) { id, err = d.Grant(context.Background(), time.Hour) })
	return id, errors.Join(err, note(s.dir, leasesName, os.O_CREATE|os.O_WRONLY|os.O_APPEND, int64(id)))
}

func (s *inBubble) KeepAlive(_ context.Context, id clientv3.LeaseID) error {
	s.h.mu.Lock()
	defer s.h.mu.Unlock()
	if s.h.lost[id] {
		return errLeaseGone
	}
	return nil
}

func (s *inBubble) Revoke(_ context.Context, id clientv3.LeaseID) (err error) {
	s.h.o.do(func(d direct) { err = d.Revoke(context.Background(), id) })
	s.h.bump()
	return err
}

func (s *inBubble) Changed(ctx context.Context, _ string, _ int64) error {
	s.h.mu.Lock()
	for s.h.changes == s.seen {
		ch := s.h.changed
		s.h.mu.Unlock()
		select {
		case <-ch:
		case <-ctx.Done():
			return ctx.Err()
		}
		s.h.mu.Lock()
	}
	s.seen = s.h.changes
	s.h.mu.Unlock()
	return nil
}

func (s *inBubble) Close() error { return nil }

// door is a manager's place in the pipes.
type door struct {
	h      *hub
	name   string
	accept chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (d *door) Accept() (net.Conn, error) {
	select {
	case c := <-d.accept:
		return c, nil
	case <-d.closed:
		return nil, net.ErrClosed
	}
}

func (d *door) Close() error {
	d.once.Do(func() { close(d.closed) })
	return nil
}

func (d *door) Addr() net.Addr { return &net.UnixAddr{Name: d.name, Net: "unix"} }

// pipes is the network of one manager.
type pipes struct{ h *hub }

func (p pipes) listen() (net.Listener, string, error) {
	p.h.mu.Lock()
	defer p.h.mu.Unlock()
	p.h.opened++
	d := &door{h: p.h, name: fmt.Sprint("door", p.h.opened), accept: make(chan net.Conn), closed: make(chan struct{})}
	p.h.doors[d.name] = d
	return d, d.name, nil
}

func (p pipes) dial(ctx context.Context, to member) (net.Conn, error) {
	p.h.mu.Lock()
	d := p.h.doors[to.Address]
	p.h.mu.Unlock()
	if d == nil {
		return nil, net.ErrClosed
	}
	ours, theirs := net.Pipe()
	select {
	case d.accept <- theirs:
		return ours, nil
	case <-d.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (p pipes) from(r *http.Request, alive map[string]member) string {
	name := r.Header.Get(nameHeader)
	if _, ok := alive[name]; !ok {
		return ""
	}
	return name
}

func (p pipes) host() string  { return "here" }
func (p pipes) shows() []byte { return nil }

// folder stands for a store of the suites, which are directories: it says which keys
// of etcd are meant. A copy of it means the keys as they were when it was made, as
// if all that wrote them had been killed then.
type folder struct {
	Dir    string `json:"dir"`
	Prefix string `json:"prefix"`
}

const (
	folderName   = "etcd.json"
	revisionName = "revision"
	leasesName   = "leases"
)

// note writes a number into a file of a folder that is still there.
func note(dir, name string, how int, n int64) error {
	f, err := os.OpenFile(filepath.Join(dir, name), how, 0o600)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return err
	}
	_, err = fmt.Fprintf(f, "%020d\n", n)
	return errors.Join(err, f.Close())
}

var prefixes atomic.Int64

// place finds the keys of a directory, or makes some. Whoever had them open before is
// dead: nobody waits for its leases to run out.
func (o *outside) place(dir string) (f folder, err error) {
	name, at := filepath.Join(dir, folderName), filepath.Join(dir, revisionName)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return f, err
	}
	data, err := os.ReadFile(name)
	if err == nil {
		if err := json.Unmarshal(data, &f); err != nil {
			return f, err
		}
		if f.Dir == dir {
			return f, o.bury(dir)
		}
	}
	old := f
	f = folder{Dir: dir, Prefix: fmt.Sprintf("/vagoth-%d-%d/", os.Getpid(), prefixes.Add(1))}
	if old.Prefix != "" {
		text, err := os.ReadFile(at)
		if err != nil {
			return f, err
		}
		revision, err := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
		if err != nil {
			return f, err
		}
		o.do(func(d direct) { err = copyKeys(d, old.Prefix, f.Prefix, revision) })
		if err = errors.Join(err, os.Remove(filepath.Join(dir, leasesName))); err != nil {
			return f, err
		}
	}
	data, err = json.Marshal(f)
	if err == nil {
		err = os.WriteFile(name, data, 0o600)
	}
	return f, err
}

// bury ends the sessions of those who had the folder.
func (o *outside) bury(dir string) error {
	name := filepath.Join(dir, leasesName)
	text, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	for _, word := range strings.Fields(string(text)) {
		id, err := strconv.ParseInt(word, 10, 64)
		if err != nil {
			return err
		}
		if o.do(func(d direct) { err = d.Revoke(context.Background(), clientv3.LeaseID(id)) }); err != nil {
			return err
		}
	}
	return os.Truncate(name, 0)
}

// copyKeys copies what stood below a prefix at a revision, but for who lives.
func copyKeys(d direct, from, to string, revision int64) error {
	r, err := d.client.Get(context.Background(), from, clientv3.WithPrefix(), clientv3.WithRev(revision))
	if err != nil {
		return err
	}
	var ops []clientv3.Op
	size := 0
	for i, kv := range r.Kvs {
		if key := strings.TrimPrefix(string(kv.Key), from); !strings.HasPrefix(key, "scheduler/who/") && kv.Lease == 0 {
			ops = append(ops, clientv3.OpPut(to+key, string(kv.Value)))
			size += len(kv.Value)
		}
		if len(ops) == 100 || size > 500<<10 || i == len(r.Kvs)-1 {
			if _, err := d.Txn(context.Background(), nil, ops, nil); err != nil {
				return err
			}
			ops, size = nil, 0
		}
	}
	return nil
}

func configOf(s schedulertest.Settings) Config {
	cfg := Defaults()
	cfg.Queueing = engine.Config{
		Lease: s.Lease, ParkFor: s.ParkFor, PackageExpiry: s.PackageExpiry, HistoryAge: s.HistoryAge, HistoryCount: s.HistoryCount,
		MaxQueued: s.MaxQueued, MaxLost: s.MaxLost, HostSlots: s.HostSlots, Parallel: s.Parallel,
		Queues: map[string]engine.QueueConfig{}, Limits: map[string]engine.LimitConfig{},
	}
	for name, q := range s.Queues {
		cfg.Queues[name] = engine.QueueConfig{Remote: q.Remote, Paused: q.Paused, Reason: q.Reason, Rate: engine.Rate(q.Rate), Lease: q.Lease}
	}
	for name, l := range s.Limits {
		cfg.Limits[name] = engine.LimitConfig{Slots: l.Slots, Rate: engine.Rate(l.Rate)}
	}
	return cfg
}

// manager opens one manager in fake time.
func (h *hub) manager(ctx context.Context, cfg Config, deps scheduler.Deps, prefix string) (*Scheduler, error) {
	cfg.Prefix, cfg.Session = prefix, 10*time.Minute
	st := &inBubble{h: h, who: newLayout(prefix).who(), dir: deps.Data}
	return open(ctx, cfg, deps, st, pipes{h}, 16<<10)
}

// still opens what is stored, in fake time.
func (h *hub) still(ctx context.Context, cfg Config, deps scheduler.Deps, prefix string) (*Still, error) {
	cfg.Prefix, cfg.Session = prefix, 10*time.Minute
	return openStill(ctx, cfg, deps, &inBubble{h: h, who: newLayout(prefix).who(), dir: deps.Data}, pipes{h})
}

// opener opens so many managers as one scheduler.
func (o *outside) opener(managers int) schedulertest.Opener {
	return func(ctx context.Context, s schedulertest.Settings, deps scheduler.Deps) (scheduler.Scheduler, error) {
		f, err := o.place(deps.Data)
		if err != nil {
			return nil, err
		}
		h := newHub(o)
		if deps.Still {
			return h.still(ctx, configOf(s), deps, f.Prefix)
		}
		if managers == 1 {
			return h.manager(ctx, configOf(s), deps, f.Prefix)
		}
		all := &several{}
		for range managers {
			m, err := h.manager(ctx, configOf(s), deps, f.Prefix)
			if err != nil {
				return nil, errors.Join(err, all.Close())
			}
			all.managers = append(all.managers, m)
		}
		return all, nil
	}
}

func (o *outside) core(managers int) schedulertest.Open {
	return func(t *testing.T, deps scheduler.Deps) scheduler.Scheduler {
		t.Helper()
		s, err := o.opener(managers)(t.Context(), schedulertest.Settings{}, deps)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
}
