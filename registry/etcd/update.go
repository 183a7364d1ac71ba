package etcd

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/vagoth/vagoth/internal/etcdclient"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/registry/index"
)

// Update implements registry.Registry.
func (r *Registry) Update(ctx context.Context, fn func(registry.Tx) error) error {
	var wait backoff
	for tries := 0; ; tries++ {
		staged, err := r.rep.Stage(ctx, fn)
		if staged == nil || ctx.Err() != nil {
			return err
		}
		var again bool
		var rev uint64
		if err != nil || staged.IsEmpty() {
			again, err = r.confirmed(ctx, staged, err)
		} else {
			rev, again, err = r.commit(ctx, staged)
		}
		switch {
		case again && tries > 2: // others are at the same thing
			wait.sleep(ctx)
		case again:
		case err != nil || rev == 0:
			return err
		default:
			staged.Settle(rev)
			return r.acknowledge(ctx, rev)
		}
	}
}

// acknowledge returns when a commit of ours is seen here, too. While etcd does not
// answer it is not waited for longer than the timeout.
func (r *Registry) acknowledge(ctx context.Context, rev uint64) error {
	for {
		waiting, cancel := r.bounded(ctx)
		err := r.rep.Wait(waiting, rev)
		cancel()
		switch {
		case err == nil:
			return nil
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil && r.health.good():
			continue // much has to be loaded anew
		}
		return fmt.Errorf("%w: it was committed, and then not seen: %w", registry.ErrUnknownOutcome, err)
	}
}

// confirmed returns the outcome of a function that writes nothing, if what it saw
// is still so.
func (r *Registry) confirmed(ctx context.Context, s *index.Staged, outcome error) (again bool, _ error) {
	if s.Guards.Len() == 0 {
		return false, outcome
	}
	waiting, cancel := r.bounded(ctx)
	defer cancel()
	var wait backoff
	var resp *clientv3.TxnResponse
	var err error
	for { // it only reads: the client repeats such a Get by itself, and no transaction
		resp, err = r.client.Txn(waiting).If(r.conditions(s, nil)...).Else(r.where()).Commit()
		if !etcdclient.Elects(err) || waiting.Err() != nil {
			break
		}
		wait.sleep(waiting)
	}
	switch {
	case err != nil:
		return false, r.unread(ctx, err)
	case resp.Succeeded:
		return false, outcome
	}
	return true, r.seen(ctx, headOf(resp.Responses[0].GetResponseRange().Kvs))
}

// maxConditions is what etcd takes in one transaction unless it is told otherwise,
// less the ticket.
const maxConditions = 127

// conditions are what must hold for the transaction to be.
func (r *Registry) conditions(s *index.Staged, more []clientv3.Cmp) []clientv3.Cmp {
	if s.Guards.Len() > maxConditions {
		// Nothing at all may have been committed since.
		return append(more, clientv3.Compare(clientv3.ModRevision(r.keys.head()), "<", int64(s.Base)+1)) //nolint:gosec // revisions of etcd are int64
	}
	for id, rev := range s.Guards.Held {
		more = append(more, same(r.keys.word(id), rev))
	}
	for word := range s.Guards.Free {
		more = append(more, same(r.keys.word(word), 0))
	}
	for parent, rev := range s.Guards.Edges {
		more = append(more, same(r.keys.edge(parent), rev))
	}
	return more
}

// where asks which commit is the last.
func (r *Registry) where() clientv3.Op { return clientv3.OpGet(r.keys.head(), clientv3.WithKeysOnly()) }

// headOf is the answer.
func headOf(kvs []*mvccpb.KeyValue) uint64 {
	if len(kvs) == 0 {
		return 0
	}
	return uint64(kvs[0].ModRevision) //nolint:gosec // revisions are positive
}

// commit commits what was staged, or says that it has to be staged again.
func (r *Registry) commit(ctx context.Context, s *index.Staged) (rev uint64, again bool, _ error) {
	if !r.health.good() {
		// Better found out before anything is on its way.
		if err := r.catchUp(ctx); err != nil {
			return 0, false, err
		}
	}
	name := uuid.NewString()
	gaps := r.arrived.expect(name)
	defer r.arrived.forget(name)
	waiting, cancel := r.bounded(ctx)
	defer cancel()
	txn, ticket := r.transaction(waiting, s, name)
	resp, err := txn.Commit()
	if err == nil {
		return r.decided(ctx, resp, ticket)
	}
	if known := etcdclient.Refused(err); known != nil {
		return 0, false, known
	}
	rev, sure := r.resolve(ctx, name, ticket, gaps)
	if !sure {
		return 0, false, fmt.Errorf("%w: %w: %w", registry.ErrUnknownOutcome, registry.ErrUnavailable, err)
	}
	return rev, rev == 0, nil
}

