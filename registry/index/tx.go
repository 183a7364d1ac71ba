package index

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/trail"
)

// errEnded is what a transaction answers after its function has returned.
var errEnded = errors.New("the transaction has ended: use it only inside the function that Update was given")

// tx is one Update's view of the stack. It writes into the top layer and keeps
// an undo log, so that a function that fails leaves no trace. Updates run one at
// a time, so whatever it read still holds when it commits.
type tx struct {
	stack
	ctx   context.Context //nolint:containedctx // Update's context bounds the transaction
	rev   uint64          // what this Update commits as
	now   time.Time
	trail trail.Trail

	changes []*change
	blobs   []operation
	bumped  []string // parents whose edge revision moved
	undo    []undone
	scratch []byte // what a node is encoded into
	words   *words
	ended   bool
}

var _ registry.Tx = (*tx)(nil)

func (t *tx) check() error {
	if t.ended {
		return errEnded
	}
	return t.ctx.Err()
}

func (t *tx) Get(id string) (*registry.Node, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	if n := t.node(id); n != nil {
		return n, nil
	}
	return nil, &registry.NotFoundError{What: "node", Ref: id}
}

func (t *tx) ByName(name string) (*registry.Node, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	if n := t.owner(name); n != nil && n.Name() == name {
		return n, nil
	}
	return nil, &registry.NotFoundError{What: "name", Ref: name}
}

func (t *tx) ByKey(key string) (*registry.Node, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	if n := t.owner(key); n != nil && n.HasKey(key) {
		return n, nil
	}
	return nil, &registry.NotFoundError{What: "key", Ref: key}
}

func (t *tx) List(q registry.Query) iter.Seq2[*registry.Node, error] {
	return func(yield func(*registry.Node, error) bool) {
		if t.ended {
			yield(nil, errEnded)
			return
		}
		t.list(t.ctx, q)(yield)
	}
}

func (t *tx) Children(id string) (registry.Children, error) {
	if err := t.check(); err != nil {
		return registry.Children{}, err
	}
	if id == "" {
		return registry.Children{}, nil
	}
	return registry.Children{Edge: t.edge(id), Nodes: t.children(id)}, nil
}

func (t *tx) Keys(prefix, from string) iter.Seq2[registry.Key, error] {
	return func(yield func(registry.Key, error) bool) {
		if t.ended {
			yield(registry.Key{}, errEnded)
			return
		}
		t.keys(t.ctx, prefix, from)(yield)
	}
}

func (t *tx) Blob(id, key string) ([]byte, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	data, ok := t.blob(id, key)
	if !ok {
		return nil, &registry.NotFoundError{What: "blob", Ref: id + "/" + key}
	}
	return slices.Clone(data), nil
}

func (t *tx) Create(d registry.Draft) (*registry.Node, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	if err := d.Validate(); err != nil {
		return nil, err
	}
	stamp := registry.Stamp{Revision: t.rev, CreatedAt: t.now, UpdatedAt: t.now, Changed: t.trail}
	return t.put(nil, d, stamp, "", nil)
}

func (t *tx) Put(d registry.Draft, opts ...registry.WriteOption) (*registry.Node, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	old := t.node(d.ID)
	if old == nil {
		if err := d.Validate(); err != nil {
			return nil, err
		}
		return nil, &registry.NotFoundError{What: "node", Ref: d.ID}
	}
	if err := registry.CheckPut(old, d, registry.WriteOptionsOf(opts...)); err != nil {
		return nil, err
	}
	if old.Same(d) {
		return old, nil
	}
	return t.put(old, d, t.stamp(old), "", nil)
}

// stamp is the old node's, as a change of it leaves it.
func (t *tx) stamp(old *registry.Node) registry.Stamp {
	s := old.Stamp()
	s.Revision, s.UpdatedAt, s.Changed = t.rev, t.now, t.trail
	return s
}

func (t *tx) PutBlob(id, key string, data []byte) error {
	if err := t.check(); err != nil {
		return err
	}
	old := t.node(id)
	if old == nil {
		return &registry.NotFoundError{What: "node", Ref: id}
	}
	if err := registry.CheckBlob(old, key, data); err != nil {
		return err
	}
	had, ok := t.blob(id, key)
	if data == nil && !ok {
		return &registry.NotFoundError{What: "blob", Ref: id + "/" + key}
	}
	if data != nil && ok && string(had) == string(data) {
		return nil
	}
	s := t.stamp(old)
	s.Blobs = slices.DeleteFunc(s.Blobs, func(b registry.BlobInfo) bool { return b.Key == key })
	op := operation{op: opDeleteBlob, id: id, key: key}
	if data != nil {
		s.Blobs = append(s.Blobs, registry.BlobInfo{Key: key, Size: len(data), SHA256: sumOf(data)})
		op.op, op.data = opPutBlob, string(data)
	}
	_, err := t.put(old, old.Draft(), s, key, &op)
	return err
}

