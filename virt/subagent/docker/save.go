package docker

import (
	"context"
	"errors"
	"fmt"

	moby "github.com/moby/moby/client"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// SaveRequest asks for an image of a container. Opts are those of Mistify's
// sub-agent, which Dest says shorter.
type SaveRequest struct {
	ID   string `json:"id"`   // of the guest
	Dest string `json:"dest"` // what the image is to be called
	Opts struct {
		Repository string
		Tag        string
	} `json:"opts,omitzero"`
}

func (r *SaveRequest) dest() string {
	switch {
	case r.Dest != "":
		return r.Dest
	case r.Opts.Tag != "":
		return r.Opts.Repository + ":" + r.Opts.Tag
	}
	return r.Opts.Repository
}

// SaveContainer makes an image of what a container has written, which is held
// meanwhile. A name is taken once.
func (d *Docker) SaveContainer(ctx context.Context, r *SaveRequest) (*mistify.ImageResponse, error) {
	id, err := mistify.ParseGuestID(r.ID)
	if err != nil {
		return nil, err
	}
	ref, err := parseReference(r.dest())
	if err != nil {
		return nil, err
	}
	if !ref.named() || ref.sum != "" {
		return nil, fmt.Errorf("%w: what is saved gets a name, and %s has a sum", virt.ErrInvalid, r.dest())
	}
	for _, name := range [...]string{"guest " + id, "image " + ref.String()} {
		release, err := d.locks.Hold(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("the %s is being changed: %w", name, err)
		}
		defer release() //nolint:revive // both are held to the end
	}
	f, err := d.find(ctx, id)
	if err != nil {
		return nil, err
	}
	if _, err := d.inspect(ctx, ref); err == nil {
		return nil, fmt.Errorf("%w: the image %s is there already: delete it first, or choose another name", virt.ErrConflict, r.dest())
	} else if !errors.Is(err, virt.ErrNotFound) {
		return nil, err
	}
	// The guest's labels are not its image's.
	var changes []string
	for _, label := range ourLabels() {
		changes = append(changes, "LABEL "+label+`=""`)
	}
	err = d.do(ctx, "save the container "+id, d.o.TransferTimeout, func(ctx context.Context, c *moby.Client) error {
		_, err := c.ContainerCommit(ctx, f.id, moby.ContainerCommitOptions{Reference: ref.String(), Changes: changes})
		return err
	})
	if err != nil {
		return nil, err
	}
	i, err := d.inspect(ctx, ref)
	if err != nil {
		return nil, err
	}
	return one(wire(r.dest(), i.Size)), nil
}
