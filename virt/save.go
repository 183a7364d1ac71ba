package virt

import (
	"context"
	"fmt"

	"github.com/vagoth/vagoth/scheduler"
)

// Saver is a Driver whose hosts can make an image of what a container has written,
// which is held meanwhile. A virtual machine is ErrUnsupported: what it has written
// is on its disks, and those have snapshots (Snapshotter).
type Saver interface {
	// SaveImage makes the image, on the guest's host, and returns it complete. An ID
	// that is taken is ErrConflict, unless the image was made for the job of ctx's
	// trail: an attempt after one that ended without an answer succeeds.
	SaveImage(ctx context.Context, h Host, g Guest, id string) (Image, error)
}

// NotContainer is the error of a guest that is to be saved and is no container.
func NotContainer(name string) error {
	return fmt.Errorf("%w: %.64s is no container, and only what a container has written becomes an image: `vagoth snapshot create %.64s` keeps what its disks hold", ErrUnsupported, name, name)
}

// SaveImage makes an image of what the container has written, on its host.
func (m *VirtualMachine) SaveImage(ctx context.Context, id string) (scheduler.Status, error) {
	return m.submit(ctx, ActionSaveImage, Params{Image: id})
}
