package poll

import (
	"context"
	"iter"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vagoth/vagoth/internal/testlong"
	"github.com/vagoth/vagoth/monitor"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/registry/memdb"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/sim"
)

// machine is a cluster to which anything happens between polls, beside the truth
// about its hosts. After each poll it checks what must hold, from the truth
// alone: it knows nothing of how the monitor works.
type machine struct {
	t     *rapid.T
	db    *memdb.DB
	sim   *sim.Driver
	mon   *Monitor
	now   time.Time
	truth map[string]map[string]virt.State // by host, by VM
	down  map[string]bool                  // cannot be asked
	part  map[string]bool                  // lists nothing, incompletely
	busy  map[string]bool                  // VMs with a job in flight
	quiet map[string]int                   // complete listings without the VM since anything happened to it
}

func (m *machine) Parts() virt.Parts {
	return virt.Parts{Registry: m.db, Drivers: map[string]virt.Driver{"sim": m.sim}}
}

// List makes the machine the jobs that the monitor asks for.
func (m *machine) List(_ context.Context, f scheduler.Filter) iter.Seq2[scheduler.Status, error] {
	return func(yield func(scheduler.Status, error) bool) {
		st := scheduler.Status{Job: scheduler.Job{Queue: f.Queue}, State: scheduler.Running}
		if m.busy[f.Queue] && f.Matches(st) {
			yield(st, nil)
		}
	}
}

func (m *machine) Status(context.Context, string) (s scheduler.Status, err error) { return s, nil }
func (m *machine) Wait(context.Context, string) (s scheduler.Status, err error)   { return s, nil }
func (m *machine) Log(context.Context, string) ([]scheduler.Line, error)          { return nil, nil }

var (
	modelHosts = []string{"h0", "h1", "h2"}
	modelVMs   = []string{"v0", "v1", "v2", "v3"}
)

func (m *machine) must(err error) {
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *machine) node(id string) *registry.Node {
	n, err := registry.Get(context.Background(), m.db, id)
	m.must(err)
	return n
}

func (m *machine) modify(id string, fn func(*registry.Draft), opts ...registry.WriteOption) {
	before := m.node(id).Revision()
	n, err := registry.Modify(context.Background(), m.db, id, func(d *registry.Draft) error { fn(d); return nil }, opts...)
	m.must(err)
	if n.Revision() != before {
		m.quiet[id] = 0
	}
}

func newMachine(t *rapid.T) *machine {
	m := &machine{
		t: t, now: time.Unix(1_000_000_000, 0), truth: map[string]map[string]virt.State{}, down: map[string]bool{}, part: map[string]bool{},
		busy: map[string]bool{}, quiet: map[string]int{},
	}
	var err error
	m.db, err = memdb.Memory(registry.Deps{})
	m.must(err)
	m.sim, err = sim.Open(context.Background(), sim.Defaults(), virt.DriverDeps{})
	m.must(err)
	def, err := registry.NewDocument(virt.HostDefinition{Driver: "sim"})
	m.must(err)
	for _, h := range modelHosts {
		m.truth[h] = map[string]virt.State{}
		_, err := registry.Create(context.Background(), m.db, registry.Draft{ID: h, Name: h, Type: virt.TypeHypervisor, Definition: def})
		m.must(err)
	}
	def, err = registry.NewDocument(virt.Definition{CPU: 1, Memory: 64})
	m.must(err)
	for _, v := range modelVMs {
		_, err := registry.Create(context.Background(), m.db, registry.Draft{ID: v, Name: v, Type: virt.TypeVM, State: string(virt.New), Definition: def})
		m.must(err)
	}
	m.restart()
	return m
}

// restart is another process.
func (m *machine) restart() {
	if m.mon != nil {
		m.must(m.mon.Close())
	}
	mon, err := Open(context.Background(), Defaults(), monitor.Deps{Cluster: m, Jobs: m, Now: func() time.Time { return m.now }})
	m.must(err)
	m.mon = mon
	clear(m.quiet)
}

func (m *machine) happen() {
	h := rapid.SampledFrom(modelHosts).Draw(m.t, "host")
	v := rapid.SampledFrom(modelVMs).Draw(m.t, "vm")
	uuid := virt.UUIDOf(v, virt.Definition{})
	switch what := rapid.SampledFrom([]string{"put", "put", "take", "down", "up", "partial", "whole", "job", "done", "place", "place", "leave", "migrate", "settled", "restart", "time"}).Draw(m.t, "what"); what {
	case "put":
		s := rapid.SampledFrom([]virt.State{virt.Running, virt.Stopped, virt.Paused}).Draw(m.t, "state")
		m.truth[h][v] = s
		m.must(m.sim.AddStranger(h, virt.Seen{UUID: uuid, Name: v, State: s}))
	case "take":
		if _, ok := m.truth[h][v]; ok {
			delete(m.truth[h], v)
			m.must(m.sim.Remove(h, uuid))
		}
	case "down":
		m.down[h] = true
		m.sim.Unreachable(h)
	case "up":
		m.down[h] = false
		m.sim.Fail(h, nil)
	case "partial":
		m.part[h] = true
		m.sim.Partial(h, 0)
	case "whole":
		if !m.down[h] {
			m.sim.Heal(h)
			m.part[h] = false
		}
	case "job":
		m.busy[v] = true
	case "done":
		m.busy[v] = false
	case "place":
		if m.node(v).Parent() == "" {
			m.modify(v, func(d *registry.Draft) { d.Parent, d.State = h, string(virt.Defined) })
		}
	case "leave":
		if p := m.node(v).Parent(); p != "" {
			m.modify(v, func(d *registry.Draft) { d.Parent, d.State = "", string(virt.New) }, registry.MovingFrom(p))
		}
	case "migrate":
		m.modify(v, func(d *registry.Draft) {
			doc, err := d.Metadata.Merge(map[string]any{virt.MetaMigrate: h})
			m.must(err)
			d.Metadata = doc
		})
	case "settled":
		m.modify(v, func(d *registry.Draft) {
			doc, err := d.Metadata.Merge(nil, virt.MetaMigrate)
			m.must(err)
			d.Metadata = doc
		})
	case "restart":
		m.restart()
	case "time":
		m.now = m.now.Add(time.Duration(rapid.IntRange(1, 600).Draw(m.t, "seconds")) * time.Second)
	}
}

