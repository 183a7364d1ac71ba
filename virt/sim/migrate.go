package sim

import (
	"context"
	"fmt"

	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
)

// Migrate moves a guest with its disks. Both hosts are held while it happens, so
// that nobody sees the guest on both or on none.
func (d *Driver) Migrate(ctx context.Context, from, to virt.Host, vg virt.Guest, live bool) error {
	if err := checkUUID(vg.UUID); err != nil {
		return err
	}
	a, err := d.host(nameOf(from))
	if err != nil {
		return err
	}
	b, err := d.host(nameOf(to))
	if err != nil {
		return err
	}
	if a == b {
		return fmt.Errorf("%w: %s and %s are one host", virt.ErrInvalid, from.ID, to.ID)
	}
	c := Call{At: d.now(), Host: a.name, Op: "migrate", UUID: vg.UUID, To: b.name, Trail: trail.From(ctx)}
	lost, err := d.begin(ctx, a, c)
	if err == nil {
		var lostToo bool
		lostToo, err = d.begin(ctx, b, c)
		lost = lost || lostToo
	}
	if err == nil {
		err = d.move(a, b, c, live)
	}
	if err == nil && lost {
		err = fmt.Errorf("%w: %s: the answer was lost (simulated)", virt.ErrUnreachable, a.name)
	}
	c.Err = err
	d.ledger.add(c)
	return err
}

func (d *Driver) move(a, b *host, c Call, live bool) error {
	uuid := c.UUID
	first, second := a, b
	if b.name < a.name {
		first, second = b, a
	}
	first.mu.Lock()
	defer first.mu.Unlock()
	second.mu.Lock()
	defer second.mu.Unlock()
	for _, h := range []*host{a, b} {
		if err := d.load(h); err != nil {
			return err
		}
	}
	for _, token := range []trail.Token{a.state.Fences[uuid], c.Trail.Token} { // what the guest has seen it brings along
		for _, h := range []*host{a, b} {
			raised, err := h.state.fence(uuid, token)
			if err == nil && raised {
				err = d.save(h)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", h.name, err)
			}
		}
	}
	now := d.now()
	g, err := a.state.find(uuid, now)
	if err != nil {
		return err
	}
	if g.active() && !live {
		return fmt.Errorf("%w: %s is %s: stop it, or move it live", virt.ErrBusy, g.Name, g.State)
	}
	if err := free(&b.state, g); err != nil {
		return fmt.Errorf("%s: %w", b.name, err)
	}
	moved := *g
	before := b.state.clone()
	b.state.put(moved)
	for _, v := range moved.Volumes {
		if old, ok := a.state.Disks[v]; ok && old.Owner == uuid {
			if b.state.Disks == nil {
				b.state.Disks = map[string]disk{}
			}
			b.state.Disks[v] = old
		}
	}
	b.state.setShots(uuid, a.state.Snapshots[uuid])
	if err := d.save(b); err != nil {
		b.state = before
		return err
	}
	a.state.remove(uuid)
	a.state.setShots(uuid, nil)
	for _, v := range moved.Volumes {
		if a.state.Disks[v].Owner == uuid {
			delete(a.state.Disks, v)
		}
	}
	d.moved(uuid, b.name, moved)
	return d.save(a)
}

// free checks that the host has nothing in the way of the guest.
func free(s *state, g *guest) error {
	for i := range s.Guests {
		if o := &s.Guests[i]; o.UUID == g.UUID || o.Name == g.Name {
			return fmt.Errorf("%w: guest %s, named %s, is there already", virt.ErrConflict, o.UUID, o.Name)
		}
	}
	for _, v := range g.Volumes {
		if o, ok := s.Disks[v]; ok {
			return fmt.Errorf("%w: the volume %s, made for guest %s, is there already", virt.ErrConflict, v, o.Owner)
		}
	}
	return nil
}

// moved remembers that a guest runs elsewhere now.
func (d *Driver) moved(uuid, host string, g guest) {
	d.ranMu.Lock()
	defer d.ranMu.Unlock()
	if g.active() {
		d.ran[uuid] = placed{host: host, off: g.OffAt}
	}
}
