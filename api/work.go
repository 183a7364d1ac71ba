package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

const working = "workers outside"

// next is a long poll. It ends when its client goes; jobs that nobody is left
// to take are handed back.
func (s *server) next(c *gin.Context) {
	b, ok := capable[scheduler.Broker](s, c, working)
	var w scheduler.Want
	if !ok || !s.body(c, &w, MaxBody) {
		return
	}
	w.Identity = identity(c).Name
	w.Worker = signed(w.Identity, w.Worker)
	if err := checkWant(w); err != nil {
		s.fail(c, err)
		return
	}
	list, err := s.take(c, b, w)
	if list == nil {
		list = []scheduler.Lease{}
	}
	if err != nil {
		s.fail(c, err)
		return
	}
	// Once all of it is written the worker may have it, and go on: that its
	// request is over then says nothing.
	if c.Request.Context().Err() != nil || !s.deliver(c, leasesJSON(list)) {
		s.takeBack(c, b, list)
	}
}

// take asks the scheduler for jobs. Whoever need not wait, as there are some, is
// spared what a wait costs.
func (s *server) take(c *gin.Context, b scheduler.Broker, w scheduler.Want) ([]scheduler.Lease, error) {
	if w.Wait >= 0 && w.Wait.D() <= scheduler.MaxWait {
		now := w
		now.Wait = 0
		if list, err := b.Next(c.Request.Context(), now); len(list) > 0 || err != nil || w.Wait == 0 {
			return list, err
		}
	}
	extend(c, MaxWait)
	ctx, cancel := s.until(c, scheduler.MaxWait+time.Second)
	defer cancel()
	list, err := b.Next(ctx, w)
	if err != nil && ctx.Err() != nil && c.Request.Context().Err() == nil {
		return nil, nil // it is being shut down: there is nothing to do
	}
	return list, err
}

// deliver answers, and reports whether all of it was handed to the connection.
func (s *server) deliver(c *gin.Context, data []byte) bool {
	s.writeJSON(c, http.StatusOK, data)
	if c.IsAborted() {
		return false
	}
	u, ok := c.Writer.(interface{ Unwrap() http.ResponseWriter })
	if !ok {
		return true
	}
	err := http.NewResponseController(u.Unwrap()).Flush() // gin's own tells of no error
	return err == nil || errors.Is(err, http.ErrNotSupported)
}

// takeBack hands back the jobs whose worker went while they were on their way
// to it, so that they need not wait for the end of the lease.
func (s *server) takeBack(c *gin.Context, b scheduler.Broker, list []scheduler.Lease) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(c.Request.Context()), 10*time.Second)
	defer cancel()
	for _, l := range list {
		if err := b.HandBack(ctx, l.Hold, "its worker went before it had the job"); err != nil {
			s.o.Log.Warn("a job whose worker has gone waits for the end of its lease", "job", l.Job, "error", err)
		}
	}
}

func checkWant(w scheduler.Want) error {
	if err := (trail.Trail{Source: w.Worker}).Validate(); err != nil {
		return &registry.InvalidError{Field: "worker", Reason: "it is too long, or holds control characters"}
	}
	for field, list := range map[string][]string{"queues": w.Queues, "actions": w.Actions} {
		if len(list) > scheduler.MaxWantQueues {
			return &registry.InvalidError{Field: field, Reason: fmt.Sprintf("there are %d, at most %d are taken", len(list), scheduler.MaxWantQueues)}
		}
		for i, name := range list {
			err := registry.CheckKey(name)
			if field == "actions" {
				err = registry.CheckName(name)
			}
			if err != nil {
				return &registry.InvalidError{Field: fmt.Sprintf("%s[%d]", field, i), Reason: err.Error()}
			}
		}
	}
	return nil
}

// checkHold refuses what no worker can hold, and notes who shows it.
func checkHold(c *gin.Context, at string, h *scheduler.Hold) error {
	h.Identity = identity(c).Name
	if err := registry.CheckName(h.Job); err != nil {
		return &registry.InvalidError{Field: at + "job", Reason: err.Error()}
	}
	return nil
}

func (s *server) heartbeat(c *gin.Context) {
	b, ok := capable[scheduler.Broker](s, c, working)
	var beat scheduler.Beat
	if !ok || !s.body(c, &beat, MaxBody) {
		return
	}
	err := checkHold(c, "", &beat.Hold)
	var beaten scheduler.Beaten
	if err == nil {
		beaten, err = b.Heartbeat(c.Request.Context(), beat)
	}
	s.answer(c, beaten, err)
}

func (s *server) addLog(c *gin.Context) {
	b, ok := capable[scheduler.Broker](s, c, working)
	var req LogRequest
	if !ok || !s.body(c, &req, MaxBody) {
		return
	}
	err := checkHold(c, "", &req.Hold)
	if err == nil && len(req.Lines) > MaxLines {
		err = &registry.InvalidError{Field: "lines", Reason: fmt.Sprintf("there are %d, at most %d are taken at once", len(req.Lines), MaxLines)}
	}
	if err == nil {
		err = b.AddLog(c.Request.Context(), req.Hold, req.Lines...)
	}
	s.answer(c, Empty{}, err)
}

func (s *server) complete(c *gin.Context) {
	b, ok := capable[scheduler.Broker](s, c, working)
	var req CompleteRequest
	if !ok || !s.body(c, &req, MaxPackage) {
		return
	}
	list, single := req.Completions, req.Completions == nil
	at := func(i int) string { return fmt.Sprintf("completions[%d].", i) }
	switch {
	case single:
		list, at = []scheduler.Completion{req.Completion}, func(int) string { return "" }
	case req.Job != "":
		s.fail(c, &registry.InvalidError{Field: "body", Reason: "it completes one job and a list of jobs: send one of both"})
		return
	case len(list) > MaxComplete:
		s.fail(c, &registry.InvalidError{Field: "completions", Reason: fmt.Sprintf("there are %d, at most %d are taken at once", len(list), MaxComplete)})
		return
	}
	for i := range list {
		if err := checkHold(c, at(i), &list[i].Hold); err != nil {
			s.fail(c, err)
			return
		}
	}
	statuses, errs := b.Complete(c.Request.Context(), list...)
	if len(statuses) != len(list) || len(errs) != len(list) {
		s.fail(c, fmt.Errorf("the scheduler was told the end of %d attempts and answered %d", len(list), len(statuses)))
		return
	}
	if single {
		s.answer(c, coded(statuses[0]), errs[0])
		return
	}
	short := brief(c)
	out := Completed{Results: make([]CompleteResult, len(list))}
	for i := range list {
		if errs[i] != nil {
			_, p := problemOf(errs[i])
			out.Results[i].Error = &p
			continue
		}
		if short {
			continue
		}
		st := coded(statuses[i])
		out.Results[i].Status = &st
	}
	s.write(c, http.StatusOK, out)
}

func (s *server) handBack(c *gin.Context) {
	b, ok := capable[scheduler.Broker](s, c, working)
	var req ReturnRequest
	if !ok || !s.body(c, &req, MaxBody) {
		return
	}
	err := checkHold(c, "", &req.Hold)
	if err == nil {
		err = b.HandBack(c.Request.Context(), req.Hold, req.Reason)
	}
	s.answer(c, Empty{}, err)
}
