package api

import (
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"

	"github.com/vagoth/vagoth/auth"
	"github.com/vagoth/vagoth/internal/duplex"
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
	brief        bool     // it takes the header Prefer, see Preference
	media        string   // of a body that is no JSON object or list
	role         Role     // the least that may; where it is forgotten only an admin
	load         load     // with what it is counted
	line         bool     // it answers while its body still comes
}

// The types of bodies that are not JSON.
const (
	octets    = "application/octet-stream"
	jsonLines = "application/x-ndjson"
)

// The roles, as the table writes them.
const (
	anybody  Role = "anybody" // without credentials too
	reader        = auth.Reader
	operator      = auth.Operator
	admin         = auth.Admin
	worker        = auth.Worker
)

// routes is the whole interface.
func (s *server) routes() []route {
	all := s.nodeRoutes()
	all = append(all, s.guestRoutes()...)
	all = append(all, s.jobRoutes()...)
	all = append(all, s.queueRoutes()...)
	all = append(all, s.workRoutes()...)
	return append(all, s.otherRoutes()...)
}

func (s *server) nodeRoutes() []route {
	return []route{
		{method: "GET", path: "/v1/version", do: s.version, out: Version{}, role: reader, load: urgent,
			help: "what answers, and which components it uses"},

		{method: "GET", path: "/v1/nodes", do: s.listNodes, out: Page{}, query: queryNames(), role: reader,
			help: "the nodes that match, ordered by ID; parent takes an ID, name or key, and an empty one means on none"},
		{method: "POST", path: "/v1/nodes", do: s.createNode, in: CreateRequest{}, out: Created{}, role: operator,
			help: "make a node"},
		{method: "GET", path: "/v1/nodes/:ref", do: s.getNode, out: Item{}, role: reader, load: urgent,
			help: "one node; its revision is also in the header ETag"},
		{method: "PATCH", path: "/v1/nodes/:ref", do: s.patchNode, in: Patch{}, out: registry.Node{}, ifMatch: true, role: operator,
			help: "change a node; If-Match does the same as revision; force needs the role admin"},
		{method: "DELETE", path: "/v1/nodes/:ref", do: s.deleteNode, out: registry.Node{}, role: operator,
			help: "delete a node that has neither parent, children nor disks; the answer is what it was"},
		{method: "GET", path: "/v1/nodes/:ref/blobs/:key", do: s.getBlob, out: "", media: octets, role: reader,
			help: "a blob, as it is"},
		{method: "PUT", path: "/v1/nodes/:ref/blobs/:key", do: s.putBlob, in: "", media: octets, out: registry.Node{}, role: operator,
			help: "store a blob: the body, as it is"},
		{method: "DELETE", path: "/v1/nodes/:ref/blobs/:key", do: s.deleteBlob, out: registry.Node{}, role: operator,
			help: "remove a blob"},
		{method: "POST", path: "/v1/nodes/:ref/jobs", do: s.submitAction, brief: true, in: JobRequest{}, out: []scheduler.Status{}, query: []string{"wait"}, role: operator, load: perhapsUrgent,
			help: "queue an action for the node, on the node's own queue; it answers when the job is queued or, with wait (such as 30s), when it has ended or the time is over"},
		{method: "GET", path: "/v1/nodes/:ref/info", do: s.guestInfo, out: virt.Info{}, role: reader,
			help: "look at a VM on its host, now"},
		{method: "GET", path: "/v1/nodes/:ref/decision", do: s.lastDecision, out: DecisionAnswer{}, role: reader,
			help: "why the VM was placed where it is"},
		{method: "POST", path: "/v1/nodes/:ref/decision", do: s.decide, in: DecisionRequest{}, out: DecisionAnswer{}, role: reader,
			help: "where the VM would be placed now; nothing is reserved"},
		{method: "POST", path: "/v1/nodes/:ref/maintenance", do: s.maintenance, in: MaintenanceRequest{}, out: registry.Node{}, role: operator,
			help: "keep new VMs off a hypervisor, or let them on again"},
		{method: "POST", path: "/v1/nodes/:ref/confirm-down", do: s.confirmDown, in: ConfirmRequest{}, out: Confirmed{}, role: operator,
			help: "a person's word that a hypervisor is down, which frees its VMs; the header Vagoth-Reason is required, and abandon_disks needs the role admin"},

		{method: "POST", path: "/v1/poll", do: s.poll, in: PollRequest{}, out: monitor.Report{}, role: operator,
			help: "poll hypervisors, once"},
	}
}