// poll polls and checks.
func (m *machine) poll() {
	before := map[string]*registry.Node{}
	for _, id := range slices.Concat(modelHosts, modelVMs) {
		before[id] = m.node(id)
	}
	m.now = m.now.Add(time.Second)
	if _, err := m.mon.Poll(context.Background()); err != nil {
		m.t.Fatal(err)
	}
	for _, c := range m.sim.Calls() {
		if c.Op != "status" {
			m.t.Fatalf("a host was told to %s", c.Op)
		}
	}
	whole := true
	for _, h := range modelHosts {
		want := virt.Up
		if m.down[h] {
			want = virt.Unreachable
		}
		if got := m.node(h).State(); got != string(want) {
			m.t.Fatalf("host %s is %q, want %s", h, got, want)
		}
		whole = whole && !m.down[h] && !m.part[h]
	}
	for _, v := range modelVMs {
		m.check(v, before[v], m.node(v), whole)
	}
}

func (m *machine) check(v string, before, after *registry.Node, whole bool) {
	var on []string // hosts that say now that they have it
	for _, h := range modelHosts {
		if _, ok := m.truth[h][v]; ok && !m.down[h] && !m.part[h] {
			on = append(on, h)
		}
	}
	p := before.Parent()
	switch {
	case p != "" && after.Parent() != p:
		m.t.Fatalf("%s stood on %s and stands on %q", v, p, after.Parent())
	case p == "" && after.Parent() != "" && (!slices.Equal(on, []string{after.Parent()}) || m.busy[v]):
		m.t.Fatalf("%s was assigned to %s, found on %v, job in flight: %v", v, after.Parent(), on, m.busy[v])
	case p == "" && after.Parent() == "" && whole && len(on) == 1 && !m.busy[v]:
		m.t.Fatalf("%s was found on %v alone and not assigned", v, on)
	case p == "" && after.Parent() == "" && after.State() != before.State():
		m.t.Fatalf("%s stands nowhere and became %s", v, after.State())
	}
	if p = after.Parent(); p != "" && p == before.Parent() {
		m.checkState(v, p, before, after)
	}
	_, alarmed := virt.AlarmOf(after)
	places := on
	if to := virt.MovesTo(before); to != "" && before.Parent() != "" {
		places = slices.DeleteFunc(slices.Clone(on), func(h string) bool { return h == to })
	}
	if p != "" && !slices.Contains(places, p) {
		places = append(places, p)
	}
	if len(places) > 1 && !alarmed {
		m.t.Fatalf("%s is on %v and there is no alarm", v, places)
	}
	if whole && len(places) < 2 && alarmed {
		m.t.Fatalf("%s is on %v and there is an alarm", v, places)
	}
}

func (m *machine) checkState(v, p string, before, after *registry.Node) {
	state, there := m.truth[p][v]
	switch {
	case m.down[p]:
		if after.State() != string(virt.Unknown) {
			m.t.Fatalf("%s is %s on a host that cannot be asked", v, after.State())
		}
	case m.part[p]:
		if after.State() != before.State() {
			m.t.Fatalf("%s became %s by a partial listing", v, after.State())
		}
	case there:
		m.quiet[v] = 0
		if after.State() != string(state) {
			m.t.Fatalf("%s is %s, its host says %s", v, after.State(), state)
		}
	default:
		m.quiet[v]++
		if m.busy[v] {
			m.quiet[v] = 0
		}
		if was := before.State(); after.State() != was && (after.State() != string(virt.Missing) || m.quiet[v] < 3) {
			m.t.Fatalf("%s was %s and is %s after %d listings without it", v, was, after.State(), m.quiet[v])
		}
		if m.quiet[v] >= 3 && after.State() != string(virt.Missing) {
			m.t.Fatalf("%s is %s after %d listings without it", v, after.State(), m.quiet[v])
		}
	}
	if before.Revision() != after.Revision() {
		m.quiet[v] = 0 // an alarm that came or went, or another state: it is counted anew
	}
}

func TestModel(t *testing.T) {
	for range testlong.Count(t, 10) { // times the 100 runs of rapid
		rapid.Check(t, modelRun)
	}
}

func modelRun(t *rapid.T) {
	m := newMachine(t)
	defer func() { _, _ = m.mon.Close(), m.db.Close() }()
	for range rapid.IntRange(1, 25).Draw(t, "rounds") {
		for range rapid.IntRange(0, 4).Draw(t, "events") {
			m.happen()
		}
		m.poll()
	}
	// When nothing happens any more, nothing is written any more, until
	// evidence_every is over again: it is now, for everything at once.
	m.now = m.now.Add(Defaults().EvidenceEvery)
	for range 4 {
		m.poll()
	}
	before := m.db.Stats()
	m.poll()
	if after := m.db.Stats(); after != before {
		t.Fatalf("a poll that found nothing new wrote: %+v to %+v", before, after)
	}
}
