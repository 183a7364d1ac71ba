package api

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/vagoth/vagoth/monitor"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/virt"
)

// route is one endpoint, with what its manual says.
type route struct {
	method, path string
	do           gin.HandlerFunc
	help         string
	in, out      any      // a value of the body's type; nil is none, "" is what help says
	query        []string // the parameters that it takes; others are refused
	ifMatch      bool     // it takes the header If-Match
}

// routes is the whole interface.
func (s *server) routes() []route {
	return []route{
		{method: "GET", path: "/v1/version", do: s.version, out: Version{},
			help: "what answers, and which components it uses"},

		{method: "GET", path: "/v1/nodes", do: s.listNodes, out: Page{}, query: queryNames(),
			help: "the nodes that match, ordered by ID; parent takes an ID, name or key, and an empty one means on none"},
		{method: "POST", path: "/v1/nodes", do: s.createNode, in: CreateRequest{}, out: Created{},
			help: "make a node"},
		{method: "GET", path: "/v1/nodes/:ref", do: s.getNode, out: Item{},
			help: "one node; its revision is also in the header ETag"},
		{method: "PATCH", path: "/v1/nodes/:ref", do: s.patchNode, in: Patch{}, out: registry.Node{}, ifMatch: true,
			help: "change a node; If-Match does the same as revision"},
		{method: "DELETE", path: "/v1/nodes/:ref", do: s.deleteNode, out: registry.Node{},
			help: "delete a node that has neither parent, children nor disks; the answer is what it was"},
		{method: "GET", path: "/v1/nodes/:ref/blobs/:key", do: s.getBlob, out: "",
			help: "a blob, as it is"},
		{method: "PUT", path: "/v1/nodes/:ref/blobs/:key", do: s.putBlob, in: "", out: registry.Node{},
			help: "store a blob: the body, as it is"},
		{method: "DELETE", path: "/v1/nodes/:ref/blobs/:key", do: s.deleteBlob, out: registry.Node{},
			help: "remove a blob"},
		{method: "POST", path: "/v1/nodes/:ref/jobs", do: s.submitAction, in: JobRequest{}, out: []scheduler.Status{},
			help: "queue an action for the node, on the node's own queue"},
		{method: "GET", path: "/v1/nodes/:ref/info", do: s.guestInfo, out: virt.Info{},
			help: "look at a VM on its host, now"},
		{method: "GET", path: "/v1/nodes/:ref/decision", do: s.lastDecision, out: DecisionAnswer{},
			help: "why the VM was placed where it is"},
		{method: "POST", path: "/v1/nodes/:ref/decision", do: s.decide, in: DecisionRequest{}, out: DecisionAnswer{},
			help: "where the VM would be placed now; nothing is reserved"},
		{method: "POST", path: "/v1/nodes/:ref/maintenance", do: s.maintenance, in: MaintenanceRequest{}, out: registry.Node{},
			help: "keep new VMs off a hypervisor, or let them on again"},
		{method: "POST", path: "/v1/nodes/:ref/confirm-down", do: s.confirmDown, in: ConfirmRequest{}, out: Confirmed{},
			help: "a person's word that a hypervisor is down, which frees its VMs; the header Vagoth-Reason is required"},

		{method: "POST", path: "/v1/poll", do: s.poll, in: PollRequest{}, out: monitor.Report{},
			help: "poll hypervisors, once"},

		{method: "POST", path: "/v1/jobs", do: s.submitPackage, in: scheduler.Package{}, out: []scheduler.Status{},
			help: "queue a package of jobs, all of them or none; the trail stands in the headers"},
		{method: "GET", path: "/v1/jobs", do: s.listJobs, out: []scheduler.Status{}, query: []string{"queue", "action", "package", "state", "limit"},
			help: "the newest jobs that match; state may be given several times"},
		{method: "GET", path: "/v1/jobs/:id", do: s.getJob, out: scheduler.Status{}, query: []string{"wait"},
			help: "a job's status, waiting up to the time wait (such as 30s) for its end"},
		{method: "GET", path: "/v1/jobs/:id/log", do: s.jobLog, out: []scheduler.Line{},
			help: "the lines that a job has logged"},
		{method: "POST", path: "/v1/jobs/:id/cancel", do: s.cancelJob, out: scheduler.Status{},
			help: "end a job early; a running one ends when its function returns"},

		{method: "GET", path: "/v1/registry/export", do: s.export, out: "",
			help: "every node and blob, as JSON lines; an export that was cut off lacks the last line"},
		{method: "POST", path: "/v1/registry/import", do: s.importNodes, in: "", out: ImportReport{}, query: []string{"dry_run"},
			help: "create the nodes of an export"},
		{method: "GET", path: "/v1/registry/check", do: s.check, out: registry.Audited{},
			help: "read everything and check the promises that hold between nodes"},
	}
}

// mount serves the routes. HEAD is GET without its body.
func (s *server) mount(e *gin.Engine) {
	for _, r := range s.routes() {
		e.Handle(r.method, r.path, s.allowed(r), r.do)
		if r.method == http.MethodGet {
			e.Handle(http.MethodHead, r.path, s.allowed(r), r.do)
		}
	}
}
