package agent

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// ask calls the stages of an info action, one after the other, each with a
// deadline in which it also has to get its place. There are no more than
// max_info of them at once for one guest, or for the host.
func (a *Agent) ask(ctx context.Context, who string, p *pipeline, call func(ctx context.Context, at step) error) error {
	leave, err := a.info.enterSoon(ctx, who, a.cfg.InfoTimeout)
	if err != nil {
		return a.late(ctx, err, "%d questions about %s are being answered already", a.cfg.MaxInfo, who)
	}
	defer leave()
	for _, at := range p.stages {
		if err := a.askOne(ctx, at, call); err != nil {
			return err
		}
	}
	return nil
}

func (a *Agent) askOne(ctx context.Context, at step, call func(ctx context.Context, at step) error) error {
	ctx, cancel := context.WithTimeout(ctx, a.timeout(at))
	defer cancel()
	if err := at.service.acquire(ctx); err != nil {
		return a.late(ctx, err, "the sub-agent %s is being asked %d times already (max_pending), and no place became free in time", at.Service, cap(at.service.places))
	}
	return call(ctx, at)
}

func (a *Agent) timeout(at step) time.Duration {
	if at.service.timeout > 0 {
		return at.service.timeout
	}
	return a.cfg.InfoTimeout
}

// late is an error of who waited in vain; of one who went away it is that.
func (a *Agent) late(ctx context.Context, err error, format string, args ...any) error {
	if errors.Is(ctx.Err(), context.Canceled) {
		return err
	}
	return tooMany(format, args...)
}

// measure and measured are mistify.GuestMetricsRequest and its response with the
// guest as it is stored, and without the one that is answered: neither is read.
type (
	measure struct {
		Guest json.RawMessage   `json:"guest"`
		Type  string            `json:"type"`
		Args  map[string]string `json:"args,omitempty"`
	}
	measured struct {
		kind string // the one that is read

		Disk map[string]mistify.DiskMetrics `json:"disk"`
		NIC  map[string]mistify.NICMetrics  `json:"nic"`
		CPU  []mistify.CPUMetrics           `json:"cpu"`
	}
)

// Pick has only the kind read that was asked for; most of the rest is the guest.
func (m *measured) Pick(name string) any {
	switch {
	case !strings.EqualFold(name, m.kind):
		return nil
	case m.kind == mistify.MetricsDisk:
		return &m.Disk
	case m.kind == mistify.MetricsNIC:
		return &m.NIC
	}
	return &m.CPU
}

// metrics answers with one kind of a guest's metrics.
func (s *server) metrics(kind string) gin.HandlerFunc {
	return func(c *gin.Context) {
		known, ok := s.known(c)
		if !ok {
			return
		}
		p, err := s.a.pipeline(known.kind, kind+"Metrics")
		if err != nil {
			s.fail(c, err)
			return
		}
		within(c, s.a.cfg.InfoTimeout*time.Duration(len(p.stages)+1))
		all := mistify.GuestMetricsResponse{Disk: map[string]mistify.DiskMetrics{}, NIC: map[string]mistify.NICMetrics{}, CPU: []mistify.CPUMetrics{}}
		// The guests of all types have one pipeline: a sub-agent that has none of this
		// one leaves it to the others.
		answered, unknown := false, error(nil)
		err = s.a.ask(c.Request.Context(), known.id, p, func(ctx context.Context, at step) error {
			one := measured{kind: kind}
			req := measure{Guest: known.data, Type: kind, Args: at.Args}
			if err := at.service.call(ctx, s.a.cfg.InfoTimeout, at.Method, &req, &one); errors.Is(err, virt.ErrNotFound) {
				unknown = err
				return nil
			} else if err != nil {
				return err
			}
			answered = true
			maps.Copy(all.Disk, one.Disk)
			maps.Copy(all.NIC, one.NIC)
			all.CPU = append(all.CPU, one.CPU...)
			return nil
		})
		if err == nil && !answered {
			err = unknown
		}
		switch kind {
		case mistify.MetricsCPU:
			s.answer(c, all.CPU, err)
		case mistify.MetricsDisk:
			s.answer(c, all.Disk, err)
		default:
			s.answer(c, all.NIC, err)
		}
	}
}

