// Package action has the code of the jobs that virtual machines need: define,
// provision, start, stop, shutdown, reboot, suspend, resume, undefine,
// deprovision, migrate, poll, snapshots and disks; the images of hosts; and
// commands as actions.
//
// # Why
//
// Every action can be interrupted after any of its steps and run again: it
// begins by looking where the VM stands, never by assuming. What makes that safe
// is the order of the steps.
//
//   - A VM has a parent before a driver hears of it, and as long as a driver may
//     know it. So no two hosts are ever told to run it.
//   - The parent is set in one transaction that reads the host and its children
//     again and checks that it fits. So no host is ever promised more than it has.
//   - disks_on is written before the disks are made, and cleared after they are
//     wiped. So no disk is forgotten, and a VM is placed only where its disks are.
//   - A disk is in the definition before it is made and until the host has let go
//     of it; one that stays behind is noted before it leaves the definition.
//   - The name of a snapshot is noted with its job before it is made, so that the
//     next attempt knows its own from somebody else's.
//   - A migrating VM is counted on both hosts: on the one by itself, on the other
//     by its reservation, a child node with the VM's definition. The transaction
//     that moves the parent deletes it.
//
// When a driver gave no answer, its deed may be done; then nothing is undone, the
// error says what is kept, and the next attempt begins by asking. So does the one
// after an attempt that was handed back: that one begins nothing more once it has
// been told, and leaves what it had begun as a crash would.
package action

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/virt"
)

// Config bounds what the actions do. A field that is 0 takes its default.
type Config struct {
	Call    time.Duration // one call of a driver, which has a shorter deadline of its own: 3 minutes
	Probe   time.Duration // to ask a host that did not answer last time: 5 seconds
	Migrate time.Duration // a driver's Migrate: 30 minutes
	Disks   time.Duration // a driver's Provision and Deprovision: 10 minutes
	Look    time.Duration // between two looks at a guest that shuts down: 1 second
}

func (c Config) withDefaults() Config {
	for _, f := range []struct {
		d       *time.Duration
		already time.Duration
	}{{&c.Call, 3 * time.Minute}, {&c.Probe, 5 * time.Second}, {&c.Migrate, 30 * time.Minute}, {&c.Disks, 10 * time.Minute}, {&c.Look, time.Second}} {
		if *f.d <= 0 {
			*f.d = f.already
		}
	}
	return c
}

// remembered is how many children's demands are kept decoded.
const remembered = 1 << 15

// Actions returns the built-in actions, by name, with the defaults of Config.
// The parts of c are asked for when an action runs.
func Actions(c virt.Cluster) map[string]scheduler.Action { return ActionsWith(c, Config{}) }

