package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/vagoth/vagoth/virt/mistify"
)

// recover decides about the jobs that ran when the agent was stopped.
func (a *Agent) recover(ctx context.Context) error {
	c := &change{}
	waiting := 0
	for _, st := range a.store.unended() {
		if st.Status != mistify.JobRunning {
			waiting++
			continue
		}
		next := a.interrupted(st)
		a.log.Warn("agent: a job ran when the agent was stopped", "job", st.ID, "guest", st.GuestID, "action", st.Action, "stage", st.Stage, "now", next.Status, "trail", st.Trail)
		c.jobs = append(c.jobs, next)
	}
	if waiting > 0 {
		a.log.Info("agent: jobs wait from before", "jobs", waiting)
	}
	if len(c.jobs) == 0 {
		return nil
	}
	if err := a.store.do(ctx, c); err != nil {
		return fmt.Errorf("cannot settle the jobs that ran when the agent was stopped: %w", err)
	}
	return nil
}

// interrupted is a job whose stage was begun and whose outcome nobody knows: it
// is done again if that does no harm, and otherwise it is an error.
func (a *Agent) interrupted(st *state) *state {
	next := *st
	next.UpdatedAt = since(a.now())
	p := a.actions[st.Action]
	at, there := p.now(st)
	if there && st.Undo != nil {
		a.undoAgain(&next, errors.New("the agent was stopped while it ran"))
		return &next
	}
	if there && at.Idempotent && st.Attempt <= a.cfg.MaxRetries {
		next.Status, next.Attempt = mistify.JobQueued, st.Attempt+1
		next.Message = fmt.Sprintf("the agent was stopped while stage %s ran: it is done again", st.Stage)
		return &next
	}
	err := fmt.Errorf("the agent was stopped while stage %s ran: whether it was done is not known, look", st.Stage)
	if !there {
		next.fail(err)
		return &next
	}
	a.failed(nil, p, &next, err)
	return &next
}
