package spin

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// attempts knows the attempts in the hands of agents by their uuid.
type attempts struct {
	s     Scheduler
	lease time.Duration
	now   func() time.Time

	mu    sync.Mutex
	known map[uuid.UUID]scheduler.Hold
	queue []due // by time: leases are of one length
	first int   // of queue

	find  sync.Mutex // held while the running jobs are listed
	found bool       // they were; guarded by find
}

// due is when an attempt is looked at again if nobody completed it.
type due struct {
	id uuid.UUID
	at time.Time
}

func newAttempts(s Scheduler, lease time.Duration, now func() time.Time) *attempts {
	return &attempts{s: s, lease: lease, now: now, known: map[uuid.UUID]scheduler.Hold{}}
}

// attemptID is the uuid of an attempt. The same job and token always give the
// same.
func attemptID(h scheduler.Hold) uuid.UUID {
	b := make([]byte, 0, 80)
	b = binary.BigEndian.AppendUint64(b, h.Token.Epoch)
	b = binary.BigEndian.AppendUint64(b, h.Token.Number)
	b = append(b, h.Job...)
	return uuid.NewSHA1(namespace(), b)
}

// namespace sets these uuids apart from all others.
func namespace() uuid.UUID {
	return uuid.UUID{0x6d, 0x1f, 0x0a, 0x52, 0x3c, 0x8e, 0x4b, 0x90, 0xa7, 0x35, 0x71, 0xc4, 0x5e, 0x09, 0xd8, 0x26}
}

// add remembers an attempt that was handed out.
func (a *attempts) add(ctx context.Context, h scheduler.Hold) uuid.UUID {
	id := attemptID(h)
	a.mu.Lock()
	a.put(id, h)
	old, ok := a.overdue()
	a.compact()
	a.mu.Unlock()
	if ok {
		a.check(ctx, old)
	}
	return id
}

// put is for the holder of mu.
func (a *attempts) put(id uuid.UUID, h scheduler.Hold) {
	a.known[id] = h
	a.queue = append(a.queue, due{id, a.now().Add(a.lease)})
}

// overdue takes the oldest attempt out of the queue whose time has come. It is
// for the holder of mu. What was completed falls out on the way.
func (a *attempts) overdue() (due, bool) {
	for a.first < len(a.queue) {
		d := a.queue[a.first]
		_, open := a.known[d.id]
		if open && a.now().Before(d.at) {
			break
		}
		a.first++
		if open {
			return d, true
		}
	}
	return due{}, false
}

// compact drops what was completed from the queue once that is most of it: a
// long command at its head keeps the others from falling out. It is for the
// holder of mu.
func (a *attempts) compact() {
	if len(a.queue) < 1024+2*len(a.known) {
		return
	}
	kept := a.queue[:0]
	for _, d := range a.queue[a.first:] {
		if _, open := a.known[d.id]; open {
			kept = append(kept, d)
		}
	}
	a.queue, a.first = kept, 0
}

// check forgets an attempt that is over, and keeps one that is not: its lease
// may have been prolonged. One is checked for each that is added, so that the
// memory is bounded by what is running.
func (a *attempts) check(ctx context.Context, d due) {
	a.mu.Lock()
	h, ok := a.known[d.id]
	a.mu.Unlock()
	if !ok {
		return
	}
	st, err := a.s.Status(ctx, h.Job)
	over := errors.Is(err, scheduler.ErrNotFound) || err == nil && (st.State != scheduler.Running || st.Token != h.Token)
	a.mu.Lock()
	defer a.mu.Unlock()
	if over {
		delete(a.known, d.id)
		return
	}
	if _, ok := a.known[d.id]; ok {
		a.put(d.id, h)
	}
}

// get returns what a uuid stands for. One that is unknown may be older than this
// process: then the running jobs are looked through, once.
func (a *attempts) get(ctx context.Context, id uuid.UUID) (scheduler.Hold, bool, error) {
	a.mu.Lock()
	h, ok := a.known[id]
	a.mu.Unlock()
	if ok {
		return h, true, nil
	}
	if err := a.recover(ctx); err != nil {
		return scheduler.Hold{}, false, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	h, ok = a.known[id]
	return h, ok, nil
}

// recover fills in the attempts that run, if nobody did yet.
func (a *attempts) recover(ctx context.Context) error {
	a.find.Lock()
	defer a.find.Unlock()
	if a.found {
		return nil
	}
	for st, err := range a.s.List(ctx, scheduler.Filter{States: []scheduler.State{scheduler.Running}}) {
		if err != nil {
			return fmt.Errorf("cannot look through the running commands: %w", err)
		}
		if st.Worker == "" || st.Token == (trail.Token{}) {
			continue // of a worker inside
		}
		h := scheduler.Hold{Job: st.ID, Token: st.Token}
		id := attemptID(h)
		a.mu.Lock()
		if _, ok := a.known[id]; !ok {
			a.put(id, h)
		}
		a.mu.Unlock()
	}
	a.found = true
	return nil
}

// done forgets an attempt.
func (a *attempts) done(id uuid.UUID) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.known, id)
}
