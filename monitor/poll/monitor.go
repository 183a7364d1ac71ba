package poll

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/vagoth/vagoth/monitor"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
)

// Source is the source in the trail of what a poll writes that nobody asked for.
const Source = "monitor"

// closeWait is how long Close waits for calls that outlived their deadline.
const closeWait = 5 * time.Second

// maxRounds is how many scheduled rounds may overlap. A round that waits for a
// host that hangs does not keep the next from asking the others.
const maxRounds = 8

// ErrClosed is a poll of a monitor that has been closed.
var ErrClosed = errors.New("the monitor is closed")

// Monitor is a monitor.Monitor.
type Monitor struct {
	cfg  Config
	deps monitor.Deps
	log  *slog.Logger
	now  func() time.Time
	when cron.Schedule

	slots   chan struct{}   // one for each host that is being asked
	closing context.Context // ends with Close
	stop    context.CancelFunc
	rounds  sync.WaitGroup // those under way; Close waits for them

	judging sync.Mutex // held by the one round that judges

	mu     sync.Mutex // guards the rest
	closed bool
	number uint64         // of the last round
	out    map[string]int // hosts that are being asked: their round and the driver's call
	calls  sync.WaitGroup // of drivers, those left behind too
	hosts  map[string]*memory
	index  *index         // of the last round, for what in it still holds
	part   registry.Share // while Run shares the hosts with other managers, or nil
}

var _ monitor.Monitor = (*Monitor)(nil)

// Poll asks the hosts once, whoever's they are.
func (m *Monitor) Poll(ctx context.Context, hosts ...string) (monitor.Report, error) {
	return m.poll(ctx, nil, hosts...)
}

// poll asks the hosts once, of those that share says to be ours.
func (m *Monitor) poll(ctx context.Context, share registry.Share, hosts ...string) (monitor.Report, error) {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return monitor.Report{}, ErrClosed
	}
	m.rounds.Add(1)
	m.number++
	r := &round{m: m, number: m.number, began: m.now(), share: share, divided: m.part != nil}
	m.mu.Unlock()
	defer m.rounds.Done()

	ctx, cancel := context.WithCancel(trail.Ensure(ctx, Source))
	defer cancel()
	defer context.AfterFunc(m.closing, cancel)()
	err := r.run(ctx, hosts)
	if err != nil && m.closing.Err() != nil {
		err = ErrClosed
	}
	rep := r.report()
	if m.deps.Polled != nil {
		m.deps.Polled(rep)
	}
	return rep, err
}

// Run polls once at the beginning, because what is written is of unknown age,
// and then on the schedule. A round that is due while others are under way asks
// the hosts that are not being asked.
func (m *Monitor) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(m.closing, cancel)()
	if m.closing.Err() != nil {
		return ErrClosed
	}
	defer m.divide(ctx)()
	under := make(chan struct{}, maxRounds)
	job := cron.FuncJob(func() {
		select {
		case under <- struct{}{}:
			defer func() { <-under }()
			m.scheduled(ctx)
		default:
			m.log.WarnContext(ctx, "poll skipped", "reason", "too many polls under way", "polls", maxRounds)
		}
	})
	logger := cronLog{m.log}
	c := cron.New(cron.WithLogger(logger), cron.WithChain(cron.Recover(logger)))
	c.Schedule(m.when, job)
	var first sync.WaitGroup
	first.Go(cron.NewChain(cron.Recover(logger)).Then(job).Run)
	c.Start()
	<-ctx.Done()
	<-c.Stop().Done()
	first.Wait()
	if m.closing.Err() != nil {
		return ErrClosed
	}
	return nil
}

