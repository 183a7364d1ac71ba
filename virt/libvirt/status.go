package libvirt

import (
	"context"
	"net"
	"strconv"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/google/uuid"

	"github.com/vagoth/vagoth/virt"
)

const statsAsked = uint32(golibvirt.DomainStatsState | golibvirt.DomainStatsBalloon | golibvirt.DomainStatsVCPU)

// Status lists a host's domains, all of them in one round trip. A domain that
// is busy is listed with what is known of it.
func (d *Driver) Status(ctx context.Context, h virt.Host) (virt.Listing, error) {
	p, err := d.pool(h)
	if err != nil {
		return virt.Listing{}, err
	}
	var l virt.Listing
	err = p.do(ctx, looks, "list the guests", func(_ context.Context, c *conn) error {
		l = virt.Listing{}
		records, err := p.stats(c, nil)
		if err != nil {
			return err
		}
		seen := make(map[golibvirt.UUID]bool, len(records))
		for _, r := range records {
			if seen[r.Dom.UUID] {
				return unreachable(malformed("the domain %s twice", uuid.UUID(r.Dom.UUID)))
			}
			seen[r.Dom.UUID] = true
			l.Guests = append(l.Guests, seenOf(r))
		}
		l.Complete = true
		l.Capacity, err = p.capacity(c)
		return err
	})
	if err != nil {
		return virt.Listing{}, err
	}
	return l, nil
}

// stats asks for all domains, or for some.
func (p *pool) stats(c *conn, doms []golibvirt.Domain) ([]golibvirt.DomainStatsRecord, error) {
	if p.endpoint.isTest() {
		return testStats(c, doms)
	}
	records, err := c.ConnectGetAllDomainStats(doms, statsAsked, uint32(golibvirt.ConnectGetAllDomainsStatsNowait))
	return records, translate(err)
}

// numbersOf are the values of a record that are whole numbers.
func numbersOf(r golibvirt.DomainStatsRecord) map[string]int64 {
	numbers := make(map[string]int64, len(r.Params))
	for _, p := range r.Params {
		switch v := p.Value.I.(type) {
		case int32:
			numbers[p.Field] = int64(v)
		case uint32:
			numbers[p.Field] = int64(v)
		case int64:
			numbers[p.Field] = v
		case uint64:
			numbers[p.Field] = int64(min(v, 1<<62))
		}
	}
	return numbers
}

func seenOf(r golibvirt.DomainStatsRecord) virt.Seen {
	numbers := numbersOf(r)
	memory := numbers["balloon.maximum"]
	if memory == 0 {
		memory = numbers["balloon.current"]
	}
	return virt.Seen{
		UUID:   uuid.UUID(r.Dom.UUID).String(),
		Name:   clean(r.Dom.Name, 256),
		State:  stateFrom(numbers["state.state"], numbers["state.reason"]),
		CPU:    int(max(0, min(numbers["vcpu.current"], 1<<20))),
		Memory: max(0, memory) >> 10,
	}
}

// stateFrom reads a virDomainState and its reason.
func stateFrom(state, reason int64) virt.State {
	switch golibvirt.DomainState(state) {
	case golibvirt.DomainRunning, golibvirt.DomainBlocked, golibvirt.DomainShutdown:
		return virt.Running
	case golibvirt.DomainPaused:
		switch {
		case reason == int64(golibvirt.DomainPausedCrashed):
			return virt.Crashed
		case onItsWay(state, reason):
			return virt.Running // nobody holds it, and it is not off
		}
		return virt.Paused
	case golibvirt.DomainPmsuspended:
		return virt.Paused
	case golibvirt.DomainCrashed:
		return virt.Crashed
	case golibvirt.DomainShutoff:
		if reason == int64(golibvirt.DomainShutoffCrashed) {
			return virt.Crashed
		}
		return virt.Stopped
	}
	return virt.Unknown
}

// onItsWay reports whether a domain is about to be up, or off: libvirt calls it paused
// meanwhile.
func onItsWay(state, reason int64) bool {
	return golibvirt.DomainState(state) == golibvirt.DomainPaused &&
		(reason == int64(golibvirt.DomainPausedStartingUp) || reason == int64(golibvirt.DomainPausedShuttingDown))
}

// arriving bounds how long a look at one guest waits until it is up, or off.
const arriving = 5 * time.Second

// settled is what a domain is once it is not on its way any more, if that is soon. Who
// looks after a start whose answer was lost would else be told that it runs, and be wrong
// if it never comes up.
func (p *pool) settled(ctx context.Context, c *conn, dom golibvirt.Domain) (golibvirt.DomainStatsRecord, error) {
	enough := time.NewTimer(arriving)
	defer enough.Stop()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		records, err := p.stats(c, []golibvirt.Domain{dom})
		if err != nil {
			return golibvirt.DomainStatsRecord{}, err
		}
		if len(records) != 1 || records[0].Dom.UUID != dom.UUID {
			return golibvirt.DomainStatsRecord{}, unreachable(malformed("%d records of one domain", len(records)))
		}
		if n := numbersOf(records[0]); !onItsWay(n["state.state"], n["state.reason"]) {
			return records[0], nil
		}
		select {
		case <-tick.C:
		case <-enough.C:
			return records[0], nil
		case <-ctx.Done():
			return records[0], nil
		}
	}
}

func stateOf(c *conn, dom golibvirt.Domain) (virt.State, error) {
	state, reason, err := c.DomainGetState(dom, 0)
	if err != nil {
		return "", translate(err)
	}
	return stateFrom(int64(state), int64(reason)), nil
}