// Restore implements registry.Restorer.
func (t *tx) Restore(id string, s registry.Stamp) error {
	if err := t.check(); err != nil {
		return err
	}
	old := t.node(id)
	if old == nil {
		return &registry.NotFoundError{What: "node", Ref: id}
	}
	if !slices.ContainsFunc(t.changes, func(c *change) bool { return c.id == id }) {
		return &registry.InvalidError{ID: id, Field: "stamp", Reason: "this Update has not written the node: only what it writes can keep its times"}
	}
	if err := s.Changed.Validate(); err != nil {
		return &registry.InvalidError{ID: id, Field: "trail", Reason: err.Error()}
	}
	kept := t.stamp(old)
	kept.CreatedAt, kept.UpdatedAt, kept.Changed = storable(s.CreatedAt), storable(s.UpdatedAt), s.Changed
	_, err := t.put(old, old.Draft(), kept, "", nil)
	return err
}

func sumOf(data []byte) string {
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:])
}

func (t *tx) Delete(id string) error {
	if err := t.check(); err != nil {
		return err
	}
	old := t.node(id)
	if old == nil {
		return &registry.NotFoundError{What: "node", Ref: id}
	}
	if p := old.Parent(); p != "" {
		return &registry.InUseError{ID: id, Parent: p, Reason: fmt.Sprintf("it stands on %s: clear its parent first", p)}
	}
	if kids := t.children(id); len(kids) > 0 {
		names := make([]string, 0, 3)
		for _, k := range kids[:min(3, len(kids))] {
			names = append(names, k.ID())
		}
		if len(kids) > 3 {
			names = append(names, "…")
		}
		return &registry.InUseError{ID: id, Children: len(kids),
			Reason: fmt.Sprintf("%d nodes stand on it (%s): move or delete them first", len(kids), strings.Join(names, ", "))}
	}
	return t.write(old, nil, "", "", nil)
}

// put makes the node of d what old was, which may be nil. blob is the operation
// on the node's blob key that comes with it.
func (t *tx) put(old *registry.Node, d registry.Draft, s registry.Stamp, key string, blob *operation) (*registry.Node, error) {
	node, encoded, err := t.stored(registry.MakeNode(d.Parts(s)))
	if err != nil {
		return nil, err
	}
	if err := t.free(old, node); err != nil {
		return nil, err
	}
	if err := t.standing(old, node); err != nil {
		return nil, err
	}
	if err := t.write(old, node, encoded, key, blob); err != nil {
		return nil, err
	}
	return node, nil
}

// stored is the node as it will be read back from the journal: it pins none of
// the caller's memory, and shares what repeats.
func (t *tx) stored(made *registry.Node) (node *registry.Node, encoded string, err error) {
	if t.scratch, err = appendNode(t.scratch[:0], made, made.Blobs()); err != nil {
		return nil, "", err
	}
	encoded = string(t.scratch)
	d := decoder{s: encoded, words: t.words}
	node = d.node()
	if err := d.end(); err != nil {
		return nil, "", fmt.Errorf("node %s cannot be stored: %w", node.ID(), err)
	}
	return node, encoded, nil
}

// write makes node what old was. One of them may be nil, not both.
func (t *tx) write(old, node *registry.Node, encoded, key string, blob *operation) error {
	c, err := t.account(old, node, encoded, key, blob)
	if err != nil {
		return err
	}
	t.record(c)
	t.apply(old, node, blob)
	return nil
}

// free refuses a node whose ID, name or keys another node holds.
func (t *tx) free(old, node *registry.Node) (err error) {
	refs(node, func(ref string) {
		if err != nil || old != nil && holds(old, ref) {
			return
		}
		if owner := t.owner(ref); owner != nil {
			err = &registry.ConflictError{Key: ref, Owner: owner.ID()}
		}
	})
	return err
}

// standing refuses a new parent that does not exist or stands on node.
func (t *tx) standing(old, node *registry.Node) error {
	parent := node.Parent()
	if parent == "" || old != nil && old.Parent() == parent {
		return nil
	}
	actual := ""
	if old != nil {
		actual = old.Parent()
	}
	for id := parent; id != ""; {
		if id == node.ID() {
			return &registry.ParentError{ID: node.ID(), Parent: parent, Actual: actual,
				Reason: fmt.Sprintf("%s stands on it already (or is it): a node cannot stand on itself", parent)}
		}
		above := t.node(id)
		if above == nil {
			return &registry.NotFoundError{What: "parent", Ref: id}
		}
		id = above.Parent()
	}
	return nil
}
