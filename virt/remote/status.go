package remote

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// Status lists every guest of the host, strangers included, ordered by UUID.
func (d *Driver) Status(ctx context.Context, h virt.Host) (virt.Listing, error) {
	c, address, err := d.agent(h)
	if err != nil {
		return virt.Listing{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Timeout)
	defer cancel()
	fail := func(err error) (virt.Listing, error) {
		return virt.Listing{}, &Error{What: "list what is on " + h.ID, Address: address, Kind: as(err, true), Err: err}
	}
	s, err := c[looks].Status(ctx)
	if err != nil {
		return fail(err)
	}
	if len(s.Guests) > d.cfg.MaxGuests {
		return fail(fmt.Errorf("%w: a listing of %d guests, where at most %d are allowed", virt.ErrUnreachable, len(s.Guests), d.cfg.MaxGuests))
	}
	l := listingOf(s)
	if !l.Complete {
		d.log.DebugContext(ctx, "a listing that is not complete", "host", h.ID, "problems", problems(s))
	}
	return l, nil
}

// listingOf reads a listing. What cannot be read is not listed, and so the listing
// is not complete.
func listingOf(s mistify.Status) virt.Listing {
	l := virt.Listing{Complete: s.Complete, Capacity: capacityOf(s.Capacity), Guests: make([]virt.Seen, 0, len(s.Guests))}
	for _, g := range s.Guests {
		seen, ok := seenOf(g)
		l.Complete = l.Complete && ok
		if ok {
			l.Guests = append(l.Guests, seen)
		}
	}
	slices.SortStableFunc(l.Guests, func(a, b virt.Seen) int { return strings.Compare(a.UUID, b.UUID) })
	n := len(l.Guests)
	l.Guests = slices.CompactFunc(l.Guests, func(a, b virt.Seen) bool { return a.UUID == b.UUID })
	l.Complete = l.Complete && len(l.Guests) == n
	return l
}

// Info looks at one guest.
func (d *Driver) Info(ctx context.Context, h virt.Host, g virt.Guest) (virt.Info, error) {
	if err := checkID(g); err != nil {
		return virt.Info{}, err
	}
	c, address, err := d.agent(h)
	if err != nil {
		return virt.Info{}, err
	}
	info, err := d.look(ctx, c, g)
	if err != nil {
		return virt.Info{}, &Error{What: "look at " + g.ID, Address: address, Kind: as(err, false), Err: err}
	}
	return info, nil
}

// look asks what is on the host. That a guest is not there needs a complete
// answer.
func (d *Driver) look(ctx context.Context, c client, g virt.Guest) (virt.Info, error) {
	ctx, cancel := context.WithTimeout(ctx, d.cfg.Timeout)
	defer cancel()
	s, err := c[looks].GuestStatus(ctx, g.UUID)
	if err != nil {
		return virt.Info{}, err
	}
	for _, one := range s.Guests {
		seen, ok := seenOf(one)
		if !ok || seen.UUID != g.UUID {
			continue
		}
		info := virt.Info{Seen: seen, CPUTime: seconds(one.CPUTime), VNC: clean(one.VNC, 256), Console: clean(one.Console, 1024)}
		for _, a := range one.Addresses[:min(len(one.Addresses), maxAddresses)] {
			info.Addresses = append(info.Addresses, clean(a, 64))
		}
		if len(info.Addresses) == 0 {
			for _, n := range g.Definition.NICs {
				if n.Address != "" {
					info.Addresses = append(info.Addresses, n.Address)
				}
			}
		}
		info.Extra = map[string]string{"driver": "remote"}
		if s.Version != "" {
			info.Extra["agent"] = clean(s.Version, 64)
		}
		return info, nil
	}
	if !s.Complete {
		return virt.Info{}, fmt.Errorf("%w: the agent sees only a part of its host: %s", virt.ErrUnreachable, problems(s))
	}
	return virt.Info{}, fmt.Errorf("%w: guest %s is not on the host", virt.ErrNotFound, g.UUID)
}

// Capacity says what the host has.
func (d *Driver) Capacity(ctx context.Context, h virt.Host) (virt.Capacity, error) {
	l, err := d.Status(ctx, h)
	return l.Capacity, err
}

// Bounds of what an agent says of one guest.
const (
	maxName      = 256
	maxAddresses = 64
	maxProblems  = 1000 // bytes
)

// seenOf reads one guest of a listing; false if it is none.
func seenOf(g mistify.Seen) (virt.Seen, bool) {
	id, err := mistify.ParseGuestID(g.ID)
	if err != nil {
		return virt.Seen{}, false
	}
	s := virt.Seen{UUID: id, Name: clean(g.Name, maxName), State: stateOf(string(g.State)), CPU: min(max(0, g.CPU), 1<<20), Memory: min(max(0, g.Memory), 1<<40)}
	if s.Name == "" {
		s.Name = id
	}
	return s, true
}

// stateOf reads a state as an agent says it: in our words, or in those that
// Mistify's sub-agent has for libvirt's states.
func stateOf(s string) virt.State {
	switch strings.ToLower(s) {
	case "running", "blocked", "shutdown": // shutting down is not down
		return virt.Running
	case "paused", "suspended", "pmsuspended":
		return virt.Paused
	case "stopped", "shutoff", "defined":
		return virt.Stopped
	case "crashed":
		return virt.Crashed
	}
	return virt.Unknown
}

// seconds reads a time, whatever it is.
func seconds(s float64) time.Duration {
	if !(s > 0) {
		return 0
	}
	return time.Duration(math.Min(s, 1e9) * float64(time.Second))
}

func capacityOf(c virt.Capacity) virt.Capacity {
	bound := func(n int64) int64 { return min(max(0, n), 1<<40) }
	return virt.Capacity{CPU: bound(c.CPU), Memory: bound(c.Memory), Disk: bound(c.Disk)}
}

func problems(s mistify.Status) string {
	if len(s.Problems) == 0 {
		return "it does not say why"
	}
	return clean(strings.Join(s.Problems[:min(len(s.Problems), 10)], "; "), maxProblems)
}
