package libvirt

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"

	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// Driver is what the sub-agent stands over.
type Driver interface {
	virt.Driver
	virt.Suspender
}

// Eraser is a Driver that can make its host forget a guest with all that is kept
// beside its disks, such as the variables of its firmware. Without it a guest that
// is removed is undefined.
type Eraser interface {
	Erase(ctx context.Context, h virt.Host, g virt.Guest) error
}

// Options modify New. The zero Options are fine.
type Options struct {
	Log   *slog.Logger
	Peers []string // libvirt URIs to which guests may be moved, as path.Match has patterns; none moves none
}

// Agent is the sub-agent of one host. Its methods are those of the actions; they
// are safe for concurrent use.
type Agent struct {
	driver Driver
	host   virt.Host
	log    *slog.Logger
	peers  []string
}

// New makes a sub-agent of a host of the driver.
func New(d Driver, host virt.Host, o Options) *Agent {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return &Agent{driver: d, host: host, log: o.Log, peers: o.Peers}
}

// read takes the guest out of a request, as a domain is made of it.
func read(g *mistify.Guest) (virt.Guest, error) {
	if g == nil {
		return virt.Guest{}, fmt.Errorf("%w: the request has no guest", virt.ErrInvalid)
	}
	v, err := g.Virt()
	if err != nil {
		return virt.Guest{}, err
	}
	v.Definition.Image = ""
	for i := range v.Definition.Disks {
		d := &v.Definition.Disks[i]
		d.Image, d.Size = "", 0
		if d.Source != "" {
			d.Volume = ""
		}
	}
	return v, nil
}

// sourced refuses a guest with a disk that is nowhere.
func sourced(v virt.Guest) error {
	for i, d := range v.Definition.Disks {
		if d.Source == "" {
			return fmt.Errorf("%w: disk %d of guest %s has no source: a store has to make it, or say where it is, in a stage before this one", virt.ErrConflict, i, v.UUID)
		}
	}
	return nil
}

// deed is one thing done to a guest.
type deed func(context.Context, virt.Guest) error

// do runs deeds in their order and answers the guest as it is then.
func (a *Agent) do(ctx context.Context, what string, r *mistify.GuestRequest, deeds ...deed) (*mistify.GuestResponse, error) {
	v, err := read(r.Guest)
	if err != nil {
		return nil, err
	}
	a.log.DebugContext(ctx, "asked of libvirt", "action", what, "guest", v.UUID, "trail", trail.From(ctx))
	for _, do := range deeds {
		if err := do(ctx, v); err != nil {
			return nil, err
		}
	}
	return a.answer(ctx, r.Guest, v)
}

// answer is the guest of a request with what is known of it on the host.
func (a *Agent) answer(ctx context.Context, asked *mistify.Guest, v virt.Guest) (*mistify.GuestResponse, error) {
	g := asked.Clone()
	g.ID, g.State, g.VNC = v.UUID, "", 0
	for i, d := range v.Definition.Disks {
		w := &g.Disks[i]
		w.Bus, w.Device, w.Format = d.Bus, d.Device, d.Format
	}
	for i, n := range v.Definition.NICs {
		w := &g.NICs[i]
		w.Type, w.Network, w.Model, w.MAC = n.Type, n.Network, n.Model, n.MAC
	}
	info, err := a.driver.Info(ctx, a.host, v)
	switch {
	case errors.Is(err, virt.ErrNotFound):
	case err != nil:
		return nil, err
	default:
		g.State, g.VNC = stateName(info.State), port(info.VNC)
		for i := range g.NICs {
			if device := info.Extra["nic "+strings.ToLower(g.NICs[i].MAC)]; device != "" {
				g.NICs[i].Device = device
			}
		}
	}
	return &mistify.GuestResponse{Guest: g}, nil
}

// stateName is what a state is called on the wire.
func stateName(s virt.State) string {
	if s == virt.Stopped {
		return "shutoff"
	}
	return string(s)
}

// port is the port of an address; 0 if it is none.
func port(address string) int {
	_, text, err := net.SplitHostPort(address)
	if err != nil {
		return 0
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > 65535 {
		return 0
	}
	return n
}

// power is a deed of the driver's Power.
func (a *Agent) power(op virt.PowerOp) deed {
	return func(ctx context.Context, v virt.Guest) error { return a.driver.Power(ctx, a.host, v, op) }
}

// gone runs a deed that is done already where the guest is not there.
func gone(do deed) deed {
	return func(ctx context.Context, v virt.Guest) error {
		if err := do(ctx, v); !errors.Is(err, virt.ErrNotFound) {
			return err
		}
		return nil
	}
}