// ActionsWith returns the built-in actions, by name.
func ActionsWith(c virt.Cluster, cfg Config) map[string]scheduler.Action {
	m := menu{cluster: c, cfg: cfg.withDefaults(), need: allocator.MemoNeed(virt.Need, remembered), all: map[string]scheduler.Action{}}
	place := scheduler.Param{Name: "host", Type: scheduler.String, Help: "the host to place it on, or none"}
	m.add(virt.ActionDefine, "place it, if it has no host, and make it known there", (*run).define, place)
	m.add(virt.ActionProvision, "make its disks that are not there yet", (*run).provision, place)
	m.add(virt.ActionStart, "start it, after defining it and making its disks where need be", (*run).start, place)
	m.add(virt.ActionStop, "turn it off, after asking it to shut down if there is a grace", (*run).stop,
		scheduler.Param{Name: "grace", Type: scheduler.Duration, Help: "how long it may take to shut down"})
	m.add(virt.ActionShutdown, "ask it to shut down", (*run).shutdown)
	m.add(virt.ActionReboot, "ask it to start again", (*run).reboot)
	m.add(virt.ActionSuspend, "hold it", (*run).suspend)
	m.add(virt.ActionResume, "let it go on", (*run).resume)
	m.add(virt.ActionUndefine, "take it off its host; its disks stay", (*run).undefine)
	m.add(virt.ActionDeprovision, "wipe its disks and take it off its host", (*run).deprovision)
	m.add(virt.ActionMigrate, "move it to another host", (*run).migrate,
		scheduler.Param{Name: "to", Type: scheduler.String, Help: "the host; the allocator chooses if there is none"},
		scheduler.Param{Name: "cold", Type: scheduler.Boolean, Help: "only if it does not run"})
	m.add(virt.ActionPoll, "ask its host for its state and write it down", (*run).poll)
	name := scheduler.Param{Name: "snapshot", Type: scheduler.String, Required: true, Help: "the snapshot's name"}
	m.add(virt.ActionSnapshot, "keep what its disks hold, under a name", (*run).snapshot, name)
	m.add(virt.ActionRollback, "put its disks back to a snapshot", (*run).rollback, name,
		scheduler.Param{Name: "destroy_more_recent", Type: scheduler.Boolean, Help: "newer snapshots may be lost"})
	m.add(virt.ActionSnapshotDelete, "remove a snapshot", (*run).snapshotDelete, name)
	m.add(virt.ActionAttachDisk, "give it one disk more, made if it is not there", (*run).attachDisk,
		scheduler.Param{Name: "disk", Type: scheduler.Object, Required: true, Help: "as in a definition: size in MB, or the volume of a detached one, or a source"})
	m.add(virt.ActionDetachDisk, "take a disk away", (*run).detachDisk,
		scheduler.Param{Name: "device", Type: scheduler.String, Required: true, Help: "the disk's device, volume, source or number"},
		scheduler.Param{Name: "wipe", Type: scheduler.Boolean, Help: "what it holds, too"})
	m.add(virt.ActionSaveImage, "make an image of what a container has written, on its host", (*run).saveImage,
		scheduler.Param{Name: "image", Type: scheduler.String, Required: true, Help: "the image's ID"})
	m.addHost(virt.ActionFetchImage, "get an image onto a host", (*imageRun).fetchImage,
		scheduler.Param{Name: "type", Type: scheduler.String, Help: "container, or vm"},
		scheduler.Param{Name: "source", Type: scheduler.String, Help: "URL to fetch it from"},
		scheduler.Param{Name: "size", Type: scheduler.Integer, Help: "bytes that the source must have"},
		scheduler.Param{Name: "sha256", Type: scheduler.String, Help: "that the source must have, in hex"})
	m.addHost(virt.ActionDeleteImage, "remove an image from a host", (*imageRun).deleteImage)
	for _, name := range []string{virt.ActionStop, virt.ActionUndefine, virt.ActionDeprovision} {
		a := m.all[name]
		a.Urgent = true
		m.all[name] = a
	}
	for _, name := range []string{virt.ActionStart, virt.ActionReboot, virt.ActionResume} {
		a := m.all[name]
		a.Superseded = true
		m.all[name] = a
	}
	return m.all
}

type menu struct {
	cluster virt.Cluster
	cfg     Config
	need    func(*registry.Node) (allocator.Resources, error)
	all     map[string]scheduler.Action
}

// Result is what the actions answer.
type Result struct {
	VM    string     `json:"vm"`
	Host  string     `json:"host,omitempty"`
	State virt.State `json:"state,omitempty"`
	Text  string     `json:"text,omitempty"`
}

func (m *menu) add(name, help string, fn func(*run, context.Context) (Result, error), params ...scheduler.Param) {
	m.all[name] = scheduler.Action{
		Name: name, Help: help,
		Params: append([]scheduler.Param{{Name: "vm", Type: scheduler.String, Required: true, Help: "the node's ID"}}, params...),
		Run: func(ctx context.Context, t scheduler.Task) (any, error) {
			r := &run{menu: m, parts: m.cluster.Parts(), task: t}
			if err := scheduler.DecodeParams(t, &r.params); err != nil {
				return nil, err
			}
			r.id = r.params.VM
			if err := r.look(ctx); err != nil {
				return nil, ended(ctx, fmt.Errorf("cannot %s %s: %w", name, r.id, err))
			}
			res, err := fn(r, ctx)
			if err != nil {
				return nil, ended(ctx, err)
			}
			res.VM = r.id
			return res, nil
		},
	}
}

// ended adds to the error of an attempt that ctx has ended why it was ended, so
// that a scheduler sees that the attempt obeyed, and hands the job on. Some parts
// answer with ctx.Err alone.
func ended(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if cause == nil || errors.Is(err, cause) || !errors.Is(err, ctx.Err()) {
		return err
	}
	return fmt.Errorf("%w: %w", cause, err)
}
