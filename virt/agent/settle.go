package agent

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt/mistify"
)

// settled are the tokens for which guests were settled: whoever did so concludes where
// the guest is, and a migrate with the same token that is on its way still must not make
// that wrong. What was on its way to an agent that was stopped does not arrive at the
// next one, so nothing of this is kept on disk.
type settled struct {
	mu     sync.Mutex
	tokens map[string]trail.Token
	order  []string // the guests, the oldest first
}

// note remembers a token.
func (s *settled) note(id string, t trail.Token) {
	if t.IsZero() {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, had := s.tokens[id]; !had {
		if s.tokens == nil {
			s.tokens = map[string]trail.Token{}
		}
		s.order = append(s.order, id)
		if len(s.order) > keptFences {
			delete(s.tokens, s.order[0])
			s.order = s.order[1:]
		}
	}
	s.tokens[id] = t
}

// refuse refuses a token that is no higher than one that was noted.
func (s *settled) refuse(id string, t trail.Token) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, ok := s.tokens[id]; ok && !t.IsZero() && t.Compare(at) <= 0 {
		return fmt.Errorf("%w: the guest %s was settled with %s, and %s came too late: nothing was done", mistify.ErrFenced, id, at, t)
	}
	return nil
}

// settle makes a token the highest that was seen for a guest, so that nobody with a
// lower one is heard any more, and waits for what was queued before.
func (s *server) settle(c *gin.Context) {
	id, ok := s.guestID(c)
	if !ok {
		return
	}
	var wait time.Duration
	if text := c.Query("wait"); text != "" {
		var err error
		if wait, err = component.ParseDuration(text); err != nil || wait < 0 {
			s.fail(c, invalid("wait=%.32q is no length of time: write 30s", text))
			return
		}
	}
	jobs, err := s.a.fenceOff(c.Request.Context(), id)
	if err != nil {
		s.fail(c, err)
		return
	}
	within(c, min(wait, maxWait))
	ctx, cancel := context.WithTimeout(c.Request.Context(), min(wait, maxWait))
	defer cancel()
	left := 0
	for _, st := range jobs {
		if now := s.a.store.await(ctx, st.ID, s.a.deps.Draining); now != nil && !now.Status.Ended() {
			left++
		}
	}
	s.write(c, http.StatusOK, mistify.Settled{Jobs: left})
}

// fenceOff notes the token in the trail, and gives what is queued for the guest.
func (a *Agent) fenceOff(ctx context.Context, id string) ([]*state, error) {
	leave, err := a.locks.enter(ctx, id)
	if err != nil {
		return nil, err
	}
	defer leave()
	t := trail.From(ctx).Token
	f, err := a.fenced(id, t)
	if err != nil {
		return nil, err
	}
	if f != nil {
		if err := a.store.do(ctx, &change{fence: f}); err != nil {
			return nil, err
		}
	}
	a.settled.note(id, t)
	return a.store.waiting(id), nil
}

// migrate queues the move of a guest that runs.
func (s *server) migrate(c *gin.Context) {
	id, ok := s.guestID(c)
	if !ok {
		return
	}
	var r mistify.MigrateRequest
	if !s.body(c, &r) {
		return
	}
	if r.To == "" || len(r.To) > maxPeer {
		s.fail(c, invalid("to has %d bytes: name the libvirt URI of the host that the guest is to go to, of at most %d", len(r.To), maxPeer))
		return
	}
	s.order(c, order{action: mistify.ActionMigrate, guest: id, to: r.To})
}

// maxPeer bounds the address of another host.
const maxPeer = 1024
