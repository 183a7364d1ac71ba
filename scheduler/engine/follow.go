package engine

import (
	"context"
	"fmt"

	"github.com/vagoth/vagoth/scheduler"
)

// LogAfter implements scheduler.LogFollower.
func (b *Engine) LogAfter(ctx context.Context, id string, after int) (scheduler.LogPart, error) {
	if after < 0 {
		return scheduler.LogPart{}, fmt.Errorf("%w: the lines after line %d: count from 0", scheduler.ErrInvalid, after)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	j, err := b.find(id)
	if err != nil {
		return scheduler.LogPart{}, err
	}
	for {
		if part := j.logAfter(after); len(part.Lines) > 0 || part.State.Ended() || part.State == scheduler.Parked || ctx.Err() != nil {
			return part, nil
		}
		if b.closed {
			return scheduler.LogPart{}, fmt.Errorf("job %s has not ended yet: %w", id, scheduler.ErrClosed)
		}
		more := b.logs[j]
		if more == nil {
			more = make(chan struct{})
			b.logs[j] = more
		}
		b.mu.Unlock()
		select {
		case <-more:
		case <-ctx.Done():
		}
		b.mu.Lock()
	}
}

// logAfter is what there is now. Lines that a crash has taken back may be fewer
// than somebody has seen: then he goes on at the last one.
func (j *job) logAfter(after int) scheduler.LogPart {
	part := scheduler.LogPart{State: j.state.word()}
	if j.past == nil {
		return part
	}
	part.Next = len(j.past.lines)
	for _, l := range j.past.lines[min(after, part.Next):] {
		part.Lines = append(part.Lines, scheduler.Line{At: moment(l.at), Attempt: int(l.attempt), Text: l.text})
	}
	return part
}

// wakeLog lets those look again who follow the log of j.
func (b *Engine) wakeLog(j *job) {
	if more := b.logs[j]; more != nil {
		delete(b.logs, j)
		close(more)
	}
}
