package etcd

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/registry/index"
)

// Registry is the registry.
type Registry struct {
	cfg    Config
	client *clientv3.Client
	keys   layout
	rep    *index.Replica
	log    *slog.Logger
	now    func() time.Time

	opened  time.Time
	session session
	members members
	arrived arrivals
	health  health
	hurry   chan struct{} // makes the next probe come at once

	stop    context.CancelFunc
	running sync.WaitGroup
	once    sync.Once
	closed  error
}

var (
	_ registry.Registry = (*Registry)(nil)
	_ registry.Remote   = (*Registry)(nil)
	_ registry.Shared   = (*Registry)(nil)
	_ registry.Divider  = (*Registry)(nil)
)

// Open reaches etcd, makes the store if there is none, loads it and begins to
// follow it. It fails when etcd does not answer within the timeout.
func Open(ctx context.Context, c Config, deps registry.Deps) (*Registry, error) {
	r, err := open(ctx, c, deps.WithDefaults())
	if err != nil {
		if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil {
			err = errors.Join(err, c.Reach(ctx))
		}
		return nil, fmt.Errorf("cannot open the registry on etcd %v: %w", c.Endpoints, err)
	}
	return r, nil
}

func open(ctx context.Context, c Config, deps registry.Deps) (*Registry, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if len(c.Endpoints) == 0 {
		return nil, errors.New("no endpoints are given")
	}
	client, err := c.Client(c.Probe)
	if err != nil {
		return nil, err
	}
	r := &Registry{cfg: c, client: client, keys: newLayout(c.Prefix), log: deps.Log, now: deps.Now, opened: deps.Now(), hurry: make(chan struct{}, 1)}
	if r.rep, err = index.NewReplica(deps, c.History, int64(c.HistoryBytes)); err == nil {
		err = r.begin(ctx)
	}
	if err != nil {
		return nil, errors.Join(err, client.Close())
	}
	following, stop := context.WithCancel(context.Background())
	r.stop = stop
	r.running.Go(func() { r.follow(following) })
	r.running.Go(func() { r.probe(following) })
	r.running.Go(func() { r.survey(following) })
	return r, nil
}

// begin makes the first state.
func (r *Registry) begin(ctx context.Context) error {
	if err := r.load(ctx); err != nil {
		return err
	}
	if err := r.session.renew(ctx, r, ""); err != nil {
		return err
	}
	r.health.answered(r.now(), r.rep.Revision())
	return r.meet(ctx)
}

// bounded is ctx for one request.
func (r *Registry) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, r.cfg.Timeout)
}

// View implements registry.Registry.
func (r *Registry) View(ctx context.Context, opts ...registry.ReadOption) (registry.Reader, error) {
	if registry.ReadOptionsOf(opts...).Consistent {
		if err := r.catchUp(ctx); err != nil {
			return nil, err
		}
	}
	return r.rep.View(ctx)
}

// catchUp returns when the state holds all that was committed before the call.
func (r *Registry) catchUp(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	waiting, cancel := r.bounded(ctx)
	defer cancel()
	resp, err := r.client.Get(waiting, r.keys.head(), clientv3.WithKeysOnly())
	if err != nil {
		return r.unread(ctx, err)
	}
	return r.seen(ctx, headOf(resp.Kvs))
}

// seen waits for a commit to arrive.
func (r *Registry) seen(ctx context.Context, rev uint64) error {
	waiting, cancel := r.bounded(ctx)
	defer cancel()
	err := r.rep.Wait(waiting, rev)
	if err != nil && ctx.Err() == nil && !errors.Is(err, registry.ErrClosed) {
		return fmt.Errorf("%w: commit %d has not arrived within %v: %w", registry.ErrUnavailable, rev, r.cfg.Timeout, err)
	}
	return err
}

// Watch implements registry.Registry.
func (r *Registry) Watch(ctx context.Context, q registry.Query, from registry.Cursor) iter.Seq2[registry.Change, error] {
	return r.rep.Watch(ctx, q, from)
}

// Close implements registry.Registry.
func (r *Registry) Close() error {
	r.once.Do(func() {
		r.rep.Close()
		r.stop()
		r.running.Wait()
		r.session.end(r)
		r.closed = r.client.Close()
	})
	return r.closed
}
