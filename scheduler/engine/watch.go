package engine

import (
	"context"
	"fmt"
	"iter"
	"strconv"
	"strings"

	"github.com/vagoth/vagoth/scheduler"
)

// maxEvents is how many changes are kept for those who watch.
const maxEvents = 1 << 15

// events are the latest changes of jobs: who watches is told of a job as it is
// when it is read. They are not on disk; a cursor names the store and its epoch,
// so that one from before is known to be too old.
type events struct {
	name   string        // of store and epoch
	last   uint64        // of all changes
	ring   []*job        // change n stands at n modulo its length
	more   chan struct{} // closed at the next change; nil if nobody waits
	closed bool
}

func (e *events) begin(store string, epoch uint64) { e.name = fmt.Sprintf("%s.%d", store, epoch) }

func (e *events) add(j *job) {
	e.last++
	if len(e.ring) < maxEvents && uint64(len(e.ring)) < e.last {
		e.ring = append(e.ring, j)
	} else {
		e.ring[(e.last-1)%maxEvents] = j
	}
	e.wake()
}

func (e *events) wake() {
	if e.more != nil {
		close(e.more)
		e.more = nil
	}
}

func (e *events) close() {
	e.closed = true
	e.wake()
}

func (e *events) cursor(n uint64) string { return e.name + "." + strconv.FormatUint(n, 10) }

// parse reads a cursor.
func (e *events) parse(cursor string) (uint64, error) {
	i := strings.LastIndexByte(cursor, '.')
	if i < 0 || strings.Count(cursor, ".") != 2 {
		return 0, fmt.Errorf("%w: %.64q is no cursor: take one that an event had", scheduler.ErrInvalid, cursor)
	}
	n, err := strconv.ParseUint(cursor[i+1:], 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: %.64q is no cursor: take one that an event had", scheduler.ErrInvalid, cursor)
	}
	if cursor[:i] != e.name {
		return 0, fmt.Errorf("%w: the scheduler was opened again since: list the jobs and watch from now on", scheduler.ErrCompacted)
	}
	if n > e.last {
		return 0, fmt.Errorf("%w: %.64q is no cursor of this scheduler", scheduler.ErrInvalid, cursor)
	}
	return n, nil
}

// watchAtOnce is how many events are made with the engine locked.
const watchAtOnce = 64

// Cursor implements scheduler.Watcher.
func (b *Engine) Cursor(context.Context) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.events.cursor(b.events.last), nil
}

// Watch implements scheduler.Watcher.
func (b *Engine) Watch(ctx context.Context, cursor string, f scheduler.Filter) iter.Seq2[scheduler.Event, error] {
	b.mu.Lock()
	at := b.events.last
	var err error
	if cursor != "" {
		at, err = b.events.parse(cursor)
	}
	b.mu.Unlock()
	return func(yield func(scheduler.Event, error) bool) {
		if err != nil {
			yield(scheduler.Event{}, err)
			return
		}
		n := 0
		for from := at; ; {
			list, more, err := b.changes(&from, f)
			for _, e := range list {
				if !yield(e, nil) {
					return
				}
				if n++; f.Limit > 0 && n == f.Limit {
					return
				}
			}
			if err != nil {
				yield(scheduler.Event{}, err)
				return
			}
			if more == nil {
				if ctx.Err() == nil {
					continue
				}
				yield(scheduler.Event{}, ctx.Err())
				return
			}
			select {
			case <-more:
			case <-ctx.Done():
				yield(scheduler.Event{}, ctx.Err())
				return
			}
		}
	}
}

// changes lists some after *from, which it moves on; or gives what is closed when
// there are more.
func (b *Engine) changes(from *uint64, f scheduler.Filter) (list []scheduler.Event, more <-chan struct{}, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	e := &b.events
	if e.last-*from > maxEvents {
		return nil, nil, fmt.Errorf("%w: they were more than %d: list the jobs and watch from now on", scheduler.ErrCompacted, maxEvents)
	}
	for looks := 0; *from < e.last && len(list) < watchAtOnce && looks < 16*watchAtOnce; looks++ {
		j := e.ring[*from%maxEvents]
		*from++
		if b.matches(f, j) {
			list = append(list, scheduler.Event{Cursor: e.cursor(*from), Job: b.status(j)})
		}
	}
	switch {
	case *from < e.last || len(list) > 0:
		return list, nil, nil
	case e.closed:
		return nil, nil, scheduler.ErrClosed
	}
	if e.more == nil {
		e.more = make(chan struct{})
	}
	return nil, e.more, nil
}
