package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

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
	if !ok || !s.body(c, &req, MaxBody) {
		return
	}
	wait, err := waitFor(c)
	if err != nil {
		s.fail(c, err)
		return
	}
	params, err := s.paramsFor(r, n, req)
	if err != nil {
		s.fail(c, err)
		return
	}
	j := scheduler.Job{Queue: n.ID(), Action: req.Action, Params: params, Timeout: req.Timeout, Key: req.Key, KeepQueued: req.KeepQueued}
	if n.Type() == virt.TypeVM && slices.Contains(s.m.Types[virt.TypeVM].Verbs, req.Action) {
		j.Limits = virt.LimitsFor(s.m.Parts(), req.Action, n)
	}
	s.submit(c, scheduler.Package{Jobs: []scheduler.Job{j}}, wait)
}

// paramsFor completes the parameters with what the node says: vm is the node,
// and hosts are typed as names and kept as IDs.
func (s *server) paramsFor(r registry.Reader, n *registry.Node, req JobRequest) (registry.Document, error) {
	if err := s.checkVerb(n, req.Action); err != nil {
		return req.Params, err
	}
	given, err := req.Params.Map()
	if err != nil {
		return req.Params, err
	}
	takes := map[string]bool{}
	for _, p := range s.m.Actions[req.Action].Params {
		takes[p.Name] = true
	}
	about := "vm"
	if !takes["vm"] {
		if about = "hv"; !takes["hv"] || n.Type() != virt.TypeHypervisor {
			return req.Params, nil // it is not about nodes: its parameters mean whatever they mean
		}
	}
	if named, ok := given[about]; ok && named != n.ID() {
		return req.Params, &registry.InvalidError{ID: n.ID(), Field: "params", Reason: about + " names another node: leave it out"}
	}
	set := map[string]any{about: n.ID()}
	for _, p := range []string{"host", "to"} {
		ref, isText := given[p].(string)
		if !takes[p] || !isText || ref == "" {
			continue
		}
		h, err := registry.Find(r, ref)
		if err != nil {
			return req.Params, err
		}
		set[p] = h.ID()
	}
	return req.Params.Merge(set)
}

// checkVerb refuses an action that belongs to other types of nodes.
func (s *server) checkVerb(n *registry.Node, action string) error {
	if slices.Contains(s.m.Types[n.Type()].Verbs, action) {
		return nil
	}
	var types []string
	for typ, class := range s.m.Types {
		if slices.Contains(class.Verbs, action) {
			types = append(types, typ)
		}
	}
	if types == nil {
		return nil
	}
	slices.Sort(types)
	return &registry.InvalidError{ID: n.ID(), Field: "action", Reason: fmt.Sprintf("%s is done to nodes of type %s, and it is a %s", action, strings.Join(types, ", "), n.Type())}
}

func (s *server) submitPackage(c *gin.Context) {
	var p scheduler.Package
	wait, err := waitFor(c)
	if err != nil {
		s.fail(c, err)
		return
	}
	if s.body(c, &p, MaxPackage) && s.noTrails(c, p.Jobs) {
		s.submit(c, p, wait)
	}
}

func (s *server) submit(c *gin.Context, p scheduler.Package, wait time.Duration) {
	list, err := s.m.Scheduler.Submit(c.Request.Context(), p)
	s.answerJobs(c, list, wait, err)
}

// coded names the class of a job's error, so that it crosses the wire.
func coded(st scheduler.Status) scheduler.Status {
	err := st.Err()
	if err == nil {
		return st
	}
	if code := CodeOf(err).Name; code != Internal || st.Code == "" && errors.Unwrap(err) != nil {
		st.Code = code
	}
	return st
}

func (s *server) listJobs(c *gin.Context) {
	f := scheduler.Filter{Queue: c.Query("queue"), Action: c.Query("action"), Package: c.Query("package"), Limit: PageSize}
	known := []scheduler.State{scheduler.Waiting, scheduler.Running, scheduler.Parked, scheduler.Succeeded, scheduler.Failed, scheduler.Cancelled, scheduler.Expired}
	for _, text := range c.QueryArray("state") {
		if !slices.Contains(known, scheduler.State(text)) {
			s.fail(c, &registry.InvalidError{Field: "state", Reason: fmt.Sprintf("%.32q is no state of a job: there are %v", text, known)})
			return
		}
		f.States = append(f.States, scheduler.State(text))
	}
	page, err := s.jobPage(c)
	if err != nil {
		s.fail(c, err)
		return
	}
	list := []scheduler.Status{}
	ask := f
	ask.Limit = page.limit
	if page.behind != "" {
		ask = scheduler.Filter{} // what changed meanwhile must not hide the place
	}
	for st, err := range s.m.Scheduler.List(c.Request.Context(), ask) {
		switch {
		case err != nil:
			s.fail(c, err)
			return
		case page.behind != "":
			if st.ID == page.behind {
				page.behind = ""
			}
			continue
		case st.SubmittedAt.Before(page.since) || !f.Matches(st):
			continue
		}
		if list = append(list, coded(st)); len(list) == page.limit {
			break
		}
	}
	if page.behind != "" {
		s.fail(c, lostPlace("job", page.behind))
		return
	}
	s.answer(c, list, nil)
}

// jobPage is what a list of jobs is bounded by.
type jobPage struct {
	limit  int
	since  time.Time
	behind string // the ID of the job behind which the page begins, until it is found
}

