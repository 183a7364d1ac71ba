package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
)

// Driver is all simulated hosts of one section. Its methods are safe for
// concurrent use.
type Driver struct {
	cfg Config
	log *slog.Logger
	now func() time.Time

	mu    sync.RWMutex
	hosts map[string]*host

	ledger ledger
	ranMu  sync.Mutex
	ran    map[string]placed // where a guest was started last
	twice  []string
}

// Interfaces of the driver.
var (
	_ virt.Driver       = (*Driver)(nil)
	_ virt.Suspender    = (*Driver)(nil)
	_ virt.Migrator     = (*Driver)(nil)
	_ virt.Measurer     = (*Driver)(nil)
	_ virt.Snapshotter  = (*Driver)(nil)
	_ virt.Meter        = (*Driver)(nil)
	_ virt.Imager       = (*Driver)(nil)
	_ virt.DiskAttacher = (*Driver)(nil)
	_ virt.Consoler     = (*Driver)(nil)
	_ virt.Fencer       = (*Driver)(nil)
)

// host returns the host with the name, making it if need be.
func (d *Driver) host(name string) (*host, error) {
	d.mu.RLock()
	h := d.hosts[name]
	d.mu.RUnlock()
	if h != nil {
		return h, nil
	}
	if err := registry.CheckName(name); err != nil {
		return nil, fmt.Errorf("%w: the simulated host's address: %w", virt.ErrInvalid, err)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if h = d.hosts[name]; h == nil {
		if len(d.hosts) >= maxHosts {
			return nil, fmt.Errorf("%w: there are %d simulated hosts, which is the limit", virt.ErrInvalid, maxHosts)
		}
		h = &host{name: name}
		d.hosts[name] = h
	}
	return h, nil
}

func nameOf(h virt.Host) string {
	if h.Address != "" {
		return h.Address
	}
	return h.ID
}

// call is one call from its beginning: faults and latency, then the deed on the
// host's state, saved if it changed, then the ledger.
func (d *Driver) call(ctx context.Context, vh virt.Host, op, uuid string, deed func(s *state, now time.Time) (changed bool, err error)) error {
	h, err := d.host(nameOf(vh))
	if err != nil {
		return err
	}
	c := Call{At: d.now(), Host: h.name, Op: op, UUID: uuid, Trail: trail.From(ctx)}
	lost, err := d.begin(ctx, h, c)
	if err == nil {
		err = d.change(h, c, deed)
	}
	if err == nil && lost {
		err = fmt.Errorf("%w: %s: the answer was lost (simulated)", virt.ErrUnreachable, h.name)
	}
	c.Err = err
	d.ledger.add(c)
	return err
}

// begin lets the host take its time and fail. lost says that the answer will
// not arrive.
func (d *Driver) begin(ctx context.Context, h *host, c Call) (lost bool, err error) {
	h.mu.Lock()
	f := h.faults
	h.calls++
	n := h.calls
	h.mu.Unlock()
	if f.intercept != nil {
		if err := f.intercept(ctx, c); err != nil {
			return false, err
		}
	}
	if f.hang != nil {
		done := ctx.Done()
		if f.deaf {
			done = nil
		}
		select {
		case <-f.hang:
		case <-done:
			return false, late(ctx, h.name)
		}
	}
	if ctx.Err() != nil {
		return false, late(ctx, h.name)
	}
	var chance *rand.Rand
	if d.cfg.Jitter > 0 || d.cfg.Failures > 0 {
		chance = rand.New(rand.NewPCG(mix(d.cfg.Seed+mix(n)), nameHash(h.name)))
	}
	wait := d.cfg.Latency
	if d.cfg.Jitter > 0 {
		wait += time.Duration(chance.Int64N(int64(d.cfg.Jitter)))
	}
	if wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return false, late(ctx, h.name)
		}
	}
	if f.err != nil {
		return false, f.err
	}
	if d.cfg.Failures > 0 && chance.Float64() < d.cfg.Failures {
		if lost = chance.IntN(2) == 0; !lost {
			return false, fmt.Errorf("%w: %s: the request was lost (simulated)", virt.ErrUnreachable, h.name)
		}
	}
	return lost, nil
}

// late is the error of a call whose context ended.
func late(ctx context.Context, host string) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("%w: %s did not answer in time: %w", virt.ErrUnreachable, host, ctx.Err())
	}
	return fmt.Errorf("%s: %w", host, ctx.Err())
}

// nameHash is FNV-1a: the same in every process.
func nameHash(s string) uint64 {
	sum := uint64(14695981039346656037)
	for i := range len(s) {
		sum = (sum ^ uint64(s[i])) * 1099511628211
	}
	return sum
}

// mix spreads neighbouring numbers (the finalizer of splitmix64).
func mix(n uint64) uint64 {
	n = (n ^ n>>30) * 0xbf58476d1ce4e5b9
	n = (n ^ n>>27) * 0x94d049bb133111eb
	return n ^ n>>31
}

// change runs a deed on the state of one host, unless a newer token fences it off.
func (d *Driver) change(h *host, c Call, deed func(*state, time.Time) (bool, error)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if err := d.load(h); err != nil {
		return err
	}
	raised := false
	if !looks(c.Op) {
		var err error
		if raised, err = h.state.fence(c.UUID, c.Trail.Token); err != nil {
			return err
		}
	}
	changed, err := deed(&h.state, d.now())
	if err != nil {
		changed = false
	}
	if raised || changed { // a token was seen also by what is refused for another reason
		err = errors.Join(err, d.save(h))
	}
	return err
}

// placed is where a guest was started.
type placed struct {
	host string
	off  time.Time // when a shutdown takes effect there; zero while it runs
}

// started remembers where a guest runs, and whether it already runs elsewhere.
func (d *Driver) started(uuid, host string, now time.Time) {
	d.ranMu.Lock()
	defer d.ranMu.Unlock()
	if p, ok := d.ran[uuid]; ok && p.host != host && (p.off.IsZero() || now.Before(p.off)) {
		d.twice = append(d.twice, fmt.Sprintf("%s was started on %s while it ran on %s", uuid, host, p.host))
	}
	d.ran[uuid] = placed{host: host}
}

// ended remembers that a guest no longer runs on the host, from off on.
func (d *Driver) ended(uuid, host string, off time.Time) {
	d.ranMu.Lock()
	defer d.ranMu.Unlock()
	if p, ok := d.ran[uuid]; !ok || p.host != host {
		return
	}
	if off.IsZero() {
		delete(d.ran, uuid)
		return
	}
	d.ran[uuid] = placed{host: host, off: off}
}