func (s *server) jobRoutes() []route {
	return []route{
		{method: "GET", path: "/v1/actions", do: s.listActions, out: []ActionInfo{}, role: reader,
			help: "what jobs can do, and the parameters that each action takes"},
		{method: "POST", path: "/v1/jobs", do: s.submitPackage, brief: true, in: scheduler.Package{}, out: []scheduler.Status{}, query: []string{"wait"}, role: operator,
			help: "queue a package of jobs, all of them or none; the trail stands in the headers; wait as with a node's jobs, for all of them"},
		{method: "GET", path: "/v1/jobs", do: s.listJobs, out: []scheduler.Status{}, query: []string{"queue", "action", "package", "state", "since", "after", "limit"}, role: reader,
			help: "the newest jobs that match; state may be given several times; since is a time (of submission), and after the last job of the page before"},
		{method: "GET", path: "/v1/jobs/:id", do: s.getJob, out: scheduler.Status{}, query: []string{"wait"}, role: reader, load: urgent,
			help: "a job's status with its attempts, waiting up to the time wait (such as 30s) for its end"},
		{method: "GET", path: "/v1/jobs/:id/log", do: s.jobLog, out: []scheduler.Line{}, role: reader,
			help: "the lines that a job has logged"},
		{method: "GET", path: "/v1/jobs/:id/lines", do: s.jobLines, out: scheduler.LogPart{}, query: []string{"after", "wait"}, role: reader,
			help: "the lines behind the first so many (after); with wait (such as 30s) it answers when there are some, or the job has ended or is parked"},
		{method: "POST", path: "/v1/jobs/:id/cancel", do: s.cancelJob, out: scheduler.Status{}, role: operator, load: urgent,
			help: "end a job early; a running one ends when its function returns"},
		{method: "POST", path: "/v1/jobs/:id/retry", do: s.retryJob, brief: true, in: scheduler.RetryOptions{}, out: []scheduler.Status{}, role: operator,
			help: "give a job that is parked or did not succeed another round of attempts, at the head of its queue; with_dependents does so to those that ended because of it"},
		{method: "POST", path: "/v1/jobs/:id/skip", do: s.skipJob, out: scheduler.Status{}, role: operator,
			help: "cancel a parked job and let its dependents go on"},
		{method: "POST", path: "/v1/jobs/:id/done", do: s.doneJob, in: DoneRequest{}, out: scheduler.Status{}, role: operator,
			help: "mark a parked job as succeeded: somebody did by hand what it could not"},

		{method: "POST", path: "/v1/packages", do: s.newPackage, in: scheduler.Package{}, out: scheduler.PackageStatus{}, role: operator,
			help: "make a package to which jobs are added; one that is never enqueued expires"},
		{method: "GET", path: "/v1/packages", do: s.listPackages, out: []scheduler.PackageStatus{}, query: []string{"state", "after", "limit"}, role: reader,
			help: "packages, the newest first; state (building, queued, ended) may be given several times, and after is the last one of the page before"},
		{method: "GET", path: "/v1/packages/:id", do: s.getPackage, out: scheduler.PackageStatus{}, role: reader, load: urgent,
			help: "a package and how many of its jobs stand where"},
		{method: "POST", path: "/v1/packages/:id/jobs", do: s.addJobs, in: AddRequest{}, out: Added{}, role: operator,
			help: "add jobs to a package that is not enqueued yet"},
		{method: "POST", path: "/v1/packages/:id/enqueue", do: s.enqueue, brief: true, out: []scheduler.Status{}, query: []string{"wait"}, role: operator,
			help: "queue a package, all of it or nothing; once more gives the same answer; wait as with jobs"},
		{method: "POST", path: "/v1/packages/:id/cancel", do: s.cancelPackage, out: scheduler.PackageStatus{}, role: operator, load: urgent,
			help: "cancel all jobs of a package that have not ended, or discard one that is not enqueued"},
	}
}

