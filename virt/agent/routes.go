package agent

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/vagoth/vagoth/auth"
	"github.com/vagoth/vagoth/virt/mistify"
)

// route is one endpoint, with what its manual says.
type route struct {
	method, path string
	do           gin.HandlerFunc
	help         string
	in, out      any       // a value of the body's type; nil is none, "" is what media says
	query        []string  // the parameters that it takes
	media        string    // of a body that is not JSON
	status       int       // of success, if it is not 200
	role         auth.Role // the least that may
	load         load      // with what it is counted
	changes      bool      // by GET all the same
	line         bool      // it answers while its body still comes
}

// load says how long a request lasts.
type load int

const (
	quick  load = iota // no longer than the disk takes; with wait it is slow
	slow               // a sub-agent is asked
	stream             // it is copied
	free               // it is not counted
)

const octets = "application/octet-stream"

// guestActions are the actions of a guest that have a path of their own.
func guestActions() []string {
	return []string{"shutdown", "reboot", "restart", "poweroff", "start", "suspend", "delete"}
}

// routes is the whole interface.
func (s *server) routes() []route {
	all := []route{
		{method: "GET", path: "/metadata", do: s.hostMetadata, out: map[string]string{}, role: auth.Reader, help: "the host's metadata"},
		{method: "PATCH", path: "/metadata", do: s.patchHostMetadata, in: mistify.MetadataPatch{}, out: map[string]string{}, role: auth.Operator,
			help: "change the host's metadata: null or an empty text removes a key; the answer is all of it"},

		{method: "GET", path: "/jobs", do: s.listJobs, out: []mistify.Job{}, query: []string{"limit"}, role: auth.Reader, help: "the newest jobs"},
		{method: "GET", path: "/jobs/:job", do: s.getJob, out: mistify.Job{}, query: []string{"wait"}, role: auth.Reader,
			help: "a job, waiting up to the time wait (such as 30s) for its end"},

		{method: "GET", path: "/guests", do: s.listGuests, out: []mistify.Guest{}, role: auth.Reader, help: "the guests, ordered by id"},
		{method: "POST", path: "/guests", do: s.createGuest, in: mistify.Guest{}, out: mistify.Guest{}, status: http.StatusAccepted, role: auth.Operator,
			help: "make a guest; an id is made if there is none"},
		{method: "GET", path: "/guests/:guest", do: s.getGuest, out: mistify.Guest{}, role: auth.Reader, help: "a guest, as the last job left it"},
		{method: "DELETE", path: "/guests/:guest", do: s.act("delete"), out: mistify.Guest{}, status: http.StatusAccepted, role: auth.Operator, help: "remove a guest and its disks"},
		{method: "GET", path: "/guests/:guest/jobs", do: s.guestJobs, out: []mistify.Job{}, query: []string{"limit"}, role: auth.Reader, help: "the newest jobs of a guest"},
		{method: "GET", path: "/guests/:guest/jobs/:job", do: s.guestJob, out: mistify.Job{}, query: []string{"wait"}, role: auth.Reader,
			help: "a job of a guest, waiting as with /jobs"},
		{method: "GET", path: "/guests/:guest/metadata", do: s.guestMetadata, out: map[string]string{}, role: auth.Reader, help: "a guest's metadata"},
		{method: "PATCH", path: "/guests/:guest/metadata", do: s.patchGuestMetadata, in: mistify.MetadataPatch{}, out: map[string]string{}, role: auth.Operator,
			help: "change a guest's metadata, as the host's"},
		{method: "GET", path: "/guests/:guest/metrics/cpu", do: s.metrics(mistify.MetricsCPU), out: []mistify.CPUMetrics{}, role: auth.Reader, load: slow, help: "the metrics of a guest's CPUs"},
		{method: "GET", path: "/guests/:guest/metrics/disk", do: s.metrics(mistify.MetricsDisk), out: map[string]mistify.DiskMetrics{}, role: auth.Reader, load: slow, help: "the metrics of a guest's disks"},
		{method: "GET", path: "/guests/:guest/metrics/nic", do: s.metrics(mistify.MetricsNIC), out: map[string]mistify.NICMetrics{}, role: auth.Reader, load: slow, help: "the metrics of a guest's network interfaces"},
	}
	all = append(all, s.actionRoutes()...)
	all = append(all, s.snapshotRoutes("/guests/:guest", "of all of a guest's disks")...)
	all = append(all, s.snapshotRoutes("/guests/:guest/disks/:disk", "of one of a guest's disks")...)
	all = append(all, s.imageRoutes("/images", "", "image")...)
	all = append(all, s.imageRoutes("/container_images", mistify.TypeContainer, "container's image")...)
	all = append(all, s.ownRoutes()...)
	if s.a.cfg.Profiling {
		all = append(all, s.profilingRoutes()...)
	}
	return all
}

