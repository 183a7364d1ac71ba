package manager

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sync/errgroup"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
)

// Run works until ctx ends, which is no error: the scheduler's own workers, if
// it has some, and the monitor's schedule. It returns when both have come to
// their end, with the first error that is not ctx's; such an error ends the
// other too, and so does a registry that takes nothing any more.
func (m *Manager) Run(ctx context.Context) error {
	g, inner := errgroup.WithContext(ctx)
	part := func(what string, run func(context.Context) error) {
		g.Go(func() error {
			err := run(inner)
			if err == nil || inner.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.Cause(inner))) {
				return nil
			}
			return fmt.Errorf("%s ended: %w", what, err)
		})
	}
	if r, ok := m.Scheduler.(scheduler.Runner); ok {
		part("the scheduler's work", func(ctx context.Context) error { return r.Run(ctx, scheduler.RunOptions{}) })
	}
	part("the monitor", m.Monitor.Run)
	if r, ok := m.Registry.(registry.Breaker); ok {
		part("the registry", r.Broken)
	}
	return g.Wait()
}
