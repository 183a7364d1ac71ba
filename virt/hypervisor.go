package virt

import (
	"context"
	"fmt"
	"iter"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/trail"
)

// Hypervisor is a hypervisor's node seen as what it stands for. It remembers
// only which one.
type Hypervisor struct {
	c    Cluster
	id   string
	name string
}

// HypervisorOf finds a hypervisor by ID, name or unique key.
func HypervisorOf(ctx context.Context, c Cluster, ref string) (*Hypervisor, error) {
	n, err := find(ctx, c, ref, TypeHypervisor)
	if err != nil {
		return nil, err
	}
	return HypervisorFrom(c, n), nil
}

// HypervisorFrom is the view of a node of type hv that the caller has read.
func HypervisorFrom(c Cluster, n *registry.Node) *Hypervisor {
	return &Hypervisor{c: c, id: n.ID(), name: n.Name()}
}

// Hypervisors yields every hypervisor, ordered by ID.
func Hypervisors(ctx context.Context, c Cluster) iter.Seq2[*Hypervisor, error] {
	return each(ctx, c, registry.Query{Type: TypeHypervisor}, HypervisorFrom)
}

// ID is the node's ID.
func (h *Hypervisor) ID() string { return h.id }

// Name is the node's name when it was found.
func (h *Hypervisor) Name() string { return h.name }

// Node reads the node.
func (h *Hypervisor) Node(ctx context.Context) (*registry.Node, error) {
	return registry.Get(ctx, h.c.Parts().Registry, h.id)
}

// State is the state that was seen last.
func (h *Hypervisor) State(ctx context.Context) (HostState, error) {
	n, err := h.Node(ctx)
	if err != nil {
		return "", err
	}
	return HostState(n.State()), nil
}

// Children are the VMs that are on it, ordered by ID.
func (h *Hypervisor) Children(ctx context.Context) ([]*VirtualMachine, error) {
	v, err := h.c.Parts().Registry.View(ctx)
	if err != nil {
		return nil, err
	}
	children, err := v.Children(h.id)
	if err != nil {
		return nil, err
	}
	list := make([]*VirtualMachine, 0, len(children.Nodes))
	for _, n := range children.Nodes {
		if n.Type() == TypeVM {
			list = append(list, VMFrom(h.c, n))
		}
	}
	return list, nil
}

// Status asks the driver what is there, at once, and writes nothing.
func (h *Hypervisor) Status(ctx context.Context) (Listing, error) {
	n, err := h.Node(ctx)
	if err != nil {
		return Listing{}, err
	}
	return status(ctx, h.c.Parts(), n)
}

func status(ctx context.Context, p Parts, n *registry.Node) (Listing, error) {
	host, def, err := HostOf(n)
	if err != nil {
		return Listing{}, err
	}
	d, err := p.Driver(def.Driver)
	if err != nil {
		return Listing{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, infoTimeout)
	defer cancel()
	l, err := d.Status(ctx, host)
	if err != nil {
		return l, fmt.Errorf("cannot ask host %s: %w", host.ID, err)
	}
	return l, nil
}

// SetMaintenance keeps new VMs off it, or lets them on again. What runs there
// goes on.
func (h *Hypervisor) SetMaintenance(ctx context.Context, on bool, reason string) error {
	ctx = because(ctx, reason)
	if err := trail.From(ctx).Validate(); err != nil {
		return fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	p := h.c.Parts()
	_, err := registry.Modify(ctx, p.Registry, h.id, func(d *registry.Draft) (err error) {
		if !on {
			d.Metadata, err = d.Metadata.Merge(nil, MetaMaintenance)
			return err
		}
		t := trail.From(ctx)
		d.Metadata, err = d.Metadata.Merge(map[string]any{MetaMaintenance: Maintenance{Since: p.now(), Reason: t.Reason, Source: t.Source}})
		return err
	})
	return err
}

// because puts a reason into the context's trail.
func because(ctx context.Context, reason string) context.Context {
	ctx = trail.Ensure(ctx, "")
	if reason == "" {
		return ctx
	}
	t := trail.From(ctx)
	t.Reason = reason
	return trail.With(ctx, t)
}
