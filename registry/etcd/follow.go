package etcd

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/vagoth/vagoth/registry/index"
)

// follow keeps the state up with etcd until ctx ends.
func (r *Registry) follow(ctx context.Context) {
	wait := backoff{}
	for ctx.Err() == nil {
		begun := r.rep.Revision()
		err := r.watch(ctx)
		if ctx.Err() != nil {
			return
		}
		r.health.broken(err)
		if r.rep.Revision() > begun {
			wait = backoff{}
		}
		var lost *lostError
		if errors.As(err, &lost) {
			r.log.Warn("registry: etcd no longer has what came after the last change that was seen: loading all of it", "err", err)
			r.arrived.gap()
			if err = r.load(ctx); err == nil {
				continue
			}
		}
		r.log.Warn("registry: the watch on etcd has ended, and begins again", "err", err)
		wait.sleep(ctx)
	}
}

// lostError says that the changes since the last that was seen cannot be had.
type lostError struct{ err error }

func (e *lostError) Error() string { return e.err.Error() }
func (e *lostError) Unwrap() error { return e.err }

// watch follows from the revision that the state has, and returns why it ended.
func (r *Registry) watch(ctx context.Context) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	r.health.watching(cancel)
	from := int64(r.rep.Revision()) + 1 //nolint:gosec // revisions of etcd are int64
	events := r.client.Watch(ctx, r.keys.root, clientv3.WithPrefix(), clientv3.WithRev(from))
	for resp := range events {
		if err := resp.Err(); err != nil {
			if errors.Is(err, rpctypes.ErrCompacted) {
				return &lostError{err}
			}
			return err
		}
		taken := resp.Events
		for more := true; more; { // what has gathered meanwhile is applied with it
			select {
			case next, ok := <-events:
				if !ok || next.Err() != nil {
					more = false // found again by the next watch
					cancel()
				}
				taken = append(taken, next.Events...)
				more = more && len(taken) < maxGathered
			default:
				more = false
			}
		}
		if err := r.take(taken); err != nil {
			return &lostError{err}
		}
	}
	return errors.New("etcd ended the watch")
}

// maxGathered is how many events are applied at once.
const maxGathered = 4096

// take applies the events of whole commits.
func (r *Registry) take(events []*clientv3.Event) error {
	var commits []index.Commit
	var names []arrival
	for _, e := range events {
		rev := uint64(e.Kv.ModRevision) //nolint:gosec // revisions are positive
		if len(commits) == 0 || commits[len(commits)-1].Revision != rev {
			commits = append(commits, index.Commit{Revision: rev})
		}
		c := &commits[len(commits)-1]
		if string(e.Kv.Key) == r.keys.head() {
			names = append(names, arrival{string(e.Kv.Value), rev})
			continue
		}
		if err := r.event(c, e); err != nil {
			return err
		}
	}
	r.arrived.add(names) // before anybody can see that these commits are there
	return r.rep.Apply(commits)
}

// event adds to its commit what an event says.
func (r *Registry) event(c *index.Commit, e *clientv3.Event) error {
	rest, ok := r.keys.of(e.Kv.Key)
	if !ok {
		return nil
	}
	kind, name, ok := strings.Cut(rest, "/")
	if !ok {
		return nil // the store's own keys
	}
	gone := e.Type == mvccpb.Event_DELETE
	switch kind {
	case "w":
		if gone || len(e.Kv.Value) > 0 && e.Kv.Value[0] == isRef {
			c.Deleted = append(c.Deleted, name) // if a node had it as its ID
			return nil
		}
		n, err := r.node(e.Kv)
		if err != nil {
			return err
		}
		if e.Kv.Value[0] == isAgain {
			c.Deleted = append(c.Deleted, name)
		}
		c.Put = append(c.Put, n)
	case "e":
		if !gone {
			c.Edges = append(c.Edges, name)
		}
	case "b":
		b, err := r.blob(e.Kv)
		if err != nil {
			return err
		}
		if gone {
			b.Data = nil
		}
		c.Blobs = append(c.Blobs, b)
	case "s":
	default:
		return fmt.Errorf("the key %s is none that this program knows: was it written by a newer version?", e.Kv.Key)
	}
	return nil
}

// backoff is a wait that grows.
type backoff struct{ last time.Duration }

// sleep waits longer each time, at most about two seconds.
func (b *backoff) sleep(ctx context.Context) {
	b.last = min(max(2*b.last, 2*time.Millisecond), time.Second)
	t := time.NewTimer(b.last/2 + rand.N(b.last)) //nolint:gosec // no secret
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
