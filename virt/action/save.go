package action

import (
	"context"
	"fmt"

	"github.com/vagoth/vagoth/virt"
)

// saveImage makes an image of what a container has written, on its host. The driver
// knows by the job what an earlier attempt has made.
func (r *run) saveImage(ctx context.Context) (Result, error) {
	const what = "save"
	id := r.params.Image
	if err := virt.CheckImageID(id); err != nil {
		return Result{}, fmt.Errorf("cannot %s %s: %w", what, r.node.Name(), err)
	}
	if r.guest.Definition.Type != virt.TypeContainer {
		return Result{}, fmt.Errorf("cannot %s %s: %w", what, r.node.Name(), virt.NotContainer(r.node.Name()))
	}
	if !r.there() {
		return Result{}, r.nowhere(what)
	}
	s, ok := r.driver.(virt.Saver)
	if !ok {
		return Result{}, fmt.Errorf("cannot %s %s: %w", what, r.node.Name(), &virt.UnableError{Driver: r.driverName, Host: r.host.ID, What: "images of containers"})
	}
	if err := r.reach(ctx, r.place, what); err != nil {
		return Result{}, err
	}
	r.step(50, "saving it as image %s on %s", id, r.host.ID)
	var made virt.Image
	if err := r.call(ctx, r.place, r.cfg.Disks, what, func(ctx context.Context) (err error) {
		made, err = s.SaveImage(ctx, r.host, r.guest, id)
		return err
	}); err != nil {
		return Result{}, err
	}
	return r.outcomeText(ctx, fmt.Sprintf("image %s, %d MB", id, made.Size))
}
