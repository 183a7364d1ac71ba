package virt

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/trail"
)

// askTimeout is how long ConfirmDown gives the host to prove that it lives.
const askTimeout = 10 * time.Second

// Confirmed records who said that a host is down: the member confirmed_down of
// its metadata.
type Confirmed struct {
	At     time.Time   `json:"at"`
	Reason string      `json:"reason"`
	Trail  trail.Trail `json:"trail,omitzero"`
}

// ConfirmedOf is the confirmation that a hypervisor is down, if there is one.
func ConfirmedOf(n *registry.Node) (Confirmed, bool) {
	return metadata[Confirmed](n, MetaConfirmed)
}

// ErrAnswers: a host that somebody takes for dead answers.
var ErrAnswers = errors.New("the host answers")

// ConfirmOptions modify ConfirmDown.
type ConfirmOptions struct {
	// AbandonDisks gives up the disks on the host: its VMs are placed anywhere,
	// with empty disks. Without it a freed VM is placed only where its disks
	// are, which is to say not before the host is back or the VM deprovisioned.
	AbandonDisks bool
	Timeout      time.Duration // for the host to answer; 0 is 10 seconds
}

// ConfirmDown records that a person has made sure that a host is dead, and
// frees its VMs. It returns the IDs of those it freed, in order.
//
// It needs a reason, here or in the context's trail, and is refused with ErrAnswers while the host answers the
// driver, in whatever way. The VMs are freed in several commits; interrupted,
// it is simply called again. Only a poll that succeeds brings the host up again,
// and ends the freeing if it comes in between.
func ConfirmDown(ctx context.Context, c Cluster, host, reason string, o ConfirmOptions) (freed []string, err error) {
	if reason == "" {
		reason = trail.From(ctx).Reason
	}
	if strings.TrimSpace(reason) == "" {
		return nil, fmt.Errorf("%w: cannot confirm that %.64q is down without a reason: say how you made sure", ErrInvalid, host)
	}
	ctx = because(ctx, reason)
	if err := trail.From(ctx).Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	n, err := find(ctx, c, host, TypeHypervisor)
	if err != nil {
		return nil, err
	}
	p := c.Parts()
	if err := stillSilent(ctx, p, n, orDuration(o.Timeout, askTimeout)); err != nil {
		return nil, err
	}
	mark := Confirmed{At: p.now(), Reason: reason, Trail: trail.From(ctx)}
	_, err = registry.Modify(ctx, p.Registry, n.ID(), func(d *registry.Draft) (err error) {
		d.State = string(Down)
		d.Metadata, err = d.Metadata.Merge(map[string]any{MetaConfirmed: mark})
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("cannot record that %s is down: %w", n.ID(), err)
	}
	for {
		batch, more, err := freeSome(ctx, p, n.ID(), mark, o.AbandonDisks)
		freed = append(freed, batch...)
		if err != nil {
			return freed, fmt.Errorf("%s is recorded as down, %d of its VMs were freed: %w: confirm again to free the others", n.ID(), len(freed), err)
		}
		if !more {
			return freed, nil
		}
	}
}

// ConfirmDown is the function ConfirmDown for this hypervisor.
func (h *Hypervisor) ConfirmDown(ctx context.Context, reason string, abandonDisks bool) (freed []string, err error) {
	return ConfirmDown(ctx, h.c, h.id, reason, ConfirmOptions{AbandonDisks: abandonDisks})
}

// stillSilent returns an error unless the driver finds that nobody answers.
func stillSilent(ctx context.Context, p Parts, n *registry.Node, wait time.Duration) error {
	asked, cancel := context.WithTimeout(ctx, wait)
	defer cancel()
	listing, err := status(asked, p, n)
	switch {
	case ctx.Err() != nil:
		return fmt.Errorf("cannot confirm that %s is down: %w", n.ID(), ctx.Err())
	case err == nil:
		return fmt.Errorf("cannot confirm that %s is down: %w and lists %d VMs: poll it instead", n.ID(), ErrAnswers, len(listing.Guests))
	case errors.Is(err, ErrUnreachable), errors.Is(err, context.DeadlineExceeded):
		return nil
	case errors.Is(err, ErrInvalid):
		return fmt.Errorf("cannot confirm that %s is down, as it cannot be asked: %w", n.ID(), err)
	default:
		return fmt.Errorf("cannot confirm that %s is down: %w, if only with an error: %w", n.ID(), ErrAnswers, err)
	}
}

// freeSome frees as many VMs of a host that is down as one commit holds, and
// says whether there are more.
func freeSome(ctx context.Context, p Parts, host string, mark Confirmed, abandon bool) (freed []string, more bool, err error) {
	err = p.Registry.Update(ctx, func(tx registry.Tx) error {
		freed, more = freed[:0], false
		h, err := tx.Get(host)
		if err != nil {
			return err
		}
		if h.State() != string(Down) {
			return fmt.Errorf("%w: %s is %s again", ErrAnswers, host, h.State())
		}
		children, err := tx.Children(host)
		if err != nil {
			return err
		}
		keys, size := 0, 0
		for i, n := range children.Nodes {
			keys += 4 + n.NumKeys() + len(n.Blobs())
			size += 4096 + n.Definition().Len() + n.Metadata().Len()
			if i > 0 && (keys > registry.MaxTouched-10 || size > registry.MaxUpdate/2) {
				more = true
				return nil
			}
			if err := free(tx, n, mark, abandon); err != nil {
				return err
			}
			if n.Type() == TypeVM {
				freed = append(freed, n.ID())
			}
		}
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	return freed, more, nil
}

func free(tx registry.Tx, n *registry.Node, mark Confirmed, abandon bool) error {
	d := n.Draft()
	host := n.Parent()
	d.Parent = ""
	if n.Type() == TypeVM {
		d.State = string(New)
		e, _ := EvidenceOf(n)
		e.Host, e.Reason = host, "freed when "+host+" was confirmed down: "+mark.Reason
		// A VM that was moving may have arrived. What says so stays, and the
		// next action asks there before anything else.
		set, remove := map[string]any{MetaEvidence: e}, []string(nil)
		switch to := MovesTo(n); {
		case !abandon || DisksOn(n) != host:
		case to != "" && LeftOn(n) == "":
			set[MetaDisksOn] = to // if there are any left, they are there
		default:
			remove = append(remove, MetaDisksOn) // of a copy it is not known whether it is whole, until the next action finds the VM there
		}
		var err error
		if d.Metadata, err = d.Metadata.Merge(set, remove...); err != nil {
			return err
		}
	}
	if _, err := tx.Put(d, registry.MovingFrom(host)); err != nil {
		return err
	}
	if n.Type() == TypeReservation {
		return tx.Delete(n.ID())
	}
	return nil
}

func orDuration(d, other time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return other
}