func (s *server) queueRoutes() []route {
	return []route{
		{method: "GET", path: "/v1/queues", do: s.listQueues, out: []scheduler.QueueStatus{}, query: []string{"after", "limit"}, role: reader,
			help: "the queues that hold jobs, are not open or are configured, ordered by name; after is the last name of the page before"},
		{method: "GET", path: "/v1/queues/:name", do: s.getQueue, out: scheduler.QueueStatus{}, role: reader, load: urgent,
			help: "what stands in a queue"},
		{method: "POST", path: "/v1/queues/:name/pause", do: s.setQueue(scheduler.Paused), out: scheduler.QueueStatus{}, role: operator, load: urgent,
			help: "let a queue hand out nothing; the reason is the trail's"},
		{method: "POST", path: "/v1/queues/:name/resume", do: s.setQueue(scheduler.Open), out: scheduler.QueueStatus{}, role: operator,
			help: "open a queue again"},
		{method: "POST", path: "/v1/queues/:name/drain", do: s.setQueue(scheduler.Draining), out: scheduler.QueueStatus{}, role: operator, load: urgent,
			help: "let a queue take no jobs and hand out those that it has"},
		{method: "GET", path: "/v1/limits", do: s.limits, out: []scheduler.LimitStatus{}, role: reader,
			help: "the limits that are configured or in use, ordered by name"},
		{method: "GET", path: "/v1/stats", do: s.stats, out: scheduler.Stats{}, role: reader, load: urgent,
			help: "figures of the scheduler as a whole"},
	}
}

func (s *server) workRoutes() []route {
	return []route{
		{method: "POST", path: "/v1/leases/next", do: s.next, in: scheduler.Want{}, out: []scheduler.Lease{}, role: worker, load: waiting,
			help: "take up to max jobs; with nothing to do it answers after the time wait with an empty list"},
		{method: "POST", path: "/v1/leases/heartbeat", do: s.heartbeat, in: scheduler.Beat{}, out: scheduler.Beaten{}, role: worker, load: urgent,
			help: "extend a lease and tell the progress; the answer says whether to stop"},
		{method: "POST", path: "/v1/leases/log", do: s.addLog, in: LogRequest{}, out: Empty{}, role: worker,
			help: "add lines to a job's log"},
		{method: "POST", path: "/v1/leases/complete", do: s.complete, brief: true, in: CompleteRequest{}, out: Completed{}, role: worker, load: urgent,
			help: "end attempts; a single completion that stands in the body itself is answered with the job's status alone, or with its error"},
		{method: "POST", path: "/v1/leases/return", do: s.handBack, in: ReturnRequest{}, out: Empty{}, role: worker, load: urgent,
			help: "give a lease up without an end: the job keeps its place and is handed out again at once"},
	}
}

func (s *server) otherRoutes() []route {
	return []route{
		{method: "GET", path: "/v1/registry/export", do: s.export, out: "", media: jsonLines, role: reader, load: heavy,
			help: "every node and blob, as JSON lines; an export that was cut off lacks the last line"},
		{method: "POST", path: "/v1/registry/import", do: s.importNodes, in: "", media: jsonLines, out: ImportReport{}, query: []string{"dry_run"}, role: admin, load: heavy,
			help: "create the nodes of an export"},
		{method: "GET", path: "/v1/registry/check", do: s.check, out: registry.Audited{}, role: reader, load: heavy,
			help: "read everything and check the promises that hold between nodes"},

		{method: "GET", path: "/v1/events", do: s.events, out: "", media: eventStream, query: eventParameters(), role: reader, load: waiting,
			help: "every change of nodes and jobs from now on or, with cursor or the header Last-Event-ID, from there; see below"},
		{method: "GET", path: "/v1/openapi.json", do: s.openapi, out: "", media: "application/json", role: reader,
			help: "this interface, as an OpenAPI 3.1 document"},
		{method: "GET", path: "/healthz", do: s.healthz, out: Health{}, role: anybody, load: uncounted,
			help: "the process lives"},
		{method: "GET", path: "/readyz", do: s.readyz, out: Health{}, role: anybody, load: uncounted,
			help: "it takes requests: its stores answer, and it is not being shut down"},
		{method: "GET", path: "/metrics", do: s.metrics, out: "", media: "text/plain", role: reader, load: uncounted,
			help: "figures for Prometheus"},
	}
}

// mount serves the routes. HEAD is GET without its body.
// line lets what follows answer before the request has ended.
func (s *server) line(c *gin.Context) {
	if err := duplex.Accept(c.Writer, c.Request); err != nil {
		s.fail(c, err)
	}
}

func (s *server) mount(e *gin.Engine) {
	for _, r := range s.routes() {
		chain := []gin.HandlerFunc{s.observe(r), s.identify(r), s.allowed(r), s.admit(r), s.consistent, r.do}
		if r.line {
			chain = slices.Insert(chain, 1, gin.HandlerFunc(s.line)) // a refusal too must not wait for the end of the body
		}
		e.Handle(r.method, r.path, chain...)
		if r.method == http.MethodGet {
			e.Handle(http.MethodHead, r.path, chain...)
		}
	}
}
