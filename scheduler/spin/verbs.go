package spin

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/vagoth/vagoth/internal/leanserver"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// source is what the trail of these jobs names, and worker who has them.
const (
	source = "spin"
	worker = "spin-agent"
)

// maxReason bounds what is kept of an agent's reason, in bytes.
const maxReason = 4 << 10

// new makes a package.
func (h *handler) new(w http.ResponseWriter, r *http.Request, _ string) error {
	p, err := h.s.NewPackage(trail.With(r.Context(), trail.New(source, "")), scheduler.Package{})
	if err != nil {
		return err
	}
	writeString(w, p.ID)
	return nil
}

// add adds a command to a package.
func (h *handler) add(w http.ResponseWriter, r *http.Request, id string) error {
	var c command
	if err := readBody(w, r, &c); err != nil {
		return err
	}
	j, err := c.job(id)
	if err != nil {
		return err
	}
	ids, err := h.addOne(trail.With(r.Context(), trail.Trail{Source: source}), id, j)
	switch {
	case errors.Is(err, scheduler.ErrInvalid):
		return h.explain(r.Context(), c.Resource, err)
	case err != nil:
		return err
	case len(ids) != 1:
		return fmt.Errorf("one command was added to package %s, and the scheduler named %d", id, len(ids))
	}
	writeString(w, ids[0])
	return nil
}

// addOne adds j, also when others add to the package at the same moment: a
// scheduler may refuse that, and then they come one after the other.
func (h *handler) addOne(ctx context.Context, id string, j scheduler.Job) ([]string, error) {
	ids, err := h.s.AddJobs(ctx, id, j)
	if !errors.Is(err, scheduler.ErrConflict) {
		return ids, err
	}
	h.adding.Lock()
	defer h.adding.Unlock()
	for range maxAdds {
		p, perr := h.s.Package(ctx, id)
		if perr != nil || p.State != scheduler.Building {
			return nil, err
		}
		if ids, err = h.s.AddJobs(ctx, id, j); !errors.Is(err, scheduler.ErrConflict) {
			return ids, err
		}
	}
	return nil, err
}

// maxAdds is how often a command is tried to be added beside others.
const maxAdds = 50

// explain adds to a refusal that the queue is not one of agents, since then only
// the actions of the manager itself are known.
func (h *handler) explain(ctx context.Context, queue string, err error) error {
	if qi, ok := h.s.(scheduler.QueueInspector); ok {
		if q, qerr := qi.Queue(ctx, queue); qerr == nil && !q.Remote {
			return fmt.Errorf("%w (the queue %q is not left to agents: set remote = yes in [queue.%s])", err, queue, queue)
		}
	}
	return err
}

// enqueue queues a package. One without commands is as good as done, so there is
// nothing to queue.
func (h *handler) enqueue(w http.ResponseWriter, r *http.Request, id string) error {
	list, err := h.s.Enqueue(trail.With(r.Context(), trail.Trail{Source: source}), id)
	if errors.Is(err, scheduler.ErrInvalid) {
		if p, perr := h.s.Package(r.Context(), id); perr == nil && len(p.Jobs) == 0 {
			list, err = nil, nil
		}
	}
	if err != nil {
		return err
	}
	writeBody(w, http.StatusOK, func(b []byte) []byte {
		b = append(b, '[')
		for i := range list {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(b, list[i].ID)
		}
		return append(b, ']')
	})
	return nil
}

// status tells how a package ended: a failure at once, a success at the end.
func (h *handler) status(w http.ResponseWriter, r *http.Request, id string) error {
	p, err := h.s.Package(r.Context(), id)
	if err != nil {
		return err
	}
	if p.Counts[scheduler.Failed]+p.Counts[scheduler.Cancelled]+p.Counts[scheduler.Expired] > 0 {
		reason, causer, err := h.blame(r.Context(), p)
		if err != nil {
			return err
		}
		writeBody(w, http.StatusOK, func(b []byte) []byte {
			b = appendString(append(b, `{"status":false,"reason":`...), reason)
			b = appendString(append(b, `,"causer":`...), causer)
			return append(b, '}')
		})
		return nil
	}
	if p.State != scheduler.Ended && len(p.Jobs) > 0 {
		return notFound("package %s is not done: %s", id, progress(p))
	}
	writeBody(w, http.StatusOK, func(b []byte) []byte { return append(b, `{"status":true}`...) })
	return nil
}

func progress(p scheduler.PackageStatus) string {
	if p.State == scheduler.Building {
		return "it is not enqueued"
	}
	return fmt.Sprintf("%d of %d commands succeeded", p.Counts[scheduler.Succeeded], len(p.Jobs))
}

