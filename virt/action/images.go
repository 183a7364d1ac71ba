package action

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
)

// ImageResult is what the actions of images answer.
type ImageResult struct {
	Hypervisor string     `json:"hv"`
	Image      virt.Image `json:"image"`
}

// imageRun is one attempt of an action of images.
type imageRun struct {
	*menu
	task   scheduler.Task
	params virt.HostParams
	host   virt.Host
	imager virt.Imager
}

// addHost is add for the actions of hypervisors.
func (m *menu) addHost(name, help string, fn func(*imageRun, context.Context) (ImageResult, error), params ...scheduler.Param) {
	m.all[name] = scheduler.Action{
		Name: name, Help: help,
		Params: append([]scheduler.Param{
			{Name: "hv", Type: scheduler.String, Required: true, Help: "the node's ID"},
			{Name: "id", Type: scheduler.String, Required: true, Help: "the image's ID"},
		}, params...),
		Run: func(ctx context.Context, t scheduler.Task) (any, error) {
			r := &imageRun{menu: m, task: t}
			if err := scheduler.DecodeParams(t, &r.params); err != nil {
				return nil, err
			}
			if err := r.look(ctx); err != nil {
				return nil, ended(ctx, fmt.Errorf("cannot %s %s: %w", name, r.params.Hypervisor, err))
			}
			res, err := fn(r, ctx)
			if err != nil {
				return nil, ended(ctx, err)
			}
			res.Hypervisor = r.params.Hypervisor
			return res, nil
		},
	}
}

// look finds the host and what drives it.
func (r *imageRun) look(ctx context.Context) error {
	parts := r.cluster.Parts()
	n, err := registry.Get(ctx, parts.Registry, r.params.Hypervisor)
	if err != nil {
		return err
	}
	host, def, err := virt.HostOf(n)
	if err != nil {
		return err
	}
	d, err := parts.Driver(def.Driver)
	if err != nil {
		return err
	}
	if virt.HostState(n.State()) == virt.Down {
		return fmt.Errorf("%w: it was confirmed down: poll it when it is back", virt.ErrUnreachable)
	}
	i, ok := d.(virt.Imager)
	if !ok {
		return &virt.UnableError{Driver: def.Driver, Host: host.ID, What: "images"}
	}
	r.host, r.imager = host, i
	return nil
}

// fetchImage gets an image onto the host. A driver that is asked again for one
// that it has, or that is on its way, goes on from there.
func (r *imageRun) fetchImage(ctx context.Context) (ImageResult, error) {
	if err := r.params.Check(); err != nil {
		return ImageResult{}, err
	}
	id := r.params.ID
	r.task.Log(fmt.Sprintf("fetching %s to %s", id, r.host.ID))
	r.task.Progress(0, "fetching")
	last := time.Time{}
	got, err := r.imager.FetchImage(ctx, r.host, r.params.ImageRequest, func(done, total int64) {
		if now := time.Now(); now.Sub(last) >= progressEvery {
			last = now
			r.task.Progress(percentOf(done, total), amounts(done, total))
		}
	})
	if err != nil {
		return ImageResult{}, fmt.Errorf("cannot fetch image %s to host %s: %w", id, r.host.ID, err)
	}
	r.task.Progress(100, fmt.Sprintf("%d MB", got.Size))
	return ImageResult{Image: got}, nil
}

// progressEvery is how often a fetch says how far it is.
const progressEvery = 200 * time.Millisecond

func percentOf(done, total int64) int {
	if total <= 0 {
		return 0
	}
	return int(min(99, max(0, float64(done)/float64(total)*100)))
}

func amounts(done, total int64) string {
	if total <= 0 {
		return component.Size(done).String()
	}
	return fmt.Sprintf("%d of %d MB", done>>20, total>>20)
}

// deleteImage removes an image from the host.
func (r *imageRun) deleteImage(ctx context.Context) (ImageResult, error) {
	if err := virt.CheckImageID(r.params.ID); err != nil {
		return ImageResult{}, err
	}
	bounded, cancel := context.WithTimeout(ctx, r.cfg.Disks)
	defer cancel()
	err := r.imager.DeleteImage(bounded, r.host, r.params.ID)
	if errors.Is(err, virt.ErrNotFound) && max(r.task.Job().Trail.Attempt, trail.From(ctx).Attempt) > 1 {
		r.task.Log("it is gone")
		err = nil
	}
	if err != nil {
		return ImageResult{}, fmt.Errorf("cannot delete image %s of host %s: %w", r.params.ID, r.host.ID, err)
	}
	return ImageResult{Image: virt.Image{ID: r.params.ID, Status: "deleted"}}, nil
}
