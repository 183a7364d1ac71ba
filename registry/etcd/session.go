package etcd

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// session is this process in etcd: a key whose value, the ticket, every
// transaction of ours compares. Replacing the ticket rules out all that were made
// before and have not happened yet.
type session struct {
	mu     sync.Mutex
	name   string
	ticket string
	lease  clientv3.LeaseID

	renewing sync.Mutex
}

// now returns the key and the ticket.
func (s *session) now() (name, ticket string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.name, s.ticket
}

// place returns what goes below the session, and with it.
func (s *session) place() (name string, lease clientv3.LeaseID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.name, s.lease
}

// renew returns when the ticket that was used is no longer good.
func (s *session) renew(ctx context.Context, r *Registry, used string) error {
	s.renewing.Lock()
	defer s.renewing.Unlock()
	if _, ticket := s.now(); ticket != used {
		return nil // somebody else has done it
	}
	return s.replace(ctx, r)
}

func (s *session) replace(ctx context.Context, r *Registry) error {
	waiting, cancel := r.bounded(ctx)
	defer cancel()
	s.mu.Lock()
	name, lease := s.name, s.lease
	s.mu.Unlock()
	ticket := uuid.NewString()
	put := func() error {
		_, err := r.client.Txn(waiting).Then(
			clientv3.OpPut(r.keys.session(name), ticket, clientv3.WithLease(lease)),
			clientv3.OpPut(r.keys.about(name), r.about(), clientv3.WithLease(lease))).Commit()
		return err
	}
	var err error
	if lease != clientv3.NoLease {
		err = put()
	}
	if lease == clientv3.NoLease || errors.Is(err, rpctypes.ErrLeaseNotFound) {
		var granted *clientv3.LeaseGrantResponse
		if granted, err = r.client.Grant(waiting, int64(r.cfg.Alone/time.Second)); err == nil {
			// Who has lost a lease is somebody else from then on, so that what others
			// have read of the one before says nothing of this one.
			name, lease = uuid.NewString(), granted.ID
			err = put()
		}
	}
	if err != nil {
		return r.unread(ctx, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.name, s.ticket, s.lease = name, ticket, lease
	return nil
}

// keep keeps the lease alive. Like all that a probe does it is bounded: while it waits,
// nobody notices that etcd has gone.
func (s *session) keep(ctx context.Context, r *Registry) {
	s.mu.Lock()
	lease := s.lease
	s.mu.Unlock()
	waiting, cancel := r.bounded(ctx)
	defer cancel()
	_, err := r.client.KeepAliveOnce(waiting, lease)
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		_, ticket := s.now()
		err = s.renew(ctx, r, ticket)
	}
	if err != nil && ctx.Err() == nil {
		r.log.Debug("registry: cannot keep the session on etcd alive", "err", err)
	}
}

// end lets the key go.
func (s *session) end(r *Registry) {
	ctx, cancel := context.WithTimeout(context.Background(), min(time.Second, r.cfg.Timeout))
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lease != clientv3.NoLease {
		_, _ = r.client.Revoke(ctx, s.lease) // or it ends by itself
	}
}

// arrivals are the names of the transactions that have gone by, as far as somebody
// waits for them.
type arrivals struct {
	mu     sync.Mutex
	wanted map[string]uint64 // 0: not yet
	gaps   int
}

type arrival struct {
	name string
	rev  uint64
}

// expect begins to look for a transaction. Its end is forget.
func (a *arrivals) expect(name string) (gaps int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.wanted == nil {
		a.wanted = map[string]uint64{}
	}
	a.wanted[name] = 0
	return a.gaps
}

func (a *arrivals) forget(name string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.wanted, name)
}

func (a *arrivals) add(names []arrival) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, n := range names {
		if _, ok := a.wanted[n.name]; ok {
			a.wanted[n.name] = n.rev
		}
	}
}

// gap notes that transactions may have gone by unseen.
func (a *arrivals) gap() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.gaps++
}

// seen returns as what the transaction was committed; sure is false if it may have
// been missed.
func (a *arrivals) seen(name string, gaps int) (rev uint64, sure bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	rev = a.wanted[name]
	return rev, rev > 0 || a.gaps == gaps
}