// blame finds the first command that did not succeed, and was not itself ended by
// the end of another.
func (h *handler) blame(ctx context.Context, p scheduler.PackageStatus) (reason, causer string, err error) {
	for _, id := range p.Jobs {
		st, err := h.s.Status(ctx, id)
		if err != nil {
			return "", "", err
		}
		if !st.State.Ended() || st.State == scheduler.Succeeded {
			continue
		}
		reason, causer = st.Error, st.ID
		if reason == "" {
			reason = string(st.State)
		}
		if st.Cause == "" {
			break
		}
		causer = st.Cause
	}
	return reason, causer, nil
}

// next hands out a command, or says at once that there is none.
func (h *handler) next(w http.ResponseWriter, r *http.Request, queue string) error {
	list, err := h.s.Next(r.Context(), scheduler.Want{Worker: worker, Queues: []string{queue}, Max: 1, Lease: scheduler.Span(h.lease)})
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return notFound("there is no command for %q now", queue)
	}
	l := &list[0]
	if leanserver.Left(r) { // who asked is gone, and would keep the command for the whole lease
		return errors.Join(context.Canceled, h.s.HandBack(context.WithoutCancel(r.Context()), l.Hold, "the agent did not wait for the answer"))
	}
	id := h.attempts.add(r.Context(), l.Hold)
	writeBody(w, http.StatusOK, func(b []byte) []byte {
		b = appendString(append(b, `{"uuid":`...), id.String())
		b = appendString(append(b, `,"resource":`...), l.Queue)
		b = appendString(append(b, `,"action":`...), l.Action)
		if !l.Params.IsEmpty() {
			b = append(append(b, `,"parameters":`...), l.Params.String()...)
		}
		return append(b, '}')
	})
	return nil
}

// complete ends an attempt.
func (h *handler) complete(w http.ResponseWriter, r *http.Request, _ string) error {
	var c completion
	if err := readBody(w, r, &c); err != nil {
		return err
	}
	switch {
	case c.ID == nil:
		return missing("id")
	case c.Status == nil:
		return missing("status")
	}
	id, err := uuid.Parse(*c.ID)
	if err != nil {
		return notFound("%.64q is no uuid that next gave out", *c.ID)
	}
	hold, ok, err := h.attempts.get(r.Context(), id)
	if err != nil {
		return err
	}
	if !ok {
		return notFound("no attempt %s is running: its lease has ended, or it was completed already", id)
	}
	end := scheduler.Completion{Hold: hold}
	if !*c.Status {
		end.Error = reasonOf(c.Reason)
	}
	_, errs := h.s.Complete(r.Context(), end)
	switch {
	case len(errs) != 1:
		return fmt.Errorf("one command was completed, and the scheduler answered for %d", len(errs))
	case errors.Is(errs[0], scheduler.ErrStale), errors.Is(errs[0], scheduler.ErrNotFound):
		h.attempts.done(id)
		return notFound("no attempt %s is running: its lease has ended", id)
	case errs[0] != nil:
		return errs[0]
	}
	h.attempts.done(id)
	w.WriteHeader(http.StatusOK)
	return nil
}

// reasonOf is the agent's reason, cut to what is kept.
func reasonOf(s *string) string {
	if s == nil || strings.TrimSpace(*s) == "" {
		return "the agent gave no reason"
	}
	reason := strings.ToValidUTF8(*s, "�")
	if len(reason) > maxReason {
		cut := maxReason
		for !utf8.RuneStart(reason[cut]) {
			cut--
		}
		reason = reason[:cut] + "…"
	}
	return reason
}

// job is what the scheduler is asked to add.
func (c *command) job(pack string) (scheduler.Job, error) {
	switch {
	case c.Resource == "":
		return scheduler.Job{}, missing("resource")
	case c.Action == "":
		return scheduler.Job{}, missing("action")
	case c.ID != "" && c.ID != pack:
		return scheduler.Job{}, invalid("the body is for package %.64q, the path for %.64q", c.ID, pack)
	}
	j := scheduler.Job{Queue: c.Resource, Action: c.Action}
	for _, id := range c.Dependencies {
		j.After = append(j.After, scheduler.Dependency{ID: id})
	}
	if len(c.Parameters) > 0 && string(c.Parameters) != "null" {
		doc, err := registry.ParseDocument(c.Parameters)
		if err != nil {
			return scheduler.Job{}, invalid("parameters: %v", err)
		}
		j.Params = doc
	}
	return j, nil
}
