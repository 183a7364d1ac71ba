package manager

import (
	"slices"
	"time"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/monitor"
	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/subagent"
)

// Menu is every implementation that a vagoth.ini can name.
type Menu struct {
	Registry    map[string]component.Kind[registry.Deps, registry.Registry]
	Scheduler   map[string]component.Kind[scheduler.Deps, scheduler.Scheduler]
	Provisioner map[string]component.Kind[provisioner.Deps, provisioner.Provisioner]
	Allocator   map[string]component.Kind[allocator.Deps, allocator.Allocator]
	Monitor     map[string]component.Kind[monitor.Deps, monitor.Monitor]
	Drivers     map[string]component.Kind[virt.DriverDeps, virt.Driver]
	SubAgents   map[string]component.Kind[subagent.Deps, subagent.SubAgent] // of `vagoth agent`; the manager opens none
	Stages      map[string][]subagent.Stage                                 // what each of them does, for agents that do not say what is to be called

	// Classes are what [node_types] maps types to, and Types is that section
	// before the file adds to it or replaces a line.
	Classes map[string]provisioner.Class
	Types   map[string]string

	// Actions are what [actions] names as built-in, and what jobs can do where
	// that section is silent. They ask c for the open components when they run;
	// it is nil where only their names are wanted.
	Actions func(c virt.Cluster) map[string]scheduler.Action
	// Command makes the action of a line such as `notify = exec:/usr/bin/notify`,
	// URL that of `notify = https://hooks.example.org/notify`. What the action
	// takes, and whether it is urgent, is the manager's to say. The grace is the
	// time that a program has to end when it is asked to; 0 leaves it to Command.
	Command func(name string, argv []string, timeout, grace time.Duration) (scheduler.Action, error)
	URL     func(name, address string, token component.Secret, timeout time.Duration) (scheduler.Action, error)

	Defaults Defaults
}

// Defaults are the kinds that are used where the file is silent.
type Defaults struct {
	Registry, Scheduler, Provisioner, Allocator, Monitor string

	SubAgents []string // of an agent that names none
}

// Entries lists the menu, by contract in the order of vagoth.ini, the default
// kind first, and what a file may say of actions.
func (m Menu) Entries() []component.Component {
	return slices.Concat(
		component.List("registry", m.Defaults.Registry, m.Registry),
		component.List("scheduler", m.Defaults.Scheduler, m.Scheduler),
		component.List("provisioner", m.Defaults.Provisioner, m.Provisioner),
		component.List("allocator", m.Defaults.Allocator, m.Allocator),
		component.List("monitor", m.Defaults.Monitor, m.Monitor),
		component.List("drivers", "", m.Drivers),
		component.List("subagent", "", m.SubAgents),
		[]component.Component{actionsEntry()},
	)
}
