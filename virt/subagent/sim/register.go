package sim

import (
	"context"
	"io"
	"strings"

	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent"
)

// Service is the first word of the methods' names.
const Service = "Sim"

// DownloadPath is where downloads are asked for as Mistify does it.
const DownloadPath = "/snapshots/download"

// method is one action with what answers it.
type method struct {
	action   string // as in mistify.Actions
	name     string // after Service and a dot
	again    bool   // it may be done twice: what is done already stays done
	register func(s *mistify.Server, name string)
}

// methods lists everything in the order of mistify.Actions.
func (a *Agent) methods() (list []method) {
	for _, c := range []struct {
		container bool
		prefix    string
	}{{false, ""}, {true, mistify.TypeContainer}} {
		add := func(base string, again bool, register func(s *mistify.Server, name string)) {
			action, name := base, strings.ToUpper(base[:1])+base[1:]
			if c.container {
				action, name = c.prefix+name, "Container"+name
			}
			list = append(list, method{action: action, name: name, again: again, register: register})
		}
		guest := func(base string, again bool, do func(context.Context, *mistify.GuestRequest) (*mistify.GuestResponse, error)) {
			add(base, again, func(s *mistify.Server, name string) { mistify.Register(s, name, do) })
		}
		guest("create", true, a.Create)
		guest("define", true, a.Define)
		guest("undefine", true, a.Undefine)
		guest("provision", true, a.Provision)
		guest("deprovision", true, a.Deprovision)
		guest("delete", true, a.Delete)
		guest("start", true, a.Start)
		guest("run", true, a.Run)
		guest("reboot", false, a.Reboot)
		guest("restart", false, a.Restart)
		guest("poweroff", true, a.Poweroff)
		guest("shutdown", true, a.Shutdown)
		guest("suspend", true, a.Suspend)
		guest("resume", true, a.Resume)
		images := a.Images(c.container)
		image := func(base string, do func(context.Context, *mistify.ImageRequest) (*mistify.ImageResponse, error)) {
			add(base, true, func(s *mistify.Server, name string) { mistify.Register(s, name, do) })
		}
		image("listImages", images.List)
		image("getImage", images.Get)
		image("fetchImage", images.Fetch)
		image("deleteImage", images.Delete)
	}
	list = append(list, method{"containerSave", "ContainerSave", true, func(s *mistify.Server, name string) { mistify.Register(s, name, a.Save) }})
	list = append(list, method{mistify.ActionPutImage, "PutImage", false, func(s *mistify.Server, name string) { mistify.RegisterUpload(s, name, a.Images(false).Put) }})
	metrics := func(action, name string, do func(context.Context, *mistify.GuestMetricsRequest) (*mistify.GuestMetricsResponse, error)) {
		list = append(list, method{action, name, true, func(s *mistify.Server, name string) { mistify.Register(s, name, do) }})
	}
	snapshot := func(action, name string, again bool, do func(context.Context, *mistify.SnapshotRequest) (*mistify.SnapshotResponse, error)) {
		list = append(list, method{action, name, again, func(s *mistify.Server, name string) { mistify.Register(s, name, do) }})
	}
	list = append(list, method{"status", "Status", true, func(s *mistify.Server, name string) { mistify.Register(s, name, a.Status) }})
	metrics("cpuMetrics", "CpuMetrics", a.CPUMetrics)
	metrics("diskMetrics", "DiskMetrics", a.DiskMetrics)
	metrics("nicMetrics", "NicMetrics", a.NICMetrics)
	snapshot("listSnapshots", "ListSnapshots", true, a.ListSnapshots)
	snapshot("getSnapshot", "GetSnapshot", true, a.GetSnapshot)
	snapshot("createSnapshot", "CreateSnapshot", false, a.CreateSnapshot)
	snapshot("deleteSnapshot", "DeleteSnapshot", false, a.DeleteSnapshot)
	snapshot("rollbackSnapshot", "RollbackSnapshot", true, a.RollbackSnapshot)
	return append(list,
		method{"downloadSnapshot", "DownloadSnapshot", true, func(s *mistify.Server, name string) {
			mistify.RegisterStream(s, name, DownloadPath, a.download)
		}},
		method{"console", "Console", false, func(s *mistify.Server, name string) {
			mistify.RegisterConsole(s, name, Service+".TypeConsole", a.Console)
		}},
		method{"typeConsole", "TypeConsole", false, func(*mistify.Server, string) {}}, // with the one before
		method{"containerConsole", "ContainerConsole", false, func(s *mistify.Server, name string) {
			mistify.RegisterConsole(s, name, Service+".ContainerTypeConsole", a.Console)
		}},
		method{"containerTypeConsole", "ContainerTypeConsole", false, func(*mistify.Server, string) {}},
	)
}

func (a *Agent) download(ctx context.Context, r *mistify.SnapshotRequest) (*mistify.Download, error) {
	content, length, err := a.DownloadSnapshot(ctx, r)
	if err != nil {
		return nil, err
	}
	return &mistify.Download{ReadCloser: io.NopCloser(content), ContentType: "application/octet-stream", Length: length}, nil
}

// Register makes a server answer every method.
func (a *Agent) Register(s *mistify.Server) {
	for _, m := range a.methods() {
		m.register(s, Service+"."+m.name)
	}
}

// Stages are what the sub-agent does for which action: for all of them.
func Stages() []subagent.Stage {
	var list []subagent.Stage
	for _, m := range (&Agent{}).methods() {
		list = append(list, subagent.Stage{Action: m.action, Method: Service + "." + m.name, Idempotent: m.again})
	}
	return list
}
