package sim

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// Driver is what the sub-agent stands over.
type Driver interface {
	virt.Driver
	virt.Suspender
}

// Disks looks into the disks of a driver's hosts. A Driver that is one gives
// snapshots their content.
type Disks interface {
	// Disk returns the content of a volume, and whether it is there.
	Disk(host, volume string) (text string, ok bool, err error)
	// WriteDisk replaces the content of a volume.
	WriteDisk(host, volume, text string) error
}

// Options modify New. The zero Options are fine.
type Options struct {
	FetchTime time.Duration // how long an image is fetched
	Download  int64         // bytes of a download, at most; 0 is 1 MiB
	Log       *slog.Logger
	Now       func() time.Time
}

// Agent is the sub-agent of one host. Its methods are those of the actions; they
// are safe for concurrent use.
type Agent struct {
	driver Driver
	disks  Disks // nil if the driver has none
	host   virt.Host
	opts   Options

	mu      sync.Mutex
	guests  map[string]virt.Guest // what was said of each last, as snapshots are asked for by the ID alone
	shelves map[string]*shelf     // by guest
	images  map[bool]gallery      // of containers, and of disks
	number  uint64                // of the last snapshot
}

// New makes a sub-agent of a host of the driver.
func New(d Driver, host virt.Host, o Options) *Agent {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Download <= 0 {
		o.Download = 1 << 20
	}
	a := &Agent{driver: d, host: host, opts: o, guests: map[string]virt.Guest{}, shelves: map[string]*shelf{}, images: map[bool]gallery{true: {}, false: {}}}
	a.disks, _ = d.(Disks)
	return a
}

// name is what the driver calls the host.
func (a *Agent) name() string {
	if a.host.Address != "" {
		return a.host.Address
	}
	return a.host.ID
}

// maxGuests bounds the guests that are remembered.
const maxGuests = 100_000

// read takes the guest out of a request.
func (a *Agent) read(g *mistify.Guest) (virt.Guest, error) {
	if g == nil {
		return virt.Guest{}, fmt.Errorf("%w: the request has no guest", virt.ErrInvalid)
	}
	v, err := g.Virt()
	if err != nil {
		return virt.Guest{}, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if _, ok := a.guests[v.UUID]; !ok && len(a.guests) >= maxGuests {
		return virt.Guest{}, fmt.Errorf("%w: there are %d guests, which is the limit", virt.ErrConflict, maxGuests)
	}
	a.guests[v.UUID] = v
	return v, nil
}

// deed is one thing done to a guest.
type deed func(context.Context, virt.Host, virt.Guest) error

// do runs deeds in their order and answers the guest as it is then.
func (a *Agent) do(ctx context.Context, what string, r *mistify.GuestRequest, deeds ...deed) (*mistify.GuestResponse, error) {
	v, err := a.read(r.Guest)
	if err != nil {
		return nil, err
	}
	a.opts.Log.DebugContext(ctx, "asked of the simulated host", "action", what, "guest", v.UUID, "trail", trail.From(ctx))
	for _, do := range deeds {
		if err := do(ctx, a.host, v); err != nil {
			return nil, err
		}
	}
	return a.answer(ctx, r.Guest, v)
}

// answer is the guest of a request with everything filled in, and its state.
func (a *Agent) answer(ctx context.Context, asked *mistify.Guest, v virt.Guest) (*mistify.GuestResponse, error) {
	g := asked.Clone()
	g.ID = v.UUID
	for i, d := range v.Definition.Disks {
		w := &g.Disks[i]
		w.Bus, w.Device, w.Volume, w.Format = d.Bus, d.Device, d.Volume, d.Format
	}
	for i, n := range v.Definition.NICs {
		w := &g.NICs[i]
		w.Type, w.Network, w.Model, w.MAC = n.Type, n.Network, n.Model, n.MAC
	}
	info, err := a.driver.Info(ctx, a.host, v)
	switch {
	case errors.Is(err, virt.ErrNotFound):
		g.State = ""
	case err != nil:
		return nil, err
	default:
		g.State = string(info.State)
	}
	return &mistify.GuestResponse{Guest: g}, nil
}

// power is a deed of the driver's Power.
func (a *Agent) power(op virt.PowerOp) deed {
	return func(ctx context.Context, h virt.Host, v virt.Guest) error { return a.driver.Power(ctx, h, v, op) }
}

// gone runs a deed that is done already where the guest is not there.
func gone(do deed) deed {
	return func(ctx context.Context, h virt.Host, v virt.Guest) error {
		if err := do(ctx, h, v); !errors.Is(err, virt.ErrNotFound) {
			return err
		}
		return nil
	}
}
