package agent

import (
	"context"
	"net/http"
	"net/http/pprof"
	"strconv"
	"strings"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/virt/mistify"
)

// guestID is the guest's id in the path, or an answer was given.
func (s *server) guestID(c *gin.Context) (string, bool) {
	id, err := mistify.ParseGuestID(param(c, "guest"))
	if err != nil {
		s.fail(c, err)
		return "", false
	}
	return id, true
}

// known is the guest in the path, or an answer was given.
func (s *server) known(c *gin.Context) (*guest, bool) {
	id, ok := s.guestID(c)
	if !ok {
		return nil, false
	}
	g := s.a.store.guest(id)
	if g == nil {
		s.fail(c, notFound("there is no guest %s", id))
		return nil, false
	}
	if err := s.a.stale(c.Request.Context(), id); err != nil {
		s.fail(c, err)
		return nil, false
	}
	return g, true
}

func (s *server) listGuests(c *gin.Context) { s.raw(c, http.StatusOK, s.a.store.guestList()) }

func (s *server) getGuest(c *gin.Context) {
	if g, ok := s.known(c); ok {
		s.raw(c, http.StatusOK, g.answer(), newline())
	}
}

func newline() []byte { return []byte{'\n'} }

func (s *server) createGuest(c *gin.Context) {
	g := &mistify.Guest{}
	given, ok := s.optional(c, g)
	if !ok {
		return
	}
	if !given {
		s.fail(c, invalid("there is no body: send the guest as JSON"))
		return
	}
	if g.ID == "" {
		g.ID = newID()
	}
	if err := g.Validate(); err != nil {
		s.fail(c, err)
		return
	}
	g.ID = strings.ToLower(g.ID)
	s.order(c, order{action: "create", guest: g.ID, given: g, known: mustNot})
}

// act queues an action of a guest that is known.
func (s *server) act(name string) gin.HandlerFunc {
	return func(c *gin.Context) {
		if id, ok := s.guestID(c); ok {
			s.order(c, order{action: name, guest: id})
		}
	}
}

// actOn queues an action of a guest that stands in the body.
func (s *server) actOn(name string, k knowledge) gin.HandlerFunc {
	return func(c *gin.Context) {
		id, ok := s.guestID(c)
		if !ok {
			return
		}
		g := &mistify.Guest{}
		given, ok := s.optional(c, g)
		if !ok {
			return
		}
		o := order{action: name, guest: id, known: k}
		if given {
			if g.ID == "" {
				g.ID = id
			}
			if err := g.Validate(); err != nil {
				s.fail(c, err)
				return
			}
			if !strings.EqualFold(g.ID, id) {
				s.fail(c, invalid("the guest in the body is %s, and the one in the path is %s", g.ID, id))
				return
			}
			o.given = g
		}
		s.order(c, o)
	}
}

// order queues an action of a guest and answers with the guest.
func (s *server) order(c *gin.Context, o order) {
	st, g, err := s.a.submit(c.Request.Context(), o)
	if err != nil {
		s.fail(c, err)
		return
	}
	c.Header(mistify.HeaderJob, st.ID)
	if g == nil { // a guest that is not known, and stays so
		s.write(c, http.StatusAccepted, o.given.Shown())
		return
	}
	s.raw(c, http.StatusAccepted, g.answer(), newline())
}

// orderJob queues an action and answers with its job.
func (s *server) orderJob(c *gin.Context, o order) {
	st, _, err := s.a.submit(c.Request.Context(), o)
	if err != nil {
		s.fail(c, err)
		return
	}
	c.Header(mistify.HeaderJob, st.ID)
	s.write(c, http.StatusAccepted, st.Job)
}

func (s *server) guestMetadata(c *gin.Context) {
	known, ok := s.known(c)
	if !ok {
		return
	}
	g, err := known.decode()
	if err == nil && g.Metadata == nil {
		g.Metadata = map[string]string{}
	}
	if err != nil {
		s.fail(c, err)
		return
	}
	s.write(c, http.StatusOK, g.Metadata)
}

