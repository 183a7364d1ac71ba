package etcd

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/vagoth/vagoth/manager/component"
)

// A session that an answer within the timeout could end is refused.
func TestSessionAndTimeout(t *testing.T) {
	for _, c := range []struct {
		session, timeout time.Duration
		ok               bool
	}{
		{10 * time.Second, 4 * time.Second, true}, {10 * time.Second, 5 * time.Second, true}, {10 * time.Second, 5*time.Second + 1, false},
		{2 * time.Second, time.Second, true}, {2 * time.Second, 4 * time.Second, false},
	} {
		cfg := Defaults()
		cfg.Endpoints, cfg.Session, cfg.Timeout = []string{"http://127.0.0.1:2379"}, c.session, c.timeout
		err := cfg.Validate()
		var key *component.KeyError
		if c.ok && err != nil || !c.ok && (!errors.As(err, &key) || key.Key != "timeout") {
			t.Errorf("session %s and timeout %s: %v", c.session, c.timeout, err)
		}
	}
	if err := Defaults().Validate(); err != nil {
		t.Errorf("the defaults: %v", err)
	}
}

// slow is an etcd that takes the whole timeout for each answer.
type slow struct {
	store
	takes time.Duration
	asked atomic.Int64
}

func (s *slow) KeepAlive(ctx context.Context, _ clientv3.LeaseID) error {
	s.asked.Add(1)
	select {
	case <-time.After(s.takes):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Answers that take the longest timeout which is allowed keep a session, one after the
// other; those that take longer than the session do not.
func TestSlowAnswersKeepASession(t *testing.T) {
	for takes, lives := range map[time.Duration]bool{5*time.Second - 1: true, 20 * time.Second: false} {
		synctest.Test(t, func(t *testing.T) {
			v := &session{ttl: 10 * time.Second, begin: time.Now()}
			v.sure.Store(int64(v.ttl))
			v.alive, v.end = context.WithCancelCause(t.Context())
			st := &slow{takes: takes}
			var keeping sync.WaitGroup
			keeping.Go(func() { v.keep(st) })
			time.Sleep(5 * time.Minute)
			if v.valid() != lives {
				t.Errorf("answers that take %s: the session lives is %v after %d of them (%v)", takes, v.valid(), st.asked.Load(), context.Cause(v.alive))
			}
			v.end(context.Canceled)
			keeping.Wait()
		})
	}
}