// Info looks at one guest.
func (d *Driver) Info(ctx context.Context, h virt.Host, g virt.Guest) (virt.Info, error) {
	p, err := d.pool(h)
	if err != nil {
		return virt.Info{}, err
	}
	var info virt.Info
	err = d.withDomain(ctx, h, g, looks, "look at", func(ctx context.Context, c *conn, dom golibvirt.Domain) error {
		record, err := p.settled(ctx, c, dom)
		if err != nil {
			return err
		}
		text, err := c.DomainGetXMLDesc(dom, 0)
		if err != nil {
			return translate(err)
		}
		is, err := parseDomain(text)
		if err != nil {
			return err
		}
		info = virt.Info{Seen: seenOf(record)}
		_, _, _, _, nanoseconds, err := c.DomainGetInfo(dom)
		if err != nil {
			return translate(err)
		}
		info.CPUTime = time.Duration(min(nanoseconds, 1<<62))
		describe(&info, is)
		return nil
	})
	if err != nil {
		return virt.Info{}, err
	}
	for _, n := range g.Definition.NICs {
		if n.Address != "" {
			info.Addresses = append(info.Addresses, n.Address)
		}
	}
	return info, nil
}

// describe adds what a domain's XML says.
func describe(info *virt.Info, is described) {
	info.Extra = map[string]string{"hypervisor": clean(is.Type, 32)}
	if m := is.Metadata.Mark; m != nil {
		info.Extra["node"] = clean(m.Node, 128)
		if m.Job != "" {
			info.Extra["job"] = clean(m.Job, 128)
		}
	}
	for _, n := range is.NICs {
		if n.Target.Dev != "" {
			info.Extra["nic "+clean(n.MAC.Address, 32)] = clean(n.Target.Dev, 64)
		}
	}
	for _, s := range is.Serials {
		if s.Source.Path != "" {
			info.Console = clean(s.Source.Path, 1024)
			break
		}
	}
	for _, v := range is.Graphics {
		if v.Type == "vnc" && v.Port > 0 && v.Port <= 65535 {
			info.VNC = net.JoinHostPort(clean(v.Listen, 64), strconv.Itoa(v.Port))
			break
		}
	}
}

// Capacity says what a host has.
func (d *Driver) Capacity(ctx context.Context, h virt.Host) (virt.Capacity, error) {
	p, err := d.pool(h)
	if err != nil {
		return virt.Capacity{}, err
	}
	var all virt.Capacity
	err = p.do(ctx, looks, "look at the host", func(_ context.Context, c *conn) (err error) {
		all, err = p.capacity(c)
		return err
	})
	return all, err
}

// capacity is what the host has. It changes with a screwdriver in hand, so that
// most polls do without asking.
func (p *pool) capacity(c *conn) (virt.Capacity, error) {
	p.mu.Lock()
	k := p.has
	p.mu.Unlock()
	if now := p.now(); k.at.IsZero() || now.Sub(k.at) >= knownFor || now.Before(k.at) {
		all, err := p.askCapacity(c)
		if err != nil {
			return virt.Capacity{}, err
		}
		k = measured{at: now, capacity: all}
		p.mu.Lock()
		p.has = k
		p.mu.Unlock()
	}
	return k.capacity, nil
}

// measured is what a host has, and when it said so.
type measured struct {
	at       time.Time
	capacity virt.Capacity
}

// askCapacity asks for CPUs and memory, and for the disk below our storage pool
// if there is one.
func (p *pool) askCapacity(c *conn) (virt.Capacity, error) {
	_, memory, cpus, _, _, _, _, _, err := c.NodeGetInfo()
	if err != nil {
		return virt.Capacity{}, translate(err)
	}
	all := virt.Capacity{CPU: max(0, int64(cpus)), Memory: int64(min(memory>>10, 1<<53))}
	store, err := c.StoragePoolLookupByName(p.cfg.Pool)
	if err != nil {
		if answered(err, golibvirt.ErrNoStoragePool, golibvirt.ErrNoSupport) {
			return all, nil
		}
		return virt.Capacity{}, translate(err)
	}
	_, size, _, _, err := c.StoragePoolGetInfo(store)
	if err != nil {
		return virt.Capacity{}, translate(err)
	}
	all.Disk = int64(min(size>>20, 1<<53))
	return all, nil
}

// testStats makes the records that libvirt's test hypervisor does not give.
func testStats(c *conn, doms []golibvirt.Domain) ([]golibvirt.DomainStatsRecord, error) {
	if doms == nil {
		var err error
		if doms, _, err = c.ConnectListAllDomains(1, 0); err != nil {
			return nil, translate(err)
		}
	}
	records := make([]golibvirt.DomainStatsRecord, 0, len(doms))
	for _, dom := range doms {
		state, most, _, cpus, _, err := c.DomainGetInfo(dom)
		if err != nil {
			return nil, translate(err)
		}
		number := func(field string, v uint64) golibvirt.TypedParam {
			return golibvirt.TypedParam{Field: field, Value: golibvirt.TypedParamValue{D: 4, I: v}}
		}
		records = append(records, golibvirt.DomainStatsRecord{Dom: dom, Params: []golibvirt.TypedParam{
			number("state.state", uint64(state)), number("balloon.maximum", most), number("vcpu.current", uint64(cpus)),
		}})
	}
	return records, nil
}
