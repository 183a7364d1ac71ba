package api

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// capable returns what the scheduler can do beyond running jobs, if it can.
func capable[T any](s *server, c *gin.Context, what string) (T, bool) {
	v, ok := s.m.Scheduler.(T)
	if !ok {
		s.fail(c, s.unsupported(what))
	}
	return v, ok
}

// unsupported says which scheduler lacks what, and what to do.
func (s *server) unsupported(what string) error {
	kind := "here"
	for _, ch := range s.m.Settings.Choices {
		if ch.Section == "scheduler" {
			kind = ch.Kind
		}
	}
	return &unsupportedError{fmt.Sprintf("the scheduler %s has no %s: write [scheduler] use = broker", kind, what)}
}

// unsupportedError is a scheduler.ErrUnsupported that says more.
type unsupportedError struct{ text string }

func (e *unsupportedError) Error() string        { return e.text }
func (e *unsupportedError) Is(target error) bool { return target == scheduler.ErrUnsupported }

// checkRef refuses a queue's name, and does not look for the ID of a job or a
// package, that none can have.
func (s *server) checkRef(c *gin.Context, name string) (string, bool) {
	ref := param(c, name)
	var err error
	switch bad := registry.CheckName(ref); {
	case name == "name":
		if bad = registry.CheckKey(ref); bad != nil {
			err = &registry.InvalidError{Field: "queue", Reason: bad.Error()}
		}
	case bad != nil:
		err = fmt.Errorf("%w: none can be called %.64q", scheduler.ErrNotFound, ref)
	}
	if err != nil {
		s.fail(c, err)
	}
	return ref, err == nil
}

// noTrails refuses jobs that say themselves on whose behalf they are: that
// stands in the headers, and is signed.
func (s *server) noTrails(c *gin.Context, jobs []scheduler.Job) bool {
	for i, j := range jobs {
		if j.Trail != (trail.Trail{}) {
			s.fail(c, &registry.InvalidError{Field: fmt.Sprintf("jobs[%d].trail", i), Reason: "the trail stands in the headers: leave it out"})
			return false
		}
	}
	return true
}

func (s *server) newPackage(c *gin.Context) {
	var p scheduler.Package
	b, ok := capable[scheduler.Builder](s, c, "packages that are built step by step")
	if !ok || !s.body(c, &p, MaxPackage) || !s.noTrails(c, p.Jobs) {
		return
	}
	st, err := b.NewPackage(c.Request.Context(), p)
	s.answer(c, st, err)
}

func (s *server) addJobs(c *gin.Context) {
	var req AddRequest
	b, ok := capable[scheduler.Builder](s, c, "packages that are built step by step")
	if !ok {
		return
	}
	id, ok := s.checkRef(c, "id")
	if !ok || !s.body(c, &req, MaxPackage) || !s.noTrails(c, req.Jobs) {
		return
	}
	ids, err := b.AddJobs(c.Request.Context(), id, req.Jobs...)
	if ids == nil {
		ids = []string{}
	}
	s.answer(c, Added{Jobs: ids}, err)
}

func (s *server) enqueue(c *gin.Context) {
	b, ok := capable[scheduler.Builder](s, c, "packages that are built step by step")
	if !ok {
		return
	}
	wait, err := waitFor(c)
	if err != nil {
		s.fail(c, err)
		return
	}
	id, ok := s.checkRef(c, "id")
	if !ok || !s.body(c, &struct{}{}, MaxBody) {
		return
	}
	list, err := b.Enqueue(c.Request.Context(), id)
	s.answerJobs(c, list, wait, err)
}

func (s *server) getPackage(c *gin.Context) {
	b, ok := capable[scheduler.Builder](s, c, "packages that are remembered")
	if !ok {
		return
	}
	if id, ok := s.checkRef(c, "id"); ok {
		st, err := b.Package(c.Request.Context(), id)
		s.answer(c, st, err)
	}
}

