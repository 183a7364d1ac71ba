package virt

import (
	"context"
	"fmt"
	"time"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
)

// The built-in actions. Package action has their code.
const (
	ActionDefine      = "vm_define"
	ActionProvision   = "vm_provision"
	ActionStart       = "vm_start"
	ActionStop        = "vm_stop"
	ActionShutdown    = "vm_shutdown"
	ActionReboot      = "vm_reboot"
	ActionSuspend     = "vm_suspend"
	ActionResume      = "vm_resume"
	ActionUndefine    = "vm_undefine"
	ActionDeprovision = "vm_deprovision"
	ActionMigrate     = "vm_migrate"
	ActionPoll        = "vm_poll"

	ActionSnapshot       = "vm_snapshot"
	ActionRollback       = "vm_rollback"
	ActionSnapshotDelete = "vm_snapshot_delete"
	ActionAttachDisk     = "vm_attach_disk"
	ActionDetachDisk     = "vm_detach_disk"
	ActionSaveImage      = "vm_save_image"
)

// The built-in actions of hypervisors.
const (
	ActionFetchImage  = "hv_fetch_image"
	ActionDeleteImage = "hv_delete_image"
)

// Params are the parameters of the built-in actions. Each takes vm and those
// that mean something to it.
type Params struct {
	VM    string `json:"vm"`              // the node's ID
	Host  string `json:"host,omitempty"`  // define, provision, start: the host that is asked for
	Grace string `json:"grace,omitempty"` // stop: how long the guest may take to shut down, such as "30s"
	To    string `json:"to,omitempty"`    // migrate: the host; the allocator chooses if empty
	Cold  bool   `json:"cold,omitempty"`  // migrate: only when it does not run

	Snapshot          string `json:"snapshot,omitempty"`            // snapshot, rollback, snapshot_delete: its name
	DestroyMoreRecent bool   `json:"destroy_more_recent,omitempty"` // rollback: newer snapshots may be lost
	Disk              *Disk  `json:"disk,omitempty"`                // attach_disk
	Device            string `json:"device,omitempty"`              // detach_disk: its device, volume, source or number
	Wipe              bool   `json:"wipe,omitempty"`                // detach_disk: what it holds, too
	Image             string `json:"image,omitempty"`               // save_image: its ID
}

// HostParams are the parameters of the built-in actions of hypervisors.
type HostParams struct {
	Hypervisor string `json:"hv"` // the node's ID
	ImageRequest
}

// HostJob is a job of a built-in action on the queue of a hypervisor.
func HostJob(action string, p HostParams) scheduler.Job {
	return scheduler.Job{Queue: p.Hypervisor, Action: action, Params: scheduler.MustParams(p)}
}

// BlobDecision is the blob of a VM's node that holds the last placement
// decision.
const BlobDecision = "decision"

// TypeReservation is the type of the node that holds a migrating VM's place on
// the host that it moves to. It is a child of that host with the VM's
// definition, so that its need is counted there while the VM itself is still
// counted where it is.
const TypeReservation = "reservation"

// ReservationID is the ID of a VM's reservation.
func ReservationID(vm string) string { return "moving-" + uuidFor("reservation "+vm, "") }

// Job is a job of a built-in action on the queue of p.VM.
func Job(action string, p Params) scheduler.Job {
	return scheduler.Job{Queue: p.VM, Action: action, Params: scheduler.MustParams(p)}
}

// LimitsFor are the limits that a job of the action takes from the start: where
// the scheduler shares limits out, that of the host that the VM stands on, so
// that the host is not overrun. An action that finds the VM elsewhere, or places
// it, takes the limits of the hosts that it is about by itself. Reading takes none.
func LimitsFor(p Parts, action string, n *registry.Node) []string {
	if _, ok := p.Scheduler.(scheduler.QueueInspector); !ok || action == ActionPoll || n.Parent() == "" {
		return nil
	}
	return []string{scheduler.HostLimit(n.Parent())}
}

// Wait returns when the job that a method of VirtualMachine has submitted has
// ended: with a *scheduler.JobError if it did not succeed, with ctx's error if
// that came first. Where the job runs in its caller it has ended already. A
// parked job ends when a person decides about it, or its time is over.
//
//	job, err := vm.Start(ctx)
//	if err == nil {
//		job, err = virt.Wait(ctx, m, job)
//	}
func Wait(ctx context.Context, c Cluster, job scheduler.Status) (scheduler.Status, error) {
	if job.State.Ended() {
		return job, job.Err()
	}
	ended, err := c.Parts().Scheduler.Wait(ctx, job.ID)
	if err != nil {
		return job, fmt.Errorf("cannot wait for job %s (%s): %w", job.ID, job.Action, err)
	}
	return ended, ended.Err()
}

func graceText(d time.Duration) string {
	if d <= 0 {
		return ""
	}
	return d.String()
}

// findHost resolves what a person typed to a hypervisor's node.
func findHost(r registry.Reader, ref string) (*registry.Node, error) {
	n, err := registry.Find(r, ref)
	if err != nil {
		return nil, err
	}
	return n, checkType(n, TypeHypervisor)
}
