package libvirt

import (
	"context"

	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent"
)

// Service is the first word of the methods' names, as Mistify's config calls
// them.
const Service = "Libvirt"

// Register makes a server answer every method.
func (a *Agent) Register(s *mistify.Server) {
	on(s, a.Create, "Create", "CreateGuest")
	on(s, a.Define, "Define")
	on(s, a.Undefine, "Undefine")
	on(s, a.Delete, "Delete")
	on(s, a.Start, "Start")
	on(s, a.Run, "Run")
	on(s, a.Reboot, "Reboot")
	on(s, a.Restart, "Restart")
	on(s, a.Poweroff, "Poweroff")
	on(s, a.Shutdown, "Shutdown")
	on(s, a.Suspend, "Suspend")
	on(s, a.Resume, "Resume")
	on(s, a.Migrate, "Migrate")
	on(s, a.UndoCreate, "UndoCreate")
	on(s, a.Status, "Status")
	on(s, a.CPUMetrics, "CpuMetrics", "CPUMetrics")
	on(s, a.DiskMetrics, "DiskMetrics")
	on(s, a.NICMetrics, "NicMetrics", "NICMetrics")
	mistify.RegisterConsole(s, Service+".Console", Service+".TypeConsole", a.Console)
}

// on registers a method under all of its names.
func on[Request, Response any](s *mistify.Server, do func(context.Context, *Request) (*Response, error), names ...string) {
	for _, name := range names {
		mistify.Register(s, Service+"."+name, do)
	}
}

// Stages are what the sub-agent does for which action.
func Stages() []subagent.Stage {
	return []subagent.Stage{
		{Action: "create", Method: Service + ".Create", Idempotent: true, Undo: Service + ".UndoCreate"},
		{Action: "define", Method: Service + ".Define", Idempotent: true, Undo: Service + ".UndoCreate"},
		{Action: "undefine", Method: Service + ".Undefine", Idempotent: true},
		{Action: "delete", Method: Service + ".Delete", Idempotent: true},
		{Action: "start", Method: Service + ".Start", Idempotent: true},
		{Action: "run", Method: Service + ".Run", Idempotent: true},
		{Action: "reboot", Method: Service + ".Reboot"},
		{Action: "restart", Method: Service + ".Restart"},
		{Action: "poweroff", Method: Service + ".Poweroff", Idempotent: true},
		{Action: "shutdown", Method: Service + ".Shutdown", Idempotent: true},
		{Action: "suspend", Method: Service + ".Suspend", Idempotent: true},
		{Action: "resume", Method: Service + ".Resume", Idempotent: true},
		{Action: "migrate", Method: Service + ".Migrate", Idempotent: true},
		{Action: "status", Method: Service + ".Status", Idempotent: true},
		{Action: "cpuMetrics", Method: Service + ".CpuMetrics", Idempotent: true},
		{Action: "diskMetrics", Method: Service + ".DiskMetrics", Idempotent: true},
		{Action: "nicMetrics", Method: Service + ".NicMetrics", Idempotent: true},
		{Action: "console", Method: Service + ".Console"},
		{Action: "typeConsole", Method: Service + ".TypeConsole"},
	}
}
