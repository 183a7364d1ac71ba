package api

import (
	"encoding/json"
	"errors"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
)

// submitAction queues an action for a node, on the node's own queue.
func (s *server) submitAction(c *gin.Context) {
	r, n, ok := s.node(c)
	var req JobRequest
	if !ok || !s.body(c, &req) {
		return
	}
	extra := map[string]any{"vm": n.ID()}
	for _, p := range []string{"host", "to"} { // hosts are typed as names and kept as IDs
		var given map[string]any
		if req.Params.Decode(&given) == nil {
			if ref, isText := given[p].(string); isText && ref != "" {
				h, err := registry.Find(r, ref)
				if err != nil {
					s.fail(c, err)
					return
				}
				extra[p] = h.ID()
			}
		}
	}
	params, err := req.Params.Merge(extra)
	if err != nil {
		s.fail(c, err)
		return
	}
	s.submit(c, scheduler.Package{Jobs: []scheduler.Job{{
		Queue: n.ID(), Action: req.Action, Params: params, Timeout: req.Timeout, Key: req.Key,
	}}})
}

func (s *server) submitPackage(c *gin.Context) {
	var p scheduler.Package
	if s.body(c, &p) {
		s.submit(c, p)
	}
}

func (s *server) submit(c *gin.Context, p scheduler.Package) {
	list, err := s.m.Scheduler.Submit(c.Request.Context(), p)
	if list == nil {
		list = []scheduler.Status{}
	}
	for i := range list {
		list[i] = coded(list[i])
	}
	s.answer(c, list, err)
}

// coded names the class of a job's error, so that it crosses the wire.
func coded(st scheduler.Status) scheduler.Status {
	if err := st.Err(); err != nil && errors.Unwrap(err) != nil {
		st.Code = CodeOf(err).Name
	}
	return st
}

func (s *server) listJobs(c *gin.Context) {
	f := scheduler.Filter{Queue: c.Query("queue"), Action: c.Query("action"), Package: c.Query("package"), Limit: PageSize}
	for _, st := range c.QueryArray("state") {
		f.States = append(f.States, scheduler.State(st))
	}
	if text := c.Query("limit"); text != "" {
		n, err := strconv.Atoi(text)
		if err != nil || n < 1 {
			s.fail(c, &registry.InvalidError{Field: "limit", Reason: "it is not a number above 0"})
			return
		}
		f.Limit = min(n, MaxPage)
	}
	list := []scheduler.Status{}
	for st, err := range s.m.Scheduler.List(c.Request.Context(), f) {
		if err != nil {
			s.fail(c, err)
			return
		}
		list = append(list, coded(st))
	}
	c.JSON(http.StatusOK, list)
}

func (s *server) getJob(c *gin.Context) {
	st, err := s.m.Scheduler.Status(c.Request.Context(), c.Param("id"))
	s.answer(c, coded(st), err)
}

func (s *server) jobLog(c *gin.Context) {
	lines, err := s.m.Scheduler.Log(c.Request.Context(), c.Param("id"))
	if lines == nil {
		lines = []scheduler.Line{}
	}
	s.answer(c, lines, err)
}

func (s *server) guestInfo(c *gin.Context) {
	_, n, ok := s.node(c)
	if !ok {
		return
	}
	vm, err := virt.VM(c.Request.Context(), s.m, n.ID())
	if err != nil {
		s.fail(c, err)
		return
	}
	info, err := vm.Info(c.Request.Context())
	s.answer(c, info, err)
}

// lastDecision answers with the decision that was kept when the VM was placed.
func (s *server) lastDecision(c *gin.Context) {
	r, n, ok := s.node(c)
	if !ok {
		return
	}
	data, err := r.Blob(n.ID(), virt.BlobDecision)
	if errors.Is(err, registry.ErrNotFound) {
		err = &registry.NotFoundError{What: "placement decision of", Ref: n.Name()}
	}
	if err != nil {
		s.fail(c, err)
		return
	}
	var d allocator.Decision
	if err := json.Unmarshal(data, &d); err != nil {
		s.fail(c, err)
		return
	}
	c.JSON(http.StatusOK, DecisionAnswer{Decision: &d})
}

// decide asks the allocator and reserves nothing.
func (s *server) decide(c *gin.Context) {
	r, n, ok := s.node(c)
	var q DecisionRequest
	if !ok || !s.body(c, &q) {
		return
	}
	req, err := virt.PlacementOf(r, n, q.Host)
	if err != nil {
		s.fail(c, err)
		return
	}
	d, err := s.m.Allocator.Decide(c.Request.Context(), r, req)
	var none *allocator.NoHostError
	switch {
	case errors.As(err, &none):
		c.JSON(http.StatusOK, DecisionAnswer{Decision: none.Decision, Error: err.Error()})
	default:
		s.answer(c, DecisionAnswer{Decision: d}, err)
	}
}

func (s *server) poll(c *gin.Context) {
	var req PollRequest
	if !s.body(c, &req) {
		return
	}
	ctx := c.Request.Context()
	r, err := s.m.Registry.View(ctx)
	if err != nil {
		s.fail(c, err)
		return
	}
	ids := make([]string, 0, len(req.Hosts))
	for _, ref := range req.Hosts {
		n, err := registry.Find(r, ref)
		if err != nil {
			s.fail(c, err)
			return
		}
		if n.Type() != virt.TypeHypervisor {
			s.fail(c, &registry.InvalidError{ID: n.ID(), Field: "type", Reason: "it is a " + n.Type() + " and no hypervisor: name hypervisors, or none for all"})
			return
		}
		ids = append(ids, n.ID())
	}
	report, err := s.m.Monitor.Poll(ctx, ids...)
	s.answer(c, report, err)
}

func (s *server) maintenance(c *gin.Context) {
	_, n, ok := s.node(c)
	var req MaintenanceRequest
	if !ok || !s.body(c, &req) {
		return
	}
	hv, err := virt.HypervisorOf(c.Request.Context(), s.m, n.ID())
	if err == nil {
		err = hv.SetMaintenance(c.Request.Context(), req.On, "")
	}
	s.after(c, n.ID(), err)
}

func (s *server) confirmDown(c *gin.Context) {
	_, n, ok := s.node(c)
	var req ConfirmRequest
	if !ok || !s.body(c, &req) {
		return
	}
	freed, err := virt.ConfirmDown(c.Request.Context(), s.m, n.ID(), trail.From(c.Request.Context()).Reason, virt.ConfirmOptions{AbandonDisks: req.AbandonDisks})
	if freed == nil {
		freed = []string{}
	}
	s.answer(c, Confirmed{Freed: freed}, err)
}

// after answers with the node as it is now.
func (s *server) after(c *gin.Context, id string, err error) {
	if err != nil {
		s.fail(c, err)
		return
	}
	n, err := registry.Get(c.Request.Context(), s.m.Registry, id)
	s.answer(c, n, err)
}