func (s *server) cancelPackage(c *gin.Context) {
	b, ok := capable[scheduler.Builder](s, c, "packages that are remembered")
	if !ok {
		return
	}
	if id, ok := s.checkRef(c, "id"); ok && s.body(c, &struct{}{}, MaxBody) {
		st, err := b.CancelPackage(c.Request.Context(), id)
		s.answer(c, st, err)
	}
}

func (s *server) listPackages(c *gin.Context) {
	b, ok := capable[scheduler.Builder](s, c, "packages that are remembered")
	if !ok {
		return
	}
	states := []scheduler.PackageState{}
	for _, text := range c.QueryArray("state") {
		known := []scheduler.PackageState{scheduler.Building, scheduler.Queued, scheduler.Ended}
		if !slices.Contains(known, scheduler.PackageState(text)) {
			s.fail(c, &registry.InvalidError{Field: "state", Reason: fmt.Sprintf("%.32q is no state of a package: there are %v", text, known)})
			return
		}
		states = append(states, scheduler.PackageState(text))
	}
	limit, err := pageLimit(c)
	if err != nil {
		s.fail(c, err)
		return
	}
	after, behind := c.GetQuery("after")
	list := []scheduler.PackageStatus{}
	for st, err := range b.Packages(c.Request.Context()) {
		if err != nil {
			s.fail(c, err)
			return
		}
		switch {
		case behind:
			behind = st.ID != after
		case len(states) == 0 || slices.Contains(states, st.State):
			list = append(list, st)
		}
		if len(list) == limit {
			break
		}
	}
	if behind {
		s.fail(c, lostPlace("package", after))
		return
	}
	s.answer(c, list, nil)
}

// lostPlace is the error of a page after something that is not there any more.
func lostPlace(what, ref string) error {
	return &registry.NotFoundError{What: what + " after which the page begins (it is no longer kept: list again)", Ref: ref}
}

// pageLimit reads the parameter limit.
func pageLimit(c *gin.Context) (int, error) {
	text, given := c.GetQuery("limit")
	if !given {
		return PageSize, nil
	}
	n, err := parseLimit(text)
	return min(n, MaxPage), err
}

// waitFor reads the parameter wait; it is 0 if there is none.
func waitFor(c *gin.Context) (time.Duration, error) {
	text, given := c.GetQuery("wait")
	if !given {
		return 0, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 || d > MaxWait {
		return 0, &registry.InvalidError{Field: "wait", Reason: fmt.Sprintf("%.32q is not a time above 0 and up to %s, such as 30s", text, MaxWait)}
	}
	return d, nil
}

// answerJobs answers with the jobs as they are or, if there is a time to wait,
// as they are when all have ended or the time is over.
func (s *server) answerJobs(c *gin.Context, list []scheduler.Status, wait time.Duration, err error) {
	if err == nil && wait > 0 && s.idle(c) {
		waiting, cancel := s.until(c, wait)
		for i := range list {
			if list[i], err = s.ended(waiting, c.Request.Context(), list[i].ID); err != nil {
				break
			}
		}
		cancel()
	}
	if err != nil {
		s.fail(c, err)
		return
	}
	if brief(c) {
		s.writeJSON(c, http.StatusOK, briefJobs(list))
		return
	}
	out := make([]scheduler.Status, 0, len(list))
	for _, st := range list {
		out = append(out, coded(st))
	}
	s.answer(c, out, nil)
}

// until is the request's context, at most for d, and no longer than this server
// takes requests.
func (s *server) until(c *gin.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithTimeout(c.Request.Context(), d)
	if s.o.Draining == nil {
		return ctx, cancel
	}
	done := make(chan struct{})
	go func() { // ends with the request, which waits for it in cancel
		defer close(done)
		select {
		case <-s.o.Draining:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(); <-done }
}

// ended is the job's status when it has ended, or as it is when waiting ends.
func (s *server) ended(waiting, ctx context.Context, id string) (scheduler.Status, error) {
	st, err := s.m.Scheduler.Wait(waiting, id)
	if err != nil && waiting.Err() != nil && ctx.Err() == nil {
		st, err = s.m.Scheduler.Status(ctx, id)
	}
	return st, err
}