func (s *server) jobPage(c *gin.Context) (p jobPage, err error) {
	if p.limit, err = pageLimit(c); err != nil {
		return p, err
	}
	if text, given := c.GetQuery("since"); given {
		if p.since, err = time.Parse(time.RFC3339Nano, text); err != nil {
			return p, &registry.InvalidError{Field: "since", Reason: fmt.Sprintf("%.40q is no time such as 2026-01-31T12:00:00Z", text)}
		}
	}
	if text, given := c.GetQuery("after"); given {
		if err := registry.CheckName(text); err != nil {
			return p, &registry.InvalidError{Field: "after", Reason: err.Error()}
		}
		p.behind = text
	}
	return p, nil
}

func (s *server) getJob(c *gin.Context) {
	ctx := c.Request.Context()
	d, err := waitFor(c)
	if err != nil {
		s.fail(c, err)
		return
	}
	id, ok := s.checkRef(c, "id")
	if !ok {
		return
	}
	if d == 0 {
		st, err := s.m.Scheduler.Status(ctx, id)
		s.answer(c, coded(st), err)
		return
	}
	if !s.idle(c) {
		s.overloaded(c)
		return
	}
	waiting, cancel := s.until(c, d)
	defer cancel()
	st, err := s.ended(waiting, ctx, id)
	s.answer(c, coded(st), err)
}

func (s *server) cancelJob(c *gin.Context) {
	id, ok := s.checkRef(c, "id")
	if !ok || !s.body(c, &struct{}{}, MaxBody) {
		return
	}
	ctx := c.Request.Context()
	canceller, ok := s.m.Scheduler.(scheduler.Canceller)
	if !ok {
		s.fail(c, s.unsupported("way to cancel a job"))
		return
	}
	if err := canceller.Cancel(ctx, id, trail.From(ctx).Reason); err != nil {
		s.fail(c, err)
		return
	}
	st, err := s.m.Scheduler.Status(ctx, id)
	s.answer(c, coded(st), err)
}

func (s *server) jobLog(c *gin.Context) {
	id, ok := s.checkRef(c, "id")
	if !ok {
		return
	}
	lines, err := s.m.Scheduler.Log(c.Request.Context(), id)
	if lines == nil {
		lines = []scheduler.Line{}
	}
	s.answer(c, lines, err)
}

// jobLines is the log from some line on, for those who follow it: with wait it
// answers when there are more lines, or the job has ended.
func (s *server) jobLines(c *gin.Context) {
	id, ok := s.checkRef(c, "id")
	if !ok {
		return
	}
	d, err := waitFor(c)
	after := 0
	if text, given := c.GetQuery("after"); given && err == nil {
		if after, err = strconv.Atoi(text); err != nil || after < 0 {
			err = &registry.InvalidError{Field: "after", Reason: fmt.Sprintf("%.32q is not the number of a line, as next of an answer is", text)}
		}
	}
	switch {
	case err != nil:
		s.fail(c, err)
		return
	case d == 0:
		part, err := s.logPart(c.Request.Context(), id, after)
		s.answer(c, part, err)
		return
	}
	follower, ok := capable[scheduler.LogFollower](s, c, "way to follow a log")
	if !ok {
		return
	}
	if !s.idle(c) {
		s.overloaded(c)
		return
	}
	ctx, cancel := s.until(c, d)
	defer cancel()
	part, err := follower.LogAfter(ctx, id, after)
	if part.Lines == nil {
		part.Lines = []scheduler.Line{}
	}
	s.answer(c, part, err)
}

// logPart is what there is of a log, on any scheduler.
func (s *server) logPart(ctx context.Context, id string, after int) (scheduler.LogPart, error) {
	st, err := s.m.Scheduler.Status(ctx, id) // before its lines, so that none is missed at its end
	if err != nil {
		return scheduler.LogPart{}, err
	}
	lines, err := s.m.Scheduler.Log(ctx, id)
	fresh := append([]scheduler.Line{}, lines[min(after, len(lines)):]...)
	return scheduler.LogPart{Lines: fresh, Next: len(lines), State: st.State}, err
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
		s.fail(c, fmt.Errorf("cannot read the decision that is kept with %s: %w", n.Name(), err))
		return
	}
	s.answer(c, DecisionAnswer{Decision: &d}, nil)
}

// decide asks the allocator and reserves nothing.
func (s *server) decide(c *gin.Context) {
	r, n, ok := s.node(c)
	var q DecisionRequest
	if !ok || !s.body(c, &q, MaxBody) {
		return
	}
	if n.Type() != virt.TypeVM {
		s.fail(c, &registry.InvalidError{ID: n.ID(), Field: "type", Reason: "it is a " + n.Type() + ", and only virtual machines are placed"})
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
		s.answer(c, DecisionAnswer{Decision: none.Decision, Error: err.Error()}, nil)
	default:
		s.answer(c, DecisionAnswer{Decision: d}, err)
	}
}

func (s *server) poll(c *gin.Context) {
	var req PollRequest
	if !s.body(c, &req, MaxBody) {
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
	if !ok || !s.body(c, &req, MaxBody) {
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
	if !ok || !s.body(c, &req, MaxBody) || req.AbandonDisks && !s.may(c, admin, "abandon_disks") {
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
	s.answerNode(c, n, err)
}
