package monitortest

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vagoth/vagoth/monitor"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/registry/memdb"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/sim"
)

// Options are what a subtest needs of the monitor's configuration.
type Options struct {
	Every         string        // "@every 10s"
	Timeout       time.Duration // of one host: 5s
	Workers       int           // hosts side by side: 16
	MissingAfter  int           // complete listings: 3
	EvidenceEvery time.Duration // 10m
	CreateMissing bool
	Tenant        string // of what CreateMissing makes
}

func defaults() Options {
	return Options{Every: "@every 10s", Timeout: 5 * time.Second, Workers: 16, MissingAfter: 3, EvidenceEvery: 10 * time.Minute}
}

// Open opens the monitor under test. The suite closes it.
type Open func(t *testing.T, d monitor.Deps, o Options) monitor.Monitor

// world is a cluster in the hands of one subtest.
type world struct {
	*testing.T
	open Open
	opts Options
	reg  *memdb.DB
	sim  *sim.Driver
	jobs *jobs
	mon  monitor.Monitor
}

var _ virt.Cluster = (*world)(nil)

func newWorld(t *testing.T, open Open, change func(*Options)) *world {
	t.Helper()
	w := &world{T: t, open: open, opts: defaults(), jobs: &jobs{t: t, queues: map[string]scheduler.State{}}}
	if change != nil {
		change(&w.opts)
	}
	var err error
	if w.reg, err = memdb.Memory(registry.Deps{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.reg.Close() })
	if w.sim, err = sim.Open(t.Context(), sim.Defaults(), virt.DriverDeps{Name: "sim"}); err != nil {
		t.Fatal(err)
	}
	w.restart()
	t.Cleanup(func() { _ = w.mon.Close() })
	return w
}

// restart is another process: a monitor that remembers nothing.
func (w *world) restart() {
	w.Helper()
	if w.mon != nil {
		w.must(w.mon.Close())
	}
	w.mon = w.open(w.T, monitor.Deps{Cluster: w, Jobs: w.jobs, Log: slog.New(slog.DiscardHandler), Now: time.Now}, w.opts)
}

// Parts makes the world a virt.Cluster.
func (w *world) Parts() virt.Parts {
	return virt.Parts{Registry: w.reg, Drivers: map[string]virt.Driver{"sim": w.sim}, Log: slog.New(slog.DiscardHandler), Now: time.Now}
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *world) doc(v any) registry.Document {
	w.Helper()
	d, err := registry.NewDocument(v)
	w.must(err)
	return d
}

// hosts makes hypervisors.
func (w *world) hosts(ids ...string) {
	w.Helper()
	for _, id := range ids {
		_, err := registry.Create(w.Context(), w.reg, registry.Draft{
			ID: id, Name: id, Type: virt.TypeHypervisor, Definition: w.doc(virt.HostDefinition{Driver: "sim"}),
		})
		w.must(err)
	}
}

// vm makes a VM that stands on host, or on none if that is "".
func (w *world) vm(id, host string) {
	w.Helper()
	state := virt.Defined
	if host == "" {
		state = virt.New
	}
	_, err := registry.Create(w.Context(), w.reg, registry.Draft{
		ID: id, Name: id, Type: virt.TypeVM, Parent: host, State: string(state), Definition: w.doc(virt.Definition{CPU: 1, Memory: 64}),
	})
	w.must(err)
}

// uuid is the UUID of a VM.
func uuid(id string) string { return virt.UUIDOf(id, virt.Definition{}) }

// put lets a host have a VM in a state.
func (w *world) put(host, id string, state virt.State) {
	w.Helper()
	w.must(w.sim.AddStranger(host, virt.Seen{UUID: uuid(id), Name: id, State: state, CPU: 1, Memory: 64}))
}

// take takes a VM from a host.
func (w *world) take(host, id string) {
	w.Helper()
	w.must(w.sim.Remove(host, uuid(id)))
}

// running makes VMs that stand and run on host.
func (w *world) running(host string, ids ...string) {
	w.Helper()
	for _, id := range ids {
		w.vm(id, host)
		w.put(host, id, virt.Running)
	}
}

// poll polls once.
func (w *world) poll(hosts ...string) monitor.Report {
	w.Helper()
	rep, err := w.mon.Poll(w.Context(), hosts...)
	w.must(err)
	return rep
}

// quiet polls once and checks that nothing was written.
func (w *world) quiet(why string) {
	w.Helper()
	before := w.reg.Stats()
	rep := w.poll()
	if after := w.reg.Stats(); after.Revision != before.Revision || after.Commits != before.Commits || rep.Written != 0 {
		w.Errorf("%s: a poll wrote %d nodes (revision %d to %d)", why, rep.Written, before.Revision, after.Revision)
	}
}

func (w *world) node(id string) *registry.Node {
	w.Helper()
	n, err := registry.Get(w.Context(), w.reg, id)
	w.must(err)
	return n
}

