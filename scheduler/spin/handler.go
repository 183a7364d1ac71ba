package spin

import (
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/vagoth/vagoth/scheduler"
)

// Scheduler is what the six verbs need.
type Scheduler interface {
	scheduler.Builder
	scheduler.Broker
	scheduler.Inspector
}

// DefaultLease is how long an agent has for a command.
const DefaultLease = time.Hour

// Options modify New.
type Options struct {
	Lease time.Duration    // of a command; 0 is DefaultLease
	Now   func() time.Time // nil is time.Now
}

// New returns the handler. It keeps a few bytes for each command in the hands
// of an agent, and nothing else.
func New(s Scheduler, o Options) http.Handler {
	if o.Lease <= 0 {
		o.Lease = DefaultLease
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &handler{s: s, lease: o.Lease, attempts: newAttempts(s, o.Lease, o.Now)}
}

type handler struct {
	s        Scheduler
	lease    time.Duration
	attempts *attempts
	adding   sync.Mutex // held by those who add to a package again, after others came between
}

// verb is one entry of the protocol.
type verb struct {
	name   string
	method string
	arg    string // what follows the name in the path; "" is nothing
	serve  func(h *handler, w http.ResponseWriter, r *http.Request, arg string) error
}

// find gives the verb of a name. It is a switch, not a map in a variable.
func find(name string) (v verb, ok bool) {
	switch name {
	case "new":
		v = verb{name, http.MethodPost, "", (*handler).new}
	case "add":
		v = verb{name, http.MethodPost, "PACKAGE", (*handler).add}
	case "enqueue":
		v = verb{name, http.MethodPost, "PACKAGE", (*handler).enqueue}
	case "status":
		v = verb{name, http.MethodGet, "PACKAGE", (*handler).status}
	case "next":
		v = verb{name, http.MethodGet, "RESOURCE", (*handler).next}
	case "complete":
		v = verb{name, http.MethodPost, "", (*handler).complete}
	default:
		return verb{}, false
	}
	return v, true
}

// ServeHTTP implements http.Handler.
func (h *handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := h.serve(w, r); err != nil {
		writeError(w, err)
	}
}

func (h *handler) serve(w http.ResponseWriter, r *http.Request) error {
	if err := fromHere(r); err != nil {
		return err
	}
	name, arg, hasArg := strings.Cut(strings.TrimPrefix(r.URL.Path, "/"), "/")
	v, ok := find(name)
	switch {
	case !ok || hasArg != (v.arg != ""):
		return failure{status: http.StatusNotFound, name: "not_found",
			message: "no such path: use POST /new, /add/PACKAGE, /enqueue/PACKAGE, /complete, GET /status/PACKAGE, /next/RESOURCE"}
	case r.Method != v.method:
		w.Header().Set("Allow", v.method)
		return failure{status: http.StatusMethodNotAllowed, name: "method_not_allowed", message: "/" + name + " takes " + v.method + " only"}
	case v.arg != "" && arg == "":
		return failure{status: http.StatusBadRequest, name: "missing_field", message: "/" + name + "/ lacks its " + v.arg}
	}
	return v.serve(h, w, r, arg)
}
