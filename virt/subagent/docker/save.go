package docker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"

	moby "github.com/moby/moby/client"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// SaveRequest is mistify.SaveRequest with the options of Mistify's sub-agent, which
// Dest says shorter.
type SaveRequest struct {
	ID   string            `json:"id"`
	Dest string            `json:"dest"`
	Job  string            `json:"job,omitempty"`
	Args map[string]string `json:"args,omitempty"`
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

// labelSaved says of an image for which guest and job it was saved.
const labelSaved = "vagoth.saved"

// savedAs is the label's value; "" where no job is named. A job is called anything,
// and a label is a part of an instruction.
func savedAs(guest, job string) string {
	if job == "" {
		return ""
	}
	sum := sha256.Sum256([]byte(guest + "\x00" + job))
	return hex.EncodeToString(sum[:16])
}

// SaveContainer makes an image of what a container has written, which is held
// meanwhile. A name is taken once; asked again for the same job, the image that is
// there is the one that was made.
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
	mark := savedAs(id, r.Job)
	i, err := d.inspect(ctx, ref)
	switch {
	case err == nil && mark != "" && i.Config != nil && i.Config.Labels[labelSaved] == mark:
		return one(wire(r.dest(), i.Size)), nil
	case err == nil:
		return nil, fmt.Errorf("%w: the image %s is there already: delete it first, or choose another name", virt.ErrConflict, r.dest())
	case !errors.Is(err, virt.ErrNotFound):
		return nil, err
	}
	changes := []string{"LABEL " + labelSaved + `="` + mark + `"`}
	for _, label := range ourLabels() { // the guest's are not its image's
		changes = append(changes, "LABEL "+label+`=""`)
	}
	err = d.do(ctx, "save the container "+id, d.o.TransferTimeout, func(ctx context.Context, c *moby.Client) error {
		_, err := c.ContainerCommit(ctx, f.id, moby.ContainerCommitOptions{Reference: ref.String(), Changes: changes})
		return err
	})
	if err != nil {
		return nil, err
	}
	if i, err = d.inspect(ctx, ref); err != nil {
		return nil, err
	}
	return one(wire(r.dest(), i.Size)), nil
}
