// Package standard is the menu of everything that vagoth comes with.
//
//	m, err := standard.Open(ctx, "vagoth.ini")
//	defer m.Close()
//
// # Why
//
// This is the one place that imports every implementation. A program that adds
// its own takes a copy of Menu's answer, adds a line and calls manager.Load:
//
//	menu := standard.Menu()
//	menu.Drivers["acme"] = acme.Kind()
//	m, err := manager.Load(ctx, "vagoth.ini", menu, manager.Options{})
package standard

import (
	"context"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/allocator/fixed"
	"github.com/vagoth/vagoth/allocator/score"
	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/monitor"
	"github.com/vagoth/vagoth/monitor/poll"
	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/provisioner/basic"
	"github.com/vagoth/vagoth/provisioner/template"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/registry/etcd"
	"github.com/vagoth/vagoth/registry/memdb"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/scheduler/broker"
	schedetcd "github.com/vagoth/vagoth/scheduler/etcd"
	"github.com/vagoth/vagoth/scheduler/sync"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/action"
	"github.com/vagoth/vagoth/virt/libvirtdir"
	"github.com/vagoth/vagoth/virt/remote"
	"github.com/vagoth/vagoth/virt/sim"
)

// Menu returns a fresh menu, which the caller may change.
func Menu() manager.Menu {
	return manager.Menu{
		Registry:    map[string]component.Kind[registry.Deps, registry.Registry]{"memdb": memdb.Kind(), "etcd": etcd.Kind()},
		Scheduler:   map[string]component.Kind[scheduler.Deps, scheduler.Scheduler]{"broker": broker.Kind(), "etcd": schedetcd.Kind(), "sync": sync.Kind()},
		Provisioner: map[string]component.Kind[provisioner.Deps, provisioner.Provisioner]{"basic": basic.Kind(), "template": template.Kind()},
		Allocator:   map[string]component.Kind[allocator.Deps, allocator.Allocator]{"fixed": fixed.Kind(), "score": score.Kind()},
		Monitor:     map[string]component.Kind[monitor.Deps, monitor.Monitor]{"poll": poll.Kind()},
		Drivers:     map[string]component.Kind[virt.DriverDeps, virt.Driver]{"sim": sim.Kind(), "libvirt": libvirtdir.Kind(), "remote": remote.Kind()},
		SubAgents:   subAgents(),
		Stages:      stages(),

		Classes: map[string]provisioner.Class{"vm": virt.VMClass(), "hypervisor": virt.HypervisorClass(), "any": provisioner.AnyClass()},
		Types:   map[string]string{virt.TypeVM: "vm", virt.TypeHypervisor: "hypervisor"},
		Actions: action.Actions,
		Command: action.Command,
		URL:     action.URL,

		Defaults: manager.Defaults{Registry: "memdb", Scheduler: "broker", Provisioner: "template", Allocator: "score", Monitor: "poll",
			SubAgents: []string{"libvirt", "dir"}},
	}
}

// Open opens the cluster of the ini file with the standard menu, and runs what is
// submitted through it until Close: what a script needs where no daemon runs.
func Open(ctx context.Context, path string) (*manager.Manager, error) {
	return manager.Load(ctx, path, Menu(), manager.Options{Work: true})
}
