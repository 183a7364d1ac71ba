package poll

import (
	"context"
	"errors"
	"fmt"

	"github.com/vagoth/vagoth/monitor"
	"github.com/vagoth/vagoth/registry"
)

// change is an observation on its way into one node.
type change struct {
	id       string
	revision uint64 // that the node must still have
	state    *string
	parent   *string // set where there is none
	set      map[string]any
	remove   []string
	// alone, if set, does the work instead of the fields above, in an Update of
	// its own, and reports whether it wrote.
	alone   func(registry.Tx) (bool, error)
	finding finding // reported if it was written
}

// finding is a finding with the host in whose report it stands.
type finding struct {
	monitor.Finding
	on string
}

// batch is how many nodes one Update writes; fewer if they are large.
const batch = 40

// write writes the changes, a few in one Update, and returns those that were
// written: a node that is not as it was when it was looked at is left for the
// next round. A change that the registry refuses holds up no other.
func write(ctx context.Context, reg registry.Registry, changes []change) (written []change, err error) {
	var refused []error
	for len(changes) > 0 {
		n := 1
		for n < len(changes) && n < batch && changes[n].alone == nil && changes[n-1].alone == nil {
			n++
		}
		done, err := writeBatch(ctx, reg, changes[:n])
		written = append(written, done...)
		if err != nil {
			refused = append(refused, err)
			if !ofItsContent(err) {
				break
			}
		}
		changes = changes[n:]
	}
	return written, errors.Join(refused...)
}

func writeBatch(ctx context.Context, reg registry.Registry, changes []change) (written []change, err error) {
	err = reg.Update(ctx, func(tx registry.Tx) error {
		written = written[:0]
		for _, c := range changes {
			wrote, err := c.apply(tx)
			if err != nil {
				return fmt.Errorf("node %s: %w", c.id, err)
			}
			if wrote {
				written = append(written, c)
			}
		}
		return nil
	})
	if err == nil {
		return written, nil
	}
	if len(changes) == 1 || !ofItsContent(err) {
		return nil, err
	}
	half := len(changes) / 2
	first, err1 := writeBatch(ctx, reg, changes[:half])
	second, err2 := writeBatch(ctx, reg, changes[half:])
	return append(first, second...), errors.Join(err1, err2)
}

// ofItsContent reports whether the registry refused what was to be written, and
// may take something else.
func ofItsContent(err error) bool {
	return errors.Is(err, registry.ErrTooLarge) || errors.Is(err, registry.ErrInvalid) || errors.Is(err, registry.ErrConflict) || errors.Is(err, registry.ErrNotFound)
}

// apply writes the change if its node is as it was.
func (c change) apply(tx registry.Tx) (bool, error) {
	if c.alone != nil {
		return c.alone(tx)
	}
	n, err := tx.Get(c.id)
	if errors.Is(err, registry.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if n.Revision() != c.revision {
		return false, nil
	}
	d := n.Draft()
	if c.state != nil {
		d.State = *c.state
	}
	var opts []registry.WriteOption
	if c.parent != nil {
		if _, err := tx.Get(*c.parent); err != nil {
			return false, nil // the host has been removed
		}
		d.Parent = *c.parent
		opts = append(opts, registry.MovingFrom(""))
	}
	if d.Metadata, err = d.Metadata.Merge(c.set, c.remove...); err != nil {
		return false, err
	}
	if n.Same(d) {
		return false, nil
	}
	_, err = tx.Put(d, opts...)
	return err == nil, err
}