func (s *server) actionRoutes() []route {
	var all []route
	for _, name := range guestActions() {
		help := "an action: " + name
		all = append(all,
			route{method: "POST", path: "/guests/:guest/" + name, do: s.act(name), out: mistify.Guest{}, status: http.StatusAccepted, role: auth.Operator, help: help},
			route{method: "GET", path: "/guests/:guest/" + name, do: s.act(name), out: mistify.Guest{}, status: http.StatusAccepted, role: auth.Operator, changes: true,
				help: help + "; not for pages of other sites, and not if get_actions is off"})
	}
	for _, r := range []route{
		{path: mistify.ActionDefine, do: s.actOn(mistify.ActionDefine, mayMake), in: mistify.Guest{}, help: "make a guest known to the host without starting it, or give one that is known another definition"},
		{path: mistify.ActionUndefine, do: s.act(mistify.ActionUndefine), help: "make host and agent forget a guest; its disks stay"},
		{path: mistify.ActionProvision, do: s.actOn(mistify.ActionProvision, mayBorrow), in: mistify.Guest{}, help: "make the disks of a guest, which need not be known and does not become so"},
		{path: mistify.ActionDeprovision, do: s.actOn(mistify.ActionDeprovision, mayBorrow), in: mistify.Guest{}, help: "wipe the disks of a guest, which need not be known"},
		{path: mistify.ActionResume, do: s.act(mistify.ActionResume), help: "let a guest go on that was suspended"},
		{path: mistify.ActionMigrate, do: s.migrate, in: mistify.MigrateRequest{}, help: "move a guest that runs to the libvirtd to, which then has it alone; the agent forgets it"},
	} {
		r.method, r.path, r.out, r.status, r.role = "POST", "/guests/:guest/"+r.path, mistify.Guest{}, http.StatusAccepted, auth.Operator
		all = append(all, r)
	}
	all = append(all, route{method: "POST", path: "/guests/:guest/" + mistify.ActionSave, do: s.save, in: mistify.SaveRequest{}, out: mistify.Job{}, status: http.StatusAccepted, role: auth.Operator,
		help: "make an image of what a container has written, called dest"})
	return append(all, route{method: "POST", path: "/guests/:guest/" + mistify.ActionConsole, do: s.console, in: "", out: "", media: octets, role: auth.Operator, load: stream, line: true,
		help: "a guest's serial console, or a container's terminal or output: the body is typed while the answer is what the guest prints, until either side ends it"})
}