// scheduled is one round of Run.
func (m *Monitor) scheduled(ctx context.Context) {
	if m.cfg.Jitter > 0 {
		t := time.NewTimer(rand.N(m.cfg.Jitter))
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
	m.mu.Lock()
	share := m.part
	m.mu.Unlock()
	m.forgetOthers(share)
	rep, err := m.poll(ctx, share)
	if err != nil && ctx.Err() == nil {
		m.log.ErrorContext(ctx, "poll failed", "error", err)
	}
	for _, h := range rep.Hosts {
		for _, f := range h.Findings {
			if f.Kind != monitor.FoundStranger {
				m.log.InfoContext(ctx, "found", "kind", f.Kind, "host", h.Host, "node", f.Node, "text", f.Text)
			}
		}
	}
}

// cronLog is the scheduler's log.
type cronLog struct{ log *slog.Logger }

func (l cronLog) Info(msg string, kv ...any) { l.log.Debug("cron: "+msg, kv...) }
func (l cronLog) Error(err error, msg string, kv ...any) {
	l.log.Error("cron: "+msg, append([]any{"error", err}, kv...)...)
}

// Close ends the polls under way and waits for them. Calls of drivers that do
// not return are waited for a few seconds and then named in the error.
func (m *Monitor) Close() error {
	m.mu.Lock()
	m.closed = true
	m.mu.Unlock()
	m.stop()
	m.rounds.Wait()
	done := make(chan struct{})
	go func() { m.calls.Wait(); close(done) }()
	t := time.NewTimer(closeWait)
	defer t.Stop()
	select {
	case <-done:
		return nil
	case <-t.C:
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for id := range m.out {
		names = append(names, id)
	}
	slices.Sort(names)
	return fmt.Errorf("%d calls of drivers did not return within %v: %.256s", len(names), closeWait, strings.Join(names, ", "))
}

// round is one Poll.
type round struct {
	m      *Monitor
	number uint64
	began  time.Time
	index  *index
	share  registry.Share // nil if all that are named are asked

	divided bool // other managers ask hosts too

	mu    sync.Mutex
	hosts []*visit
	wrote int
}

// visit is one host in a round.
type visit struct {
	node     *registry.Node // before it was asked
	report   monitor.HostReport
	answered bool
	listing  virt.Listing
}

func (v *visit) found(kind, node, format string, args ...any) {
	v.report.Findings = append(v.report.Findings, monitor.Finding{Kind: kind, Node: node, Text: fmt.Sprintf(format, args...)})
}

// run asks the hosts and judges.
func (r *round) run(ctx context.Context, ids []string) error {
	reg := r.m.deps.Cluster.Parts().Registry
	v, err := reg.View(ctx)
	if err != nil {
		return fmt.Errorf("cannot read the registry: %w", err)
	}
	nodes, err := pick(v, ids)
	if err != nil {
		return err
	}
	r.m.mu.Lock()
	old := r.m.index
	r.m.mu.Unlock()
	if r.index, err = newIndex(v, old); err != nil {
		return fmt.Errorf("cannot read the registry: %w", err)
	}
	r.m.mu.Lock()
	r.m.index = r.index
	r.m.mu.Unlock()

	errs := make([]error, len(nodes))
	var wg sync.WaitGroup
	for i, n := range nodes {
		if r.share != nil && !r.share.Mine(n.ID()) {
			continue
		}
		visit := &visit{node: n, report: monitor.HostReport{Host: n.ID(), Name: n.Name(), State: virt.HostState(n.State())}}
		r.hosts = append(r.hosts, visit)
		if !r.m.claim(n.ID()) {
			visit.report.Skipped = "poll already under way"
			continue
		}
		select {
		case r.m.slots <- struct{}{}:
		case <-ctx.Done():
			r.m.release(n.ID())
			visit.report.Skipped = "the poll was ended"
			continue
		}
		wg.Go(func() {
			defer func() { <-r.m.slots }()
			if r.share != nil && !r.share.Mine(n.ID()) { // it waited for its turn
				r.m.release(n.ID())
				visit.report.Skipped = "another manager polls it now"
				return
			}
			errs[i] = r.visit(ctx, reg, visit)
		})
	}
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return r.judge(ctx, reg)
}

// pick returns the hypervisors that are to be asked. Those that were up come
// first, so that they do not wait for those that may hang.
func pick(v registry.Reader, ids []string) ([]*registry.Node, error) {
	var nodes []*registry.Node
	if len(ids) == 0 {
		for n, err := range v.List(registry.Query{Type: virt.TypeHypervisor}) {
			if err != nil {
				return nil, fmt.Errorf("cannot read the registry: %w", err)
			}
			nodes = append(nodes, n)
		}
	}
	ids = slices.Clone(ids)
	slices.Sort(ids)
	for _, id := range slices.Compact(ids) {
		n, err := v.Get(id)
		if err != nil {
			return nil, err
		}
		if n.Type() != virt.TypeHypervisor {
			return nil, fmt.Errorf("%w: node %s is of type %s: only a %s can be polled", virt.ErrInvalid, id, n.Type(), virt.TypeHypervisor)
		}
		nodes = append(nodes, n)
	}
	slices.SortStableFunc(nodes, func(a, b *registry.Node) int { return cmp.Compare(doubt(a), doubt(b)) })
	return nodes, nil
}

func doubt(n *registry.Node) int {
	switch virt.HostState(n.State()) {
	case virt.Up:
		return 0
	case virt.Unreachable, virt.Down:
		return 2
	}
	return 1
}

// claim takes the right to ask a host, which one poll at a time has.
func (m *Monitor) claim(id string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.out[id] > 0 {
		return false
	}
	m.out[id] = 1
	return true
}

// share lets the claim last until somebody else has released it too.
func (m *Monitor) share(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.out[id]++
}

func (m *Monitor) release(id string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.out[id]--; m.out[id] == 0 {
		delete(m.out, id)
	}
}

// report is what the round found, whole or as far as it came.
func (r *round) report() monitor.Report {
	rep := monitor.Report{Began: r.began, Took: r.m.now().Sub(r.began), Written: r.wrote}
	for _, v := range r.hosts {
		rep.Hosts = append(rep.Hosts, v.report)
	}
	slices.SortFunc(rep.Hosts, func(a, b monitor.HostReport) int { return strings.Compare(a.Host, b.Host) })
	return rep
}