func (s *server) patchGuestMetadata(c *gin.Context) {
	id, ok := s.guestID(c)
	if !ok {
		return
	}
	patch := mistify.MetadataPatch{}
	if !s.body(c, &patch) {
		return
	}
	meta, err := s.a.patchMetadata(c.Request.Context(), id, patch)
	s.answer(c, meta, err)
}

func (s *server) hostMetadata(c *gin.Context) { s.write(c, http.StatusOK, s.a.store.metadata()) }

func (s *server) patchHostMetadata(c *gin.Context) {
	patch := mistify.MetadataPatch{}
	if !s.body(c, &patch) {
		return
	}
	meta, err := s.a.patchHost(c.Request.Context(), patch)
	s.answer(c, meta, err)
}

// limit is how many jobs are asked for, or an answer was given.
func (s *server) limit(c *gin.Context) (int, bool) {
	text, given := c.GetQuery("limit")
	if !given || text == "" {
		return s.a.cfg.KeepJobs, true
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		s.fail(c, invalid("limit=%.32q is no whole number", text))
		return 0, false
	}
	return max(n, 0), true
}

func (s *server) listJobs(c *gin.Context) {
	if n, ok := s.limit(c); ok {
		s.write(c, http.StatusOK, s.a.store.latest("", n))
	}
}

func (s *server) guestJobs(c *gin.Context) {
	g, ok := s.known(c)
	if !ok {
		return
	}
	if n, ok := s.limit(c); ok {
		s.write(c, http.StatusOK, s.a.store.latest(g.id, n))
	}
}

func (s *server) getJob(c *gin.Context) { s.oneJob(c, "") }

// guestJob is there as long as the job is, so that whoever deletes a guest can
// look at how it ended.
func (s *server) guestJob(c *gin.Context) {
	if id, ok := s.guestID(c); ok {
		s.oneJob(c, id)
	}
}

// maxWait bounds how long a request waits for a job.
const maxWait = 10 * time.Minute

// oneJob answers with a job, of this guest if one is named.
func (s *server) oneJob(c *gin.Context, guest string) {
	id, err := mistify.ParseJobID(param(c, "job"))
	if err != nil {
		s.fail(c, err)
		return
	}
	st := s.a.store.job(id)
	if st == nil || guest != "" && st.GuestID != guest {
		s.fail(c, notFound("there is no job %s", id))
		return
	}
	if text := c.Query("wait"); text != "" {
		wait, err := component.ParseDuration(text)
		if err != nil || wait < 0 {
			s.fail(c, invalid("wait=%.32q is no length of time: write 30s", text))
			return
		}
		if st = s.wait(c, st, min(wait, maxWait)); st == nil {
			s.fail(c, notFound("there is no job %s any more", id))
			return
		}
	}
	s.write(c, http.StatusOK, st.Job)
}

// wait waits for a job's end, for the time given, or until the server stops.
func (s *server) wait(c *gin.Context, st *state, d time.Duration) *state {
	if st.Status.Ended() || d == 0 {
		return st
	}
	within(c, d)
	ctx, cancel := context.WithTimeout(c.Request.Context(), d)
	defer cancel()
	return s.a.store.await(ctx, st.ID, s.a.deps.Draining)
}

func (s *server) healthz(c *gin.Context) {
	select {
	case <-s.a.store.failed:
		s.refuse(c, http.StatusServiceUnavailable, errClosed)
	default:
		s.write(c, http.StatusOK, struct{}{})
	}
}

func (s *server) pprof(c *gin.Context) {
	within(c, 5*time.Minute)
	switch name := strings.TrimPrefix(strings.TrimPrefix(c.FullPath(), "/debug/pprof"), "/"); name {
	case "":
		pprof.Index(c.Writer, c.Request)
	case "cmdline":
		pprof.Cmdline(c.Writer, c.Request)
	case "symbol":
		pprof.Symbol(c.Writer, c.Request)
	case "profile":
		pprof.Profile(c.Writer, c.Request)
	case "trace":
		pprof.Trace(c.Writer, c.Request)
	default:
		pprof.Handler(name).ServeHTTP(c.Writer, c.Request)
	}
}
