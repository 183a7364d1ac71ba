package virt

import (
	"context"
	"errors"
	"fmt"

	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// driven is a hypervisor with what drives it.
func (h *Hypervisor) driven(ctx context.Context) (l located, err error) {
	n, err := h.Node(ctx)
	if err != nil {
		return l, err
	}
	return driverOf(h.c.Parts(), n.ID(), func() (Host, HostDefinition, error) { return HostOf(n) })
}

// driverOf finds the driver of what host reads.
func driverOf(p Parts, id string, host func() (Host, HostDefinition, error)) (l located, err error) {
	at, def, err := host()
	if err != nil {
		return l, err
	}
	d, err := p.Driver(def.Driver)
	if err != nil {
		return l, fmt.Errorf("host %s: %w", id, err)
	}
	return located{host: at, driver: d, name: def.Driver}, nil
}

func (h *Hypervisor) imager(ctx context.Context) (located, Imager, error) {
	l, err := h.driven(ctx)
	if err != nil {
		return l, nil, err
	}
	i, err := able[Imager](l, "images")
	return l, i, err
}

// Images asks the host for its images, at once.
func (h *Hypervisor) Images(ctx context.Context) ([]Image, error) {
	l, i, err := h.imager(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, infoTimeout)
	defer cancel()
	list, err := i.Images(ctx, l.host)
	if err != nil {
		return nil, fmt.Errorf("cannot ask host %s for its images: %w", l.host.ID, err)
	}
	return list, nil
}

// Image asks the host for one image, at once.
func (h *Hypervisor) Image(ctx context.Context, id string) (Image, error) {
	l, i, err := h.imager(ctx)
	if err != nil {
		return Image{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, infoTimeout)
	defer cancel()
	one, err := i.Image(ctx, l.host, id)
	if err != nil {
		return one, fmt.Errorf("cannot ask host %s for image %.128q: %w", l.host.ID, id, err)
	}
	return one, nil
}

// FetchImage gets an image onto the host.
func (h *Hypervisor) FetchImage(ctx context.Context, r ImageRequest) (scheduler.Status, error) {
	return h.submit(ctx, ActionFetchImage, HostParams{ImageRequest: r})
}

// DeleteImage removes an image.
func (h *Hypervisor) DeleteImage(ctx context.Context, id string) (scheduler.Status, error) {
	return h.submit(ctx, ActionDeleteImage, HostParams{ImageRequest: ImageRequest{ID: id}})
}

// submit submits one job on the hypervisor's queue.
func (h *Hypervisor) submit(ctx context.Context, action string, p HostParams) (scheduler.Status, error) {
	p.Hypervisor = h.id
	j := HostJob(action, p)
	j.Trail = trail.From(ctx)
	list, err := h.c.Parts().Scheduler.Submit(ctx, scheduler.Package{Jobs: []scheduler.Job{j}})
	if err != nil {
		return scheduler.Status{}, fmt.Errorf("cannot submit %s for %s: %w", action, h.name, err)
	}
	if len(list) != 1 {
		return scheduler.Status{}, errors.New("the scheduler answered one job with another number of states")
	}
	return list[0], list[0].Err()
}

// Probe asks a host that need not be a node yet what it has.
func Probe(ctx context.Context, p Parts, id string, def HostDefinition) (Capacity, error) {
	l, err := driverOf(p, id, func() (Host, HostDefinition, error) { return Host{ID: id, Address: def.Address}, def, nil })
	if err != nil {
		return Capacity{}, err
	}
	m, err := able[Measurer](l, "way to say what a host has")
	if err != nil {
		return Capacity{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, infoTimeout)
	defer cancel()
	c, err := m.Capacity(ctx, l.host)
	if err != nil {
		return c, fmt.Errorf("cannot ask host %s what it has: %w", id, err)
	}
	return c, nil
}
