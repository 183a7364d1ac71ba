package etcd

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// store is what this package needs of etcd.
type store interface {
	// Txn is answered within the timeout. An error says nothing about whether it
	// was committed.
	Txn(ctx context.Context, cmps []clientv3.Cmp, then, otherwise []clientv3.Op) (*clientv3.TxnResponse, error)
	Grant(ctx context.Context, ttl time.Duration) (clientv3.LeaseID, error)
	KeepAlive(ctx context.Context, id clientv3.LeaseID) error // errLeaseGone: there is no such lease
	Revoke(ctx context.Context, id clientv3.LeaseID) error
	// Changed returns when something below the prefix has changed after the
	// revision, or may have.
	Changed(ctx context.Context, prefix string, after int64) error
	Close() error
}

var errLeaseGone = errors.New("etcd has ended the session")

// direct is etcd itself.
type direct struct {
	client  *clientv3.Client
	timeout time.Duration
}

func (d direct) bounded(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, d.timeout)
}

// Txn implements store.
func (d direct) Txn(ctx context.Context, cmps []clientv3.Cmp, then, otherwise []clientv3.Op) (*clientv3.TxnResponse, error) {
	ctx, cancel := d.bounded(ctx)
	defer cancel()
	return d.client.Txn(ctx).If(cmps...).Then(then...).Else(otherwise...).Commit()
}

// Grant implements store.
func (d direct) Grant(ctx context.Context, ttl time.Duration) (clientv3.LeaseID, error) {
	ctx, cancel := d.bounded(ctx)
	defer cancel()
	r, err := d.client.Grant(ctx, int64((ttl+time.Second-1)/time.Second))
	if err != nil {
		return 0, err
	}
	return r.ID, nil
}

// KeepAlive implements store.
func (d direct) KeepAlive(ctx context.Context, id clientv3.LeaseID) error {
	ctx, cancel := d.bounded(ctx)
	defer cancel()
	r, err := d.client.KeepAliveOnce(ctx, id)
	if errors.Is(err, rpctypes.ErrLeaseNotFound) || err == nil && r.TTL <= 0 {
		return errLeaseGone
	}
	return err
}

// Revoke implements store.
func (d direct) Revoke(ctx context.Context, id clientv3.LeaseID) error {
	ctx, cancel := d.bounded(ctx)
	defer cancel()
	_, err := d.client.Revoke(ctx, id)
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		return nil
	}
	return err
}

// Changed implements store.
func (d direct) Changed(ctx context.Context, prefix string, after int64) error {
	ctx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
	defer cancel()
	for r := range d.client.Watch(ctx, prefix, clientv3.WithPrefix(), clientv3.WithRev(after+1)) {
		if r.CompactRevision > 0 || len(r.Events) > 0 {
			return nil // it may have been in what is gone
		}
		if err := r.Err(); err != nil {
			return fmt.Errorf("cannot watch who leads: %w", err)
		}
	}
	return ctx.Err()
}

// Close implements store.
func (d direct) Close() error { return d.client.Close() }