// status answers with what the sub-agents see now. A sub-agent that fails makes
// the listing incomplete, and is named.
func (s *server) status(c *gin.Context) {
	p := s.a.actions["status"]
	if p == nil {
		s.fail(c, &UnconfiguredError{Action: "status", Addition: true})
		return
	}
	req := mistify.StatusRequest{}
	if id := c.Query("id"); id != "" {
		var err error
		if req.ID, err = mistify.ParseGuestID(id); err != nil {
			s.fail(c, err)
			return
		}
	}
	within(c, 2*s.a.cfg.InfoTimeout)
	answer, err := s.a.look(c.Request.Context(), p, req)
	s.answer(c, answer, err)
}

// look asks all sub-agents for what they see, side by side.
func (a *Agent) look(ctx context.Context, p *pipeline, req mistify.StatusRequest) (mistify.Status, error) {
	leave, err := a.info.enterSoon(ctx, hostQueue, a.cfg.InfoTimeout)
	if err != nil {
		return mistify.Status{}, a.late(ctx, err, "%d questions about the host are being answered already", a.cfg.MaxInfo)
	}
	defer leave()
	seen, errs := make([]mistify.StatusResponse, len(p.stages)), make([]error, len(p.stages))
	var work sync.WaitGroup
	for i, at := range p.stages {
		work.Go(func() {
			one := req
			one.Args = at.Args
			errs[i] = a.askOne(ctx, at, func(ctx context.Context, at step) error {
				return at.service.call(ctx, a.cfg.InfoTimeout, at.Method, &one, &seen[i])
			})
		})
	}
	work.Wait()
	if err := ctx.Err(); err != nil {
		return mistify.Status{}, err
	}
	return a.merged(p, req, seen, errs), nil
}

// maxSeen bounds a listing.
const maxSeen = 100_000

func (a *Agent) merged(p *pipeline, req mistify.StatusRequest, seen []mistify.StatusResponse, errs []error) mistify.Status {
	all := mistify.Status{Complete: true, Guests: []mistify.Seen{}, Version: a.deps.Version, Actions: slices.Sorted(maps.Keys(a.actions))}
	by := map[string]bool{}
	doubt := func(format string, args ...any) {
		all.Complete = false
		all.Problems = append(all.Problems, clip(fmt.Sprintf(format, args...)))
	}
	for i, one := range seen {
		at := p.stages[i]
		if errs[i] != nil {
			doubt("stage %s: %v", at.text, errs[i])
			continue
		}
		if !one.Complete {
			doubt("stage %s: the sub-agent %s says that it does not see all", at.text, at.Service)
		}
		all.Capacity = widest(all.Capacity, one.Capacity)
		for _, g := range one.Guests {
			id, err := mistify.ParseGuestID(g.ID)
			if err != nil {
				id = g.ID // a stranger may be called anything
			}
			switch {
			case req.ID != "" && id != req.ID || by[id] && id != "":
				continue
			case len(g.ID) > 255 || len(g.Name) > 1024 || len(all.Guests) >= maxSeen:
				doubt("stage %s: the sub-agent %s lists guests with names that are too long, or more than %d", at.text, at.Service, maxSeen)
				continue
			}
			by[id] = true
			g.ID, g.Stranger = id, a.store.guest(id) == nil
			all.Guests = append(all.Guests, g)
		}
	}
	return all
}

// widest takes the larger of what two sub-agents know.
func widest(a, b virt.Capacity) virt.Capacity {
	return virt.Capacity{CPU: max(a.CPU, b.CPU), Memory: max(a.Memory, b.Memory), Disk: max(a.Disk, b.Disk)}
}