// transaction is one that has a name, and is good for as long as the ticket is.
func (r *Registry) transaction(ctx context.Context, s *index.Staged, name string) (_ clientv3.Txn, ticket string) {
	session, ticket := r.session.now()
	valid := clientv3.Compare(clientv3.Value(r.keys.session(session)), "=", ticket)
	return r.client.Txn(ctx).
		If(r.conditions(s, []clientv3.Cmp{valid})...).
		Then(r.writes(s, name)...).
		Else(r.where(), clientv3.OpGet(r.keys.session(session))), ticket
}

// decided reads etcd's answer.
func (r *Registry) decided(ctx context.Context, resp *clientv3.TxnResponse, ticket string) (rev uint64, again bool, _ error) {
	if resp.Succeeded {
		return uint64(resp.Header.Revision), false, nil //nolint:gosec // revisions are positive
	}
	if kvs := rangeOf(resp, 1); len(kvs) == 0 || string(kvs[0].Value) != ticket {
		if err := r.session.renew(ctx, r, ticket); err != nil {
			return 0, false, err
		}
	}
	return 0, true, r.seen(ctx, headOf(rangeOf(resp, 0)))
}

func rangeOf(resp *clientv3.TxnResponse, i int) []*mvccpb.KeyValue {
	return resp.Responses[i].GetResponse().(*etcdserverpb.ResponseOp_ResponseRange).ResponseRange.Kvs //nolint:forcetypeassert // as was asked
}

// resolve finds out what became of a transaction whose answer was lost; 0 is that
// it never will be. It takes as long as ctx lets it, at most the timeout.
func (r *Registry) resolve(ctx context.Context, name, ticket string, gaps int) (rev uint64, sure bool) {
	ctx, cancel := r.bounded(ctx)
	defer cancel()
	var wait backoff
	for ; ctx.Err() == nil; wait.sleep(ctx) {
		if rev, _ := r.arrived.seen(name, gaps); rev > 0 {
			return rev, true
		}
		err := r.session.renew(ctx, r, ticket)
		if err == nil {
			err = r.catchUp(ctx)
		}
		switch {
		case err == nil:
			return r.arrived.seen(name, gaps)
		case errors.Is(err, registry.ErrClosed), etcdclient.Refused(err) != nil:
			return 0, false
		}
	}
	return 0, false
}

// writes are the transaction's operations, one for each key.
func (r *Registry) writes(s *index.Staged, name string) []clientv3.Op {
	ops := []clientv3.Op{clientv3.OpPut(r.keys.head(), name)}
	for _, n := range s.Nodes {
		switch {
		case n.Data == "":
			if s.Words[n.ID] == "" {
				ops = append(ops, clientv3.OpDelete(r.keys.word(n.ID)))
			}
		case n.Again:
			ops = append(ops, clientv3.OpPut(r.keys.word(n.ID), string(rune(isAgain))+n.Data))
		default:
			ops = append(ops, clientv3.OpPut(r.keys.word(n.ID), string(rune(isNode))+n.Data))
		}
	}
	for word, owner := range s.Words {
		if owner == "" {
			ops = append(ops, clientv3.OpDelete(r.keys.word(word)))
		} else {
			ops = append(ops, clientv3.OpPut(r.keys.word(word), string(rune(isRef))+owner))
		}
	}
	for parent, stays := range s.Edges {
		if stays {
			ops = append(ops, clientv3.OpPut(r.keys.edge(parent), ""))
		} else {
			ops = append(ops, clientv3.OpDelete(r.keys.edge(parent)))
		}
	}
	for _, b := range s.Blobs {
		if b.Data == nil {
			ops = append(ops, clientv3.OpDelete(r.keys.blob(b.Node, b.Key)))
		} else {
			ops = append(ops, clientv3.OpPut(r.keys.blob(b.Node, b.Key), string(b.Data)))
		}
	}
	return ops
}
