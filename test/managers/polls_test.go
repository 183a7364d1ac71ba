package managers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/vagoth/vagoth/monitor"
	"github.com/vagoth/vagoth/monitor/poll"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/registry/etcd"
	"github.com/vagoth/vagoth/test/etcdtest"
	"github.com/vagoth/vagoth/virt"
)

// ledger is what the hosts see: who asks them, and when.
type ledger struct {
	mu     sync.Mutex
	guests map[string][]virt.Seen // by host
	asking map[string]string      // by host: who is at it
	last   map[string]string      // by host: who was the last
	count  map[string]int         // by manager
	twice  []string
}

// slow is how long a host takes to answer, so that two who ask it meet there.
const slow = 100 * time.Millisecond

// asked is one call from its begin to its end.
func (l *ledger) asked(who, host string) (end func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if other := l.asking[host]; other != "" {
		l.twice = append(l.twice, fmt.Sprintf("%s and %s ask %s", other, who, host))
	}
	l.asking[host], l.last[host] = who, who
	l.count[who]++
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.asking[host] = ""
	}
}

// driver is a manager's way to the hosts.
type driver struct {
	virt.Driver
	who string
	l   *ledger
}

func (d driver) Status(ctx context.Context, h virt.Host) (virt.Listing, error) {
	end := d.l.asked(d.who, h.ID)
	defer end()
	select {
	case <-time.After(slow):
	case <-ctx.Done():
	}
	d.l.mu.Lock()
	defer d.l.mu.Unlock()
	return virt.Listing{Complete: true, Guests: slices.Clone(d.l.guests[h.ID])}, nil
}

// one is a manager: a registry on etcd through a link of its own, and a monitor.
type one struct {
	t    *testing.T
	name string
	link *etcdtest.Link
	reg  *etcd.Registry
	mon  *poll.Monitor
	l    *ledger
	stop context.CancelFunc
	done chan error
}

// Parts implements virt.Cluster.
func (o *one) Parts() virt.Parts {
	return virt.Parts{Registry: o.reg, Drivers: map[string]virt.Driver{"d": driver{who: o.name, l: o.l}}, Now: time.Now}
}

// lease is the least that a session can have.
const lease = 5 * time.Second

func start(t *testing.T, l *ledger, name, url string) *one {
	t.Helper()
	o := &one{t: t, name: name, l: l, link: etcdtest.NewLink(t, url), done: make(chan error, 1)}
	c := etcd.Defaults()
	c.Endpoints = []string{o.link.URL()}
	c.Timeout, c.Probe, c.Alone = time.Second, 200*time.Millisecond, lease
	var err error
	if o.reg, err = etcd.Open(t.Context(), c, registry.Deps{}); err != nil {
		t.Fatal(err)
	}
	p := poll.Defaults()
	p.Every, p.Timeout, p.CreateMissing = "@every 1s", 200*time.Millisecond, true
	if o.mon, err = poll.Open(t.Context(), p, monitor.Deps{Cluster: o, Divide: o.reg}); err != nil {
		t.Fatal(err)
	}
	var ctx context.Context
	ctx, o.stop = context.WithCancel(t.Context())
	go func() { o.done <- o.mon.Run(ctx) }()
	t.Cleanup(o.end)
	return o
}

// end ends it, for the first time only.
func (o *one) end() {
	if o.stop == nil {
		return
	}
	o.stop()
	o.stop = nil
	if err := errors.Join(<-o.done, o.mon.Close(), o.reg.Close()); err != nil {
		o.t.Errorf("%s: %v", o.name, err)
	}
}

// kill ends it with nothing told to anybody.
func (o *one) kill() {
	o.link.Hold()
	o.end()
}

// owners waits until each host has been asked by one of who alone, each of whom has
// some, since the call.
func (l *ledger) owners(t *testing.T, limit time.Duration, hosts int, who ...string) map[string]string {
	t.Helper()
	l.mu.Lock()
	clear(l.last)
	l.mu.Unlock()
	slices.Sort(who)
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	var last map[string]string
	for deadline := time.Now().Add(limit); time.Now().Before(deadline); <-tick.C {
		l.mu.Lock()
		last = maps.Clone(l.last)
		l.mu.Unlock()
		have := slices.Compact(slices.Sorted(maps.Values(last)))
		if len(last) == hosts && slices.Equal(have, who) {
			return last
		}
	}
	t.Fatalf("within %v of %d hosts these were asked by others than %v: %v", limit, hosts, who, last)
	return nil
}

