package agent

import (
	"context"
	"fmt"

	"github.com/gin-gonic/gin"

	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt/mistify"
)

// fenced refuses a token that is lower than one seen before, and gives the fence
// that is to be remembered, if it is another.
func (a *Agent) fenced(id string, token trail.Token) (*fence, error) {
	highest := a.store.token(id)
	switch {
	case token.IsZero() && a.cfg.RequireToken:
		return nil, fmt.Errorf("%w: this agent takes changes with a token only (require_token), in the header %s", mistify.ErrFenced, mistify.HeaderToken)
	case token.IsZero():
		return nil, nil
	case token.Compare(highest) < 0:
		return nil, fmt.Errorf("%w: the guest %s has seen %s, and %s is lower: somebody else was given it since; nothing was done", mistify.ErrFenced, id, highest, token)
	case token == highest:
		return nil, nil
	}
	return &fence{guest: id, token: token}, nil
}

// stale refuses a question that carries a token which is lower than one seen.
func (a *Agent) stale(ctx context.Context, id string) error {
	t := trail.From(ctx).Token
	if t.IsZero() {
		return nil
	}
	_, err := a.fenced(id, t)
	return err
}

func (s *server) resetFence(c *gin.Context) {
	id, ok := s.guestID(c)
	if !ok {
		return
	}
	s.answer(c, struct{}{}, s.a.FenceReset(c.Request.Context(), id))
}

// FenceReset forgets the highest token that was seen for a guest.
func (a *Agent) FenceReset(ctx context.Context, id string) error {
	id, err := mistify.ParseGuestID(id)
	if err != nil {
		return err
	}
	leave, err := a.locks.enter(ctx, id)
	if err != nil {
		return err
	}
	defer leave()
	old := a.store.token(id)
	if old.IsZero() && a.store.guest(id) == nil {
		return notFound("there is no guest %s", id)
	}
	if old.IsZero() {
		return nil
	}
	a.log.Warn("agent: the token of a guest is forgotten", "guest", id, "token", old.String(), "trail", trail.From(ctx))
	return a.store.do(ctx, &change{fence: &fence{guest: id}})
}
