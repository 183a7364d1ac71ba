package etcd

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"

	"github.com/google/uuid"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/registry/index"
)

// load reads the whole store, makes it if there is none, and puts it in place of
// the state.
func (r *Registry) load(ctx context.Context) error {
	for {
		img, err := r.image(ctx)
		if err == nil {
			err = r.rep.Load(img)
		}
		// So slow was it, that etcd has forgotten the revision that was being read.
		if !errors.Is(err, rpctypes.ErrCompacted) || ctx.Err() != nil {
			return err
		}
	}
}

// image is what the store holds in its present revision.
func (r *Registry) image(ctx context.Context) (index.Image, error) {
	id := uuid.New()
	waiting, cancel := r.bounded(ctx)
	defer cancel()
	mine := about{Format: format, ID: fmt.Sprintf("%x", id[:8])}
	resp, err := r.client.Txn(waiting).If(clientv3.Compare(clientv3.CreateRevision(r.keys.store()), "=", 0)).
		Then(clientv3.OpPut(r.keys.store(), mine.String())).
		Else(clientv3.OpGet(r.keys.store())).Commit()
	if err != nil {
		return index.Image{}, r.unread(ctx, err)
	}
	if !resp.Succeeded {
		if mine, err = parseAbout(resp.Responses[0].GetResponseRange().Kvs[0].Value); err != nil {
			return index.Image{}, err
		}
	}
	rev := resp.Header.Revision
	return index.Image{
		Store: mine.ID, Revision: uint64(rev), //nolint:gosec // revisions are positive
		Nodes: func(yield func(*registry.Node, error) bool) {
			for kv, err := range r.folder(ctx, 'w', rev) {
				if err == nil && len(kv.Value) > 0 && kv.Value[0] == isRef {
					continue
				}
				var n *registry.Node
				if err == nil {
					n, err = r.node(kv)
				}
				if !yield(n, err) || err != nil {
					return
				}
			}
		},
		Edges: func(yield func(index.Edge, error) bool) {
			for kv, err := range r.folder(ctx, 'e', rev) {
				var e index.Edge
				if err == nil {
					e = index.Edge{Parent: strings.TrimPrefix(string(kv.Key), r.keys.folder('e')), Revision: uint64(kv.ModRevision)} //nolint:gosec // as above
				}
				if !yield(e, err) || err != nil {
					return
				}
			}
		},
		Blobs: func(yield func(index.Blob, error) bool) {
			for kv, err := range r.folder(ctx, 'b', rev) {
				var b index.Blob
				if err == nil {
					b, err = r.blob(kv)
				}
				if !yield(b, err) || err != nil {
					return
				}
			}
		},
	}, nil
}

// How many keys are read at a time: few at first, and then as many as have about
// pageBytes together. For each page etcd counts all keys that are left, so that
// small pages of many small keys cost it most.
const (
	firstPage = 500
	maxPage   = 10_000
	pageBytes = 4 << 20
)

// nextPage is how many keys to read after a page of n with so many bytes.
func nextPage(n, bytes int) int {
	return min(max(pageBytes*n/max(bytes, 1), firstPage/5), 4*n, maxPage)
}

// folder yields the keys of a folder as they were at revision rev.
func (r *Registry) folder(ctx context.Context, which rune, rev int64) iter.Seq2[*mvccpb.KeyValue, error] {
	return func(yield func(*mvccpb.KeyValue, error) bool) {
		from, end := r.keys.folder(which), clientv3.GetPrefixRangeEnd(r.keys.folder(which))
		for page := firstPage; ; {
			waiting, cancel := r.bounded(ctx)
			resp, err := r.client.Get(waiting, from, clientv3.WithRange(end), clientv3.WithRev(rev), clientv3.WithLimit(int64(page)))
			cancel()
			if err != nil {
				if !errors.Is(err, rpctypes.ErrCompacted) {
					err = r.unread(ctx, err)
				}
				yield(nil, err)
				return
			}
			bytes := 0
			for _, kv := range resp.Kvs {
				if !yield(kv, nil) {
					return
				}
				from = string(kv.Key) + "\x00"
				bytes += len(kv.Key) + len(kv.Value)
			}
			if !resp.More {
				return
			}
			page = nextPage(len(resp.Kvs), bytes)
		}
	}
}

// node decodes the value of a word that is a node's ID.
func (r *Registry) node(kv *mvccpb.KeyValue) (*registry.Node, error) {
	if len(kv.Value) == 0 || kv.Value[0] != isNode && kv.Value[0] != isAgain {
		return nil, fmt.Errorf("%w: the key %s holds neither a node nor a reference", registry.ErrCorrupt, kv.Key)
	}
	n, err := index.Decode(string(kv.Value[1:]), uint64(kv.ModRevision)) //nolint:gosec // revisions are positive
	if err == nil && r.keys.word(n.ID()) != string(kv.Key) {
		err = fmt.Errorf("it is node %s's", n.ID())
	}
	if err != nil {
		return nil, fmt.Errorf("%w: the key %s: %w", registry.ErrCorrupt, kv.Key, err)
	}
	return n, nil
}

func (r *Registry) blob(kv *mvccpb.KeyValue) (index.Blob, error) {
	id, key, ok := strings.Cut(strings.TrimPrefix(string(kv.Key), r.keys.folder('b')), "/")
	if !ok {
		return index.Blob{}, fmt.Errorf("%w: the key %s names no blob", registry.ErrCorrupt, kv.Key)
	}
	return index.Blob{Node: id, Key: key, Data: append([]byte{}, kv.Value...)}, nil
}
