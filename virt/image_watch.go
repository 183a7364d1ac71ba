package virt

import (
	"context"
	"time"
)

// WatchFetch has progress told how far a fetch is, until stop has returned: every
// so often look is asked for the bytes that are done and that there are (0 if that
// is not known), and whether the fetch is under way. What is no more than before is
// not told. It does nothing if progress is nil.
func WatchFetch(ctx context.Context, every time.Duration, look func(context.Context) (done, total int64, under bool), progress func(done, total int64)) (stop func()) {
	if progress == nil {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(every)
		defer tick.Stop()
		last := int64(0)
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if done, total, under := look(ctx); under && done > last && ctx.Err() == nil {
				last = done
				progress(done, max(0, total))
			}
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}
