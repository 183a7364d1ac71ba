package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// session is a manager's life in etcd, as long as its lease. What is done under one
// is nobody's any more when it has ended.
type session struct {
	name  string
	lease clientv3.LeaseID
	ttl   time.Duration
	alive context.Context // its cause says why it has ended
	end   context.CancelCauseFunc
	sure  atomic.Int64 // until then etcd keeps the lease, in nanoseconds since begin
	begin time.Time
}

var errSilent = errors.New("etcd has not answered for the length of a session")

// newSession begins one.
func (s *Scheduler) newSession(ctx context.Context) (*session, error) {
	v := &session{name: uuid.NewString(), ttl: s.cfg.Session, begin: time.Now()}
	var err error
	if v.lease, err = s.st.Grant(ctx, v.ttl); err != nil {
		return nil, err
	}
	v.sure.Store(int64(v.ttl))
	v.alive, v.end = context.WithCancelCause(ctx)
	m := member{Name: v.name, Host: s.net.host(), Address: s.address, Cert: s.net.shows()}
	if _, err := s.st.Txn(ctx, nil, []clientv3.Op{clientv3.OpPut(s.keys.member(v.name), m.String(), clientv3.WithLease(v.lease))}, nil); err != nil {
		v.end(err)
		return nil, errors.Join(err, s.st.Revoke(ctx, v.lease))
	}
	return v, nil
}

// valid reports whether nobody else can have taken this manager for dead yet. The
// time is counted from before etcd was asked, by the monotonic clock.
func (v *session) valid() bool {
	return v.alive.Err() == nil && int64(time.Since(v.begin)) < v.sure.Load()
}

// answersInSession is how many answers that take the whole timeout have room in a
// session: such answers, one asked for when the last has come, do not end it.
const answersInSession = 2

// keep keeps the lease alive until the session ends. A session that etcd may have
// ended is ended here before.
func (v *session) keep(st store) {
	every := v.ttl / 4
	tick := time.NewTimer(every)
	defer tick.Stop()
	over := time.AfterFunc(v.ttl, func() { v.end(errSilent) })
	defer over.Stop()
	for {
		select {
		case <-v.alive.Done():
			return
		case <-tick.C:
		}
		asked := time.Now()
		ctx, cancel := context.WithTimeout(v.alive, v.ttl/answersInSession) // of etcd's timeout, which is no longer
		err := st.KeepAlive(ctx, v.lease)
		cancel()
		switch {
		case err == nil:
			v.sure.Store(int64(asked.Add(v.ttl).Sub(v.begin)))
			over.Reset(v.ttl - time.Since(asked))
			tick.Reset(every - time.Since(asked)) // at once, if the answer took longer
		case errors.Is(err, errLeaseGone):
			v.end(fmt.Errorf("the session of this manager: %w", err))
			return
		default:
			tick.Reset(every / 4)
		}
	}
}
