package etcd

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"
	"sync"
	"time"

	"github.com/vagoth/vagoth/registry"
)

// share is this process's part of one work. Who takes part has a key below its
// session, which goes with the session's lease; it is read with each probe.
//
// What was read is believed for fresh. So whoever has lost its lease, or was held,
// or cannot reach etcd, begins nothing after that, and what it had begun has ended
// longest later. Only then, counted from when others saw the change, do they begin
// what was its own. These times are of the machine's monotonic clock: clocks that
// are set differ, and jump.
type share struct {
	r       *Registry
	work    string
	longest time.Duration

	mu    sync.Mutex
	asked time.Time // when who is there was read last
	who   []shift   // the last is now; those before it matter for as long as others may be at it
}

// shift is who takes part from a moment on.
type shift struct {
	seen time.Time
	who  []string // sessions
}

// Divide implements registry.Divider.
func (r *Registry) Divide(ctx context.Context, work string, longest time.Duration) registry.Share {
	s := &share{r: r, work: work, longest: longest}
	r.members.mu.Lock()
	if r.members.shares == nil {
		r.members.shares = map[string]*share{}
	}
	r.members.shares[work] = s
	r.members.mu.Unlock()
	if err := r.meet(ctx); err == nil { // takes part,
		_ = r.meet(ctx) // and sees it; or the next probe does
	}
	return s
}

// fresh is how long what was read is believed.
func (s *share) fresh() time.Duration { return max(s.longest, 3*s.r.cfg.Probe) }

// take notes who takes part, as was asked at asked and is seen now.
func (s *share) take(who []string, asked, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if asked.Before(s.asked) {
		return // what is known is newer
	}
	s.asked = asked
	if n := len(s.who); n == 0 || !slices.Equal(s.who[n-1].who, who) {
		s.who = append(s.who, shift{now, who})
	}
	for len(s.who) > 1 && now.Sub(s.who[1].seen) >= s.fresh()+s.longest {
		s.who = s.who[1:] // nobody can be at it any more who is not there now
	}
}

// Mine implements registry.Share.
func (s *share) Mine(id string) bool {
	session, _ := s.r.session.now()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.who) == 0 || time.Since(s.asked) >= s.fresh() {
		return false
	}
	for _, then := range s.who[:len(s.who)-1] {
		if owner := ownerOf(id, then.who); owner != session && owner != "" {
			return false
		}
	}
	return ownerOf(id, s.who[len(s.who)-1].who) == session
}

// ownerOf chooses the one of who with the highest hash: when one goes, only what
// was its own goes to others. It is "" if nobody is there.
func ownerOf(id string, who []string) (owner string) {
	var best uint64
	for _, w := range who {
		sum := sha256.Sum256([]byte(w + "/" + id))
		if h := binary.BigEndian.Uint64(sum[:]); owner == "" || h > best {
			owner, best = w, h
		}
	}
	return owner
}

// Leave implements registry.Share. The others are told with the next probe, or by
// the end of the session.
func (s *share) Leave() {
	s.r.members.mu.Lock()
	if s.r.members.shares[s.work] == s {
		delete(s.r.members.shares, s.work)
	}
	s.r.members.mu.Unlock()
	s.mu.Lock()
	s.who = nil
	s.mu.Unlock()
	s.r.soon()
}
