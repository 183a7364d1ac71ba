package libvirt

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/vagoth/vagoth/virt"
)

// SnapshotLive makes a snapshot inside the files of a guest that runs, all of
// them qcow2 and disks of it: of one moment, in all or in none. It is what the
// disks would hold after a power cut. Of a guest that does not run, or has one of
// the files not open as a disk, it is virt.ErrNotFound; a name that is taken is
// virt.ErrConflict.
//
// Libvirt's own snapshots of guests that run hold their memory too, or leave the
// disk in another file than the one it was defined with. QEMU alone does neither,
// so it is asked through libvirt, which notes in the domain's log that somebody
// did. No name of ours goes into its answer unread: the disks are found by what
// QEMU says it has open.
func (d *Driver) SnapshotLive(ctx context.Context, h virt.Host, g virt.Guest, name string, files []string) error {
	return d.onLive(ctx, h, g, "snapshot the disks of", files, func(c *conn, dom golibvirt.Domain, disks []liveDisk) error {
		type action struct {
			Type string `json:"type"`
			Data any    `json:"data"`
		}
		var actions []action
		for _, disk := range disks {
			if disk.has(name) {
				return fmt.Errorf("%w: the disk %s has a snapshot of that name", virt.ErrConflict, disk.file)
			}
			actions = append(actions, action{Type: "blockdev-snapshot-internal-sync", Data: liveSnapshot{Device: disk.node, Name: name}})
		}
		return askQEMU(c, dom, "transaction", map[string]any{"actions": actions}, nil)
	})
}

// DropLive removes a snapshot from those of the files that have it.
func (d *Driver) DropLive(ctx context.Context, h virt.Host, g virt.Guest, name string, files []string) error {
	return d.onLive(ctx, h, g, "drop a snapshot of", files, func(c *conn, dom golibvirt.Domain, disks []liveDisk) error {
		for _, disk := range disks {
			if !disk.has(name) {
				continue
			}
			if err := askQEMU(c, dom, "blockdev-snapshot-delete-internal-sync", liveSnapshot{Device: disk.node, Name: name}, nil); err != nil {
				return err
			}
		}
		return nil
	})
}

type liveSnapshot struct {
	Device string `json:"device"`
	Name   string `json:"name"`
}

// liveDisk is a disk that QEMU has open.
type liveDisk struct {
	file  string
	node  string
	names []string // of its snapshots
}

func (d liveDisk) has(name string) bool { return slices.Contains(d.names, name) }

// onLive runs f with the disks of a guest that runs.
func (d *Driver) onLive(ctx context.Context, h virt.Host, g virt.Guest, what string, files []string, f func(*conn, golibvirt.Domain, []liveDisk) error) error {
	p, err := d.pool(h)
	if err != nil {
		return err
	}
	if p.endpoint.isTest() {
		return fmt.Errorf("%w: libvirt's test hypervisor has no disks", virt.ErrUnsupported)
	}
	return d.withDomain(ctx, h, g, changes, what, func(_ context.Context, c *conn, dom golibvirt.Domain) error {
		state, err := stateOf(c, dom)
		if err != nil {
			return err
		}
		if state != virt.Running && state != virt.Paused {
			return fmt.Errorf("%w: the guest is %s, and no QEMU has its disks open", virt.ErrNotFound, state)
		}
		disks, err := openDisks(c, dom, files)
		if err != nil {
			return err
		}
		return f(c, dom, disks)
	})
}

// openDisks finds the files among what QEMU has open as disks.
func openDisks(c *conn, dom golibvirt.Domain, files []string) ([]liveDisk, error) {
	var is []struct {
		Inserted *struct {
			File   string `json:"file"`
			Node   string `json:"node-name"`
			Driver string `json:"drv"`
			Image  struct {
				Snapshots []struct {
					Name string `json:"name"`
				} `json:"snapshots"`
			} `json:"image"`
		} `json:"inserted"`
	}
	if err := askQEMU(c, dom, "query-block", nil, &is); err != nil {
		return nil, err
	}
	var found []liveDisk
	for _, file := range files {
		n := len(found)
		for _, b := range is {
			if b.Inserted == nil || b.Inserted.File != file {
				continue
			}
			if b.Inserted.Driver != "qcow2" {
				return nil, fmt.Errorf("%w: the disk %s is open as %s, of which there are no snapshots", virt.ErrUnsupported, file, clean(b.Inserted.Driver, 32))
			}
			disk := liveDisk{file: file, node: b.Inserted.Node}
			for _, s := range b.Inserted.Image.Snapshots {
				disk.names = append(disk.names, s.Name)
			}
			found = append(found, disk)
			break
		}
		if len(found) == n {
			return nil, fmt.Errorf("%w: the guest has not %s open as a disk", virt.ErrNotFound, file)
		}
	}
	return found, nil
}

// askQEMU runs one command of QEMU's own protocol.
func askQEMU(c *conn, dom golibvirt.Domain, command string, arguments, answer any) error {
	text, err := json.Marshal(struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
	}{command, arguments})
	if err != nil {
		return fmt.Errorf("%w: what QEMU is asked cannot be encoded: %w", virt.ErrInvalid, err)
	}
	said, err := c.QEMUDomainMonitorCommand(dom, string(text), 0)
	if err != nil {
		return translate(err)
	}
	var reply struct {
		Return json.RawMessage `json:"return"`
		Error  *struct {
			Class string `json:"class"`
			Desc  string `json:"desc"`
		} `json:"error"`
	}
	if err := json.Unmarshal([]byte(said), &reply); err != nil {
		return unreachable(malformed("an answer of QEMU that cannot be read: %s", clean(err.Error(), maxMessage)))
	}
	if e := reply.Error; e != nil {
		err := errors.New(clean(e.Desc, maxMessage))
		if e.Class == "CommandNotFound" {
			return fmt.Errorf("%w: %w", virt.ErrUnsupported, err)
		}
		return fmt.Errorf("%w: QEMU refuses %s: %w", virt.ErrConflict, command, err)
	}
	if answer == nil {
		return nil
	}
	if err := json.Unmarshal(reply.Return, answer); err != nil {
		return unreachable(malformed("an answer of QEMU that cannot be read: %s", clean(err.Error(), maxMessage)))
	}
	return nil
}
