package worker

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/vagoth/vagoth/scheduler"
)

// The breaks between tries: doubled each time, and a part at random, so that many
// workers do not come back at the same moment.
const (
	firstBreak = 100 * time.Millisecond
	maxBreak   = 15 * time.Second
)

// backoff counts tries that failed.
type backoff struct{ tries int }

// next is the time to wait after a try that failed with err.
func (b *backoff) next(err error) time.Duration {
	d := firstBreak << min(b.tries, 10)
	b.tries++
	d = min(d, maxBreak)
	d = d/2 + rand.N(d/2+1)
	var many *scheduler.TooManyError
	if errors.As(err, &many) {
		d = max(d, min(many.After, maxBreak))
	}
	return d
}

// sleep waits, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