func (s *server) snapshotRoutes(prefix, what string) []route {
	return []route{
		{method: "GET", path: prefix + "/snapshots", do: s.listSnapshots, out: []mistify.Snapshot{}, role: auth.Reader, load: slow, help: "the snapshots " + what},
		{method: "POST", path: prefix + "/snapshots", do: s.createSnapshot, in: mistify.SnapshotRequest{}, out: mistify.Job{}, status: http.StatusAccepted, role: auth.Operator,
			help: "make a snapshot " + what + ", called dest; without it a name is made"},
		{method: "GET", path: prefix + "/snapshots/:name", do: s.getSnapshot, out: []mistify.Snapshot{}, role: auth.Reader, load: slow, help: "a snapshot " + what},
		{method: "DELETE", path: prefix + "/snapshots/:name", do: s.deleteSnapshot, out: mistify.Job{}, status: http.StatusAccepted, role: auth.Operator, help: "remove a snapshot " + what},
		{method: "POST", path: prefix + "/snapshots/:name/rollback", do: s.rollback, in: mistify.SnapshotRequest{}, out: mistify.Job{}, status: http.StatusAccepted, role: auth.Operator,
			help: "go back to a snapshot " + what + "; destroyMoreRecent removes those that are newer"},
		{method: "GET", path: prefix + "/snapshots/:name/download", do: s.download, out: "", media: octets, query: []string{"from", "resume"}, role: auth.Operator, load: stream,
			help: "a snapshot " + what + ", as it comes from the sub-agent; where that is zfs, only what changed since the snapshot from, or the rest of a stream whose receiver has the token resume"},
	}
}

func (s *server) imageRoutes(prefix, kind, what string) []route {
	var query []string
	var all []route
	if kind == "" {
		query = []string{"type"}
		all = append(all, route{method: "PUT", path: prefix + "/:image/content", do: s.putImage, in: "", out: mistify.Image{}, media: octets, query: []string{"size", "sha256"}, role: auth.Operator, load: stream, line: true,
			help: "make an " + what + " of the body, in any form in which one is fetched; size, in bytes, and sha256 are what it must have"})
	}
	return append(all, []route{
		{method: "GET", path: prefix, do: s.listImages(kind), out: []mistify.Image{}, query: query, role: auth.Reader, load: slow, help: "every " + what},
		{method: "POST", path: prefix, do: s.fetchImage(kind), in: mistify.ImageRequest{}, out: mistify.ImageResponse{}, status: http.StatusAccepted, role: auth.Operator, help: "get an " + what + " onto the host"},
		{method: "GET", path: prefix + "/:image", do: s.getImage(kind), out: mistify.Image{}, role: auth.Reader, load: slow, help: "one " + what},
		{method: "DELETE", path: prefix + "/:image", do: s.deleteImage(kind), out: struct{}{}, status: http.StatusAccepted, role: auth.Operator, load: slow, help: "remove one " + what},
	}...)
}

func (s *server) ownRoutes() []route {
	return []route{
		{method: "GET", path: mistify.PathStatus, do: s.status, out: mistify.Status{}, query: []string{"id"}, role: auth.Reader, load: slow,
			help: "what is on the host now, by its sub-agents, strangers included; it says whether it is complete. With id of one guest only"},
		{method: "DELETE", path: "/v1/guests/:guest/fence", do: s.resetFence, out: struct{}{}, role: auth.Admin,
			help: "forget the highest token that was seen for a guest"},
		{method: "PUT", path: "/v1/guests/:guest/fence", do: s.settle, out: mistify.Settled{}, query: []string{"wait"}, role: auth.Operator,
			help: "take no lower token for a guest from now on, and no migrate with this one, and wait up to the time wait (such as 30s) for the end of what was queued for it"},
		{method: "GET", path: "/v1/openapi.json", do: s.openapi, out: "", media: "application/json", role: auth.Reader, help: "this interface, as an OpenAPI 3.1 document"},
		{method: "GET", path: "/healthz", do: s.healthz, out: struct{}{}, role: anybody, load: free, help: "the agent lives, and can write"},
	}
}

func (s *server) profilingRoutes() []route {
	var all []route
	for _, p := range []string{"", "/", "/cmdline", "/symbol", "/profile", "/trace", "/allocs", "/block", "/goroutine", "/heap", "/mutex", "/threadcreate"} {
		all = append(all, route{method: "GET", path: "/debug/pprof" + p, do: s.pprof, out: "", media: "text/plain", role: auth.Admin, load: slow, help: "a profile of the agent itself; only with profiling = true"})
	}
	return all
}