func create(t *testing.T, r registry.Registry, d registry.Draft) {
	t.Helper()
	d.Name = d.ID
	if _, err := registry.Create(t.Context(), r, d); err != nil {
		t.Fatal(err)
	}
}

// The hosts of a cluster are spread over its managers: each is asked by one at a
// time, also while a manager is cut off from etcd and does not know it, and what a
// dead one asked is taken over within two lengths of its lease.
func TestOnePollerAHost(t *testing.T) {
	t.Parallel()
	const hosts = 24
	server := etcdtest.Run(t, etcdtest.Options{})
	l := &ledger{guests: map[string][]virt.Seen{}, asking: map[string]string{}, last: map[string]string{}, count: map[string]int{}}
	a := start(t, l, "a", server.URL())
	def, err := registry.NewDocument(virt.HostDefinition{Driver: "d"})
	if err != nil {
		t.Fatal(err)
	}
	for i := range hosts {
		create(t, a.reg, registry.Draft{ID: fmt.Sprintf("h%02d", i), Type: virt.TypeHypervisor, Definition: def})
	}
	l.owners(t, time.Minute, hosts, "a")
	start(t, l, "b", server.URL())
	c := start(t, l, "c", server.URL())
	spread := l.owners(t, time.Minute, hosts, "a", "b", "c")
	if all, err := a.reg.Members(t.Context()); err != nil || len(all) != 3 || !slices.Equal(all[0].Works, []string{"poll"}) {
		t.Errorf("the members are %+v, %v", all, err)
	}
	judged(t, a.reg, l, spread)

	c.kill()
	l.owners(t, 2*lease, hosts, "a", "b")
	a.link.Hold() // it goes on, and cannot know
	l.owners(t, 2*lease, hosts, "b")
	a.link.Mend()
	l.owners(t, time.Minute, hosts, "a", "b")
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.twice) > 0 {
		t.Errorf("hosts were asked by two: %s", strings.Join(l.twice, ", "))
	}
}

// judged: what takes more than one host to tell is told, although no manager asks
// all of them.
func judged(t *testing.T, r registry.Registry, l *ledger, spread map[string]string) {
	t.Helper()
	first := "h00"
	var other string
	for h, who := range spread {
		if who != spread[first] {
			other = h
		}
	}
	stray, twin := uuid.NewString(), uuid.NewString()
	create(t, r, registry.Draft{ID: stray, Type: virt.TypeVM})
	create(t, r, registry.Draft{ID: twin, Type: virt.TypeVM})
	see := func(host string, uuids ...string) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.guests[host] = nil
		for _, u := range uuids {
			l.guests[host] = append(l.guests[host], virt.Seen{UUID: u, Name: "n-" + u, State: virt.Running})
		}
	}
	until := func(what, id string, is func(n *registry.Node) bool) {
		t.Helper()
		tick := time.NewTicker(50 * time.Millisecond)
		defer tick.Stop()
		var n *registry.Node
		for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); <-tick.C {
			if n, _ = registry.Get(t.Context(), r, id); n != nil && is(n) {
				return
			}
		}
		t.Fatalf("%s: never; the node is %+v", what, n)
	}
	alarmed := func(n *registry.Node) bool { _, ok := virt.AlarmOf(n); return ok }
	unknown := uuid.NewString()
	see(first, stray, twin, unknown)
	until("a VM without a host is assigned", stray, func(n *registry.Node) bool { return n.Parent() == first })
	until("an unknown VM is adopted", unknown, func(n *registry.Node) bool { return n.Parent() == first })
	until("another too", twin, func(n *registry.Node) bool { return n.Parent() == first })
	see(other, twin)
	until("a VM on two hosts is an alarm", twin, alarmed)
	see(other)
	until("the alarm is taken back", twin, func(n *registry.Node) bool { return !alarmed(n) })
}