// is checks a node's state.
func (w *world) is(id, state string) {
	w.Helper()
	if got := w.node(id).State(); got != state {
		w.Errorf("%s is %q, want %q", id, got, state)
	}
}

// on checks a VM's parent.
func (w *world) on(id, host string) {
	w.Helper()
	if got := w.node(id).Parent(); got != host {
		w.Errorf("%s stands on %q, want %q", id, got, host)
	}
}

func (w *world) evidence(id string) virt.Evidence {
	w.Helper()
	e, ok := virt.EvidenceOf(w.node(id))
	if !ok {
		w.Errorf("%s has no evidence", id)
	}
	return e
}

// alarm checks that a VM has an alarm over these hosts, or none.
func (w *world) alarm(id string, hosts ...string) {
	w.Helper()
	a, ok := virt.AlarmOf(w.node(id))
	if ok != (len(hosts) > 0) || ok && (a.Kind != monitor.FoundTwice || !slices.Equal(a.Hosts, hosts) || a.Text == "" || a.Since.IsZero()) {
		w.Errorf("%s has the alarm %+v, want one over %v", id, a, hosts)
	}
}

func (w *world) modify(id string, fn func(*registry.Draft), opts ...registry.WriteOption) {
	w.Helper()
	_, err := registry.Modify(w.Context(), w.reg, id, func(d *registry.Draft) error { fn(d); return nil }, opts...)
	w.must(err)
}

func (w *world) meta(id string, set map[string]any, remove ...string) {
	w.Helper()
	_, err := registry.UpdateMetadata(w.Context(), w.reg, id, set, remove...)
	w.must(err)
}

// strangers are those that a host's metadata lists.
func (w *world) strangers(host string) (names []string) {
	w.Helper()
	var m struct {
		Strangers []string `json:"strangers"`
	}
	w.must(w.node(host).Metadata().Decode(&m))
	return m.Strangers
}

// of finds a host in a report.
func (w *world) of(rep monitor.Report, host string) monitor.HostReport {
	w.Helper()
	for _, h := range rep.Hosts {
		if h.Host == host {
			return h
		}
	}
	w.Errorf("the report has no host %s", host)
	return monitor.HostReport{}
}

// found counts the findings of a kind about a node, on all hosts.
func found(rep monitor.Report, kind, node string) (n int) {
	for _, h := range rep.Hosts {
		for _, f := range h.Findings {
			if f.Kind == kind && f.Node == node {
				n++
			}
		}
	}
	return n
}

func (w *world) finds(rep monitor.Report, n int, kind, node string) {
	w.Helper()
	if got := found(rep, kind, node); got != n {
		w.Errorf("%d findings of the kind %s about %q, want %d: %+v", got, kind, node, n, rep.Hosts)
	}
}

// onlyAsked checks that no host was told to do anything.
func (w *world) onlyAsked() {
	w.Helper()
	for _, c := range w.sim.Calls() {
		if !slices.Contains([]string{"status", "info", "capacity"}, c.Op) {
			w.Errorf("the monitor told %s to %s %s", c.Host, c.Op, c.UUID)
		}
	}
}

// jobs is a scheduler's Inspector with a job on each of its queues. It stands for
// one with a million jobs, so that a question about all of them is a failure.
type jobs struct {
	t      *testing.T
	mu     sync.Mutex
	queues map[string]scheduler.State
}

func (j *jobs) set(queue string, s scheduler.State) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if s == "" {
		delete(j.queues, queue)
		return
	}
	j.queues[queue] = s
}

func (j *jobs) List(_ context.Context, f scheduler.Filter) iter.Seq2[scheduler.Status, error] {
	if f.Queue == "" || f.Limit != 1 || len(f.States) == 0 {
		j.t.Errorf("the monitor asked the scheduler for %+v: it is to ask for one job that has not ended, of one queue", f)
	}
	return func(yield func(scheduler.Status, error) bool) {
		j.mu.Lock()
		defer j.mu.Unlock()
		for q, s := range j.queues {
			st := scheduler.Status{Job: scheduler.Job{ID: "job-" + q, Queue: q, Action: "vm_start"}, State: s}
			if f.Matches(st) && !yield(st, nil) {
				return
			}
		}
	}
}

var errNoJobs = errors.New("the suite's jobs can only be listed")

func (j *jobs) Status(context.Context, string) (scheduler.Status, error) {
	return scheduler.Status{}, errNoJobs
}
func (j *jobs) Wait(context.Context, string) (scheduler.Status, error) {
	return scheduler.Status{}, errNoJobs
}
func (j *jobs) Log(context.Context, string) ([]scheduler.Line, error) { return nil, errNoJobs }

// name is the i-th of many.
func name(prefix string, i int) string { return fmt.Sprintf("%s%03d", prefix, i) }
