package manager

import (
	"context"
	"errors"
	"fmt"

	"github.com/vagoth/vagoth/scheduler"
)

// work begins to run what is submitted through m. Close ends it first, while
// the components that jobs need are still open, and returns the error with which
// it ended before that, if it did.
func (m *Manager) work(ctx context.Context) {
	r, ok := m.Scheduler.(scheduler.Runner)
	if !ok {
		return
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx)) // ctx is for opening
	done := make(chan error, 1)
	go func() {
		err := r.Run(ctx, scheduler.RunOptions{Submitted: true})
		if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
			err = nil // that is how it is ended
		}
		if err != nil {
			err = fmt.Errorf("the jobs submitted here were not run to their end: %w", err)
		}
		done <- err
	}()
	m.opened("the workers", func() error {
		cancel()
		return <-done
	})
}
