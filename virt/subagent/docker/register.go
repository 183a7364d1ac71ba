package docker

import (
	"context"

	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent"
)

// Service is the first word of the methods' names, as Mistify's config calls
// them.
const Service = "MDocker"

// Register makes a server answer every method.
func (d *Docker) Register(s *mistify.Server) {
	on(s, d.CreateContainer, "CreateContainer", "DefineContainer")
	on(s, d.UndefineContainer, "UndefineContainer")
	on(s, d.ProvisionContainer, "ProvisionContainer")
	on(s, d.DeprovisionContainer, "DeprovisionContainer")
	on(s, d.DeleteContainer, "DeleteContainer")
	on(s, d.UndoCreate, "UndoCreate")
	on(s, d.StartContainer, "StartContainer")
	on(s, d.RunContainer, "RunContainer")
	on(s, d.StopContainer, "StopContainer")
	on(s, d.PoweroffContainer, "PoweroffContainer")
	on(s, d.ShutdownContainer, "ShutdownContainer")
	on(s, d.RebootContainer, "RebootContainer")
	on(s, d.RestartContainer, "RestartContainer")
	on(s, d.PauseContainer, "PauseContainer")
	on(s, d.UnpauseContainer, "UnpauseContainer")
	on(s, d.SaveContainer, "SaveContainer")
	mistify.RegisterConsole(s, Service+".AttachContainer", Service+".TypeContainer", d.Console)
	on(s, d.Status, "Status")
	on(s, d.CPUMetrics, "CpuMetrics", "CPUMetrics")
	on(s, d.DiskMetrics, "DiskMetrics")
	on(s, d.NICMetrics, "NicMetrics", "NICMetrics")
	on(s, d.ListImages, "ListImages")
	on(s, d.GetImage, "GetImage")
	on(s, d.FetchImage, "PullImage", "LoadImage", "FetchImage")
	on(s, d.DeleteImage, "DeleteImage")
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
		{Action: "containerCreate", Method: Service + ".CreateContainer", Idempotent: true, Undo: Service + ".UndoCreate"},
		{Action: "containerCreate", Method: Service + ".StartContainer", Idempotent: true},
		{Action: "containerDefine", Method: Service + ".CreateContainer", Idempotent: true, Undo: Service + ".UndoCreate"},
		{Action: "containerUndefine", Method: Service + ".UndefineContainer", Idempotent: true},
		{Action: "containerProvision", Method: Service + ".ProvisionContainer", Idempotent: true},
		{Action: "containerDeprovision", Method: Service + ".DeprovisionContainer", Idempotent: true},
		{Action: "containerDelete", Method: Service + ".DeleteContainer", Idempotent: true},
		{Action: "containerStart", Method: Service + ".StartContainer", Idempotent: true},
		{Action: "containerRun", Method: Service + ".RunContainer", Idempotent: true},
		{Action: "containerReboot", Method: Service + ".RebootContainer"},
		{Action: "containerRestart", Method: Service + ".RestartContainer"},
		{Action: "containerPoweroff", Method: Service + ".PoweroffContainer", Idempotent: true},
		{Action: "containerShutdown", Method: Service + ".ShutdownContainer", Idempotent: true},
		{Action: "containerSuspend", Method: Service + ".PauseContainer", Idempotent: true},
		{Action: "containerResume", Method: Service + ".UnpauseContainer", Idempotent: true},
		{Action: "containerSave", Method: Service + ".SaveContainer", Idempotent: true},
		{Action: "containerListImages", Method: Service + ".ListImages", Idempotent: true},
		{Action: "containerGetImage", Method: Service + ".GetImage", Idempotent: true},
		{Action: "containerFetchImage", Method: Service + ".FetchImage", Idempotent: true},
		{Action: "containerDeleteImage", Method: Service + ".DeleteImage"},
		{Action: "containerConsole", Method: Service + ".AttachContainer"},
		{Action: "containerTypeConsole", Method: Service + ".TypeContainer"},
		{Action: "status", Method: Service + ".Status", Idempotent: true},
		{Action: "cpuMetrics", Method: Service + ".CpuMetrics", Idempotent: true},
		{Action: "diskMetrics", Method: Service + ".DiskMetrics", Idempotent: true},
		{Action: "nicMetrics", Method: Service + ".NicMetrics", Idempotent: true},
	}
}
