package sim

import (
	"slices"
	"sync"
	"time"

	"github.com/vagoth/vagoth/trail"
)

// Call is one call that a host was sent.
type Call struct {
	At    time.Time // when it was sent
	Host  string
	Op    string // a method in lower case, or a power operation
	UUID  string // of the guest, if it is about one
	To    string // of a migrate
	Trail trail.Trail
	Err   error // what was answered
}

// ledger remembers the last calls, in the order in which they ended.
type ledger struct {
	mu    sync.Mutex
	limit int
	next  int // where the oldest is, once the ring is full
	ring  []Call
	total int
}

func (l *ledger) add(c Call) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total++
	switch {
	case l.limit == 0:
	case len(l.ring) < l.limit:
		l.ring = append(l.ring, c)
	default:
		l.ring[l.next] = c
		l.next = (l.next + 1) % l.limit
	}
}

// Calls returns the last calls, in the order in which they ended: as many as
// the config says.
func (d *Driver) Calls() []Call {
	d.ledger.mu.Lock()
	defer d.ledger.mu.Unlock()
	return slices.Concat(d.ledger.ring[d.ledger.next:], d.ledger.ring[:d.ledger.next])
}

// CallCount is how many calls there have been.
func (d *Driver) CallCount() int {
	d.ledger.mu.Lock()
	defer d.ledger.mu.Unlock()
	return d.ledger.total
}

// RanTwice says of every guest that was started on a host while it ran on
// another where that was. It is what must never happen.
func (d *Driver) RanTwice() []string {
	d.ranMu.Lock()
	defer d.ranMu.Unlock()
	return slices.Clone(d.twice)
}
