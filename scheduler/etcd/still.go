package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vagoth/vagoth/internal/journal"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/scheduler/engine"
)

// Still is what is stored in etcd, held for a copy, a scheduler.Store: it stands there as the manager
// that leads, so that no other begins meanwhile.
type Still struct {
	*engine.Still
	s       *Scheduler
	session *session
	keeping sync.WaitGroup
}

// OpenStill opens what is stored in etcd, for a copy. Managers that have it open are
// waited for as long as for another process's lock.
func OpenStill(ctx context.Context, cfg Config, deps scheduler.Deps) (*Still, error) {
	st, n, err := reach(cfg)
	if err == nil {
		var s *Still
		if s, err = openStill(ctx, cfg, deps, st, n); err == nil {
			return s, nil
		}
	}
	return nil, fmt.Errorf("cannot open what the scheduler has on etcd %v: %w", cfg.Endpoints, err)
}

// openStill opens it over a store, which it closes also if it fails.
func openStill(ctx context.Context, cfg Config, deps scheduler.Deps, st store, n network) (*Still, error) {
	x := &Still{s: &Scheduler{cfg: cfg, deps: deps, log: deps.Log, st: st, keys: newLayout(cfg.Prefix), net: n, address: copying}}
	if x.s.log == nil {
		x.s.log = slog.New(slog.DiscardHandler)
	}
	if err := x.begin(ctx); err != nil {
		return nil, errors.Join(err, x.Close())
	}
	return x, nil
}

func (x *Still) begin(ctx context.Context) (err error) {
	s := x.s
	if x.session, err = s.newSession(context.WithoutCancel(ctx)); err != nil {
		return err
	}
	x.keeping.Go(func() { x.session.keep(s.st) })
	term, err := x.alone(ctx)
	if err != nil {
		return err
	}
	log := &etcdLog{st: s.st, keys: s.keys, term: term, lease: x.session.lease, alive: x.session.alive}
	x.Still, err = engine.OpenStill(ctx, s.cfg.Queueing, engine.Ground{Open: func(ctx context.Context, load journal.Loader) (engine.Log, error) {
		return log, log.load(ctx, load)
	}})
	return err
}

// copying stands in the place of an address while a copy is made.
const copying = "a copy of its jobs"

// text names a member for people.
func (m member) text() string {
	if m.Address == copying {
		return "a copy is being made of it, or into it, on " + m.Host
	}
	return fmt.Sprintf("a manager on %s at %s", m.Host, m.Address)
}

// alone leads when nobody else is there, and gives the term.
func (x *Still) alone(ctx context.Context) (int64, error) {
	s, v := x.s, x.session
	for deadline := time.Now().Add(s.deps.LockWait); ; {
		seen, err := s.look(ctx)
		if err != nil {
			return 0, err
		}
		var others []string
		for name, m := range seen.members {
			if name != v.name {
				others = append(others, m.text())
			}
		}
		slices.Sort(others)
		switch {
		case seen.leader.Name == v.name:
			return seen.term, nil
		case len(others) == 0 && seen.leader.Name == "":
			if err = s.campaign(v); err == nil {
				continue
			}
		case len(others) == 0:
			others = []string{"a manager that leads"}
		}
		switch {
		case time.Until(deadline) > 0:
		case err != nil:
			return 0, err
		default:
			return 0, fmt.Errorf("others have it open: %s: end them first (what was killed is forgotten after [scheduler] session)", strings.Join(others[:min(len(others), 5)], ", "))
		}
		if !sleep(ctx, min(100*time.Millisecond, time.Until(deadline))) {
			return 0, ctx.Err()
		}
		if v.alive.Err() != nil {
			return 0, context.Cause(v.alive)
		}
	}
}

// Close implements scheduler.Store: managers may begin again.
func (x *Still) Close() error {
	var err error
	if v := x.session; v != nil {
		v.end(context.Canceled)
		x.keeping.Wait()
		err = x.s.st.Revoke(context.Background(), v.lease)
	}
	return errors.Join(err, x.s.st.Close())
}
