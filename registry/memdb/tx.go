package memdb

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

// change is what an Update did to one node.
type change struct {
	id            string
	before, after *registry.Node // nil: there was none, there is none
	again         bool           // deleted and created anew
	encoded       string         // of after, which is made of it
	touched       int            // keys, for registry.MaxTouched
	blobs         map[string]int // bytes written, by blob
}

// size is what the change counts for registry.MaxUpdate.
func (c *change) size() int {
	n := len(c.encoded)
	for _, b := range c.blobs {
		n += b
	}
	return n
}

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

// account returns the Update's change of the node as it is with this write, and
// refuses what exceeds the limits of an Update. It changes nothing.
func (t *tx) account(old, node *registry.Node, encoded, key string, blob *operation) (*change, error) {
	c := t.joined(old, node)
	c.encoded = encoded
	touched, size := 0, 0
	for _, other := range t.changes {
		if other.id != c.id {
			touched += other.touched
			size += other.size()
		}
	}
	if blob != nil {
		written := map[string]int{key: len(blob.data)}
		for k, n := range c.blobs {
			if k != key {
				written[k] = n
			}
		}
		c.blobs = written
	}
	c.touched = c.count()
	touched += c.touched
	if edges := 2 + len(t.bumped); touched+edges > registry.MaxTouched { // else there is no need to count them
		touched += t.edges(old, node)
	}
	if touched > registry.MaxTouched {
		return nil, &registry.LimitError{What: "update", Unit: "keys touched", Got: touched, Max: registry.MaxTouched}
	}
	if size += c.size(); size > registry.MaxUpdate {
		return nil, &registry.LimitError{What: "update", Unit: "bytes", Got: size, Max: registry.MaxUpdate}
	}
	return c, nil
}

// edges is how many edge revisions the Update moves with a write.
func (t *tx) edges(old, node *registry.Node) int {
	moved := map[string]bool{}
	for _, parent := range t.bumped {
		moved[parent] = true
	}
	for _, n := range []*registry.Node{old, node} {
		if n != nil && n.Parent() != "" && (old == nil || node == nil || old.Parent() != node.Parent() || old.Definition() != node.Definition()) {
			moved[n.Parent()] = true
		}
	}
	return len(moved)
}

// joined is the change from old to node, joined with what the transaction did to
// the node before.
func (t *tx) joined(old, node *registry.Node) *change {
	c := &change{before: old}
	id := idOf(old, node)
	for _, earlier := range t.changes {
		if earlier.id == id {
			*c = *earlier
			break
		}
	}
	c.id, c.after, c.encoded = id, node, ""
	c.again = c.again || old == nil && c.before != nil
	return c
}

func idOf(old, node *registry.Node) string {
	if old != nil {
		return old.ID()
	}
	return node.ID()
}

// count is how many keys the change touches: the node, what it can be called
// beside its ID where that changes, and its blobs.
func (c *change) count() int {
	n := 1 + len(c.blobs)
	differ := func(a, b *registry.Node) {
		if a == nil {
			return
		}
		refs(a, func(ref string) {
			if ref != a.ID() && (b == nil || c.again || !holds(b, ref)) {
				n++
			}
		})
	}
	differ(c.before, c.after)
	differ(c.after, c.before)
	if c.before != nil && (c.after == nil || c.again) {
		n += len(c.before.Blobs())
	}
	return n
}

// record puts c in the place of the change of the same node, if there is one.
func (t *tx) record(c *change) {
	for i, other := range t.changes {
		if other.id == c.id {
			t.changes[i] = c
			return
		}
	}
	t.changes = append(t.changes, c)
}

// apply writes into the top layer.
func (t *tx) apply(old, node *registry.Node, blob *operation) {
	top, id := t.top, idOf(old, node)
	e, ok := top.nodes[id]
	if !ok {
		e.before = old
	}
	e.after = node
	t.putNode(id, e)
	t.applyRefs(old, node)
	t.applyEdges(old, node)
	if node == nil {
		t.putEdge(id, 0)
		for _, b := range old.Blobs() {
			t.putData(blobKey(id, b.Key), nil)
		}
		t.blobs = slices.DeleteFunc(t.blobs, func(o operation) bool { return o.id == id })
	}
	if blob != nil {
		var data []byte
		if blob.op == opPutBlob {
			data = append([]byte{}, blob.data...) // not nil, which would mean removed
		}
		t.putData(blobKey(id, blob.key), data)
		t.blobs = append(t.blobs, *blob)
	}
}

func (t *tx) applyRefs(old, node *registry.Node) {
	if old != nil {
		refs(old, func(ref string) {
			if node == nil || !holds(node, ref) {
				t.putRef(ref, "")
			}
		})
	}
	if node != nil {
		refs(node, func(ref string) {
			if old == nil || !holds(old, ref) {
				t.putRef(ref, node.ID())
			}
		})
	}
}

func (t *tx) applyEdges(old, node *registry.Node) {
	from, to := "", ""
	if old != nil {
		from = old.Parent()
	}
	if node != nil {
		to = node.Parent()
	}
	if from == to {
		if to != "" && old.Definition() != node.Definition() {
			t.bump(to)
		}
		return
	}
	for _, p := range []string{from, to} {
		if p != "" {
			t.bump(p)
			kids := t.top.kids[p]
			t.putKids(p, append(kids[:len(kids):len(kids)], idOf(old, node)))
		}
	}
}

func (t *tx) bump(parent string) {
	t.putEdge(parent, t.rev)
	t.bumped = append(t.bumped, parent)
}

// undone is one step of the undo log: what stood in one of the layer's maps.
type undone struct {
	in  rune // the map, by its initial
	key string
	was any // nil where there was nothing
}

// note sets m[k] and remembers how to take it back.
func note[V any](t *tx, in rune, m map[string]V, k string, v V) {
	u := undone{in: in, key: k}
	if was, had := m[k]; had {
		u.was = was
	}
	t.undo = append(t.undo, u)
	m[k] = v
}

func takeBack[V any](u undone, m map[string]V) {
	if was, had := u.was.(V); had {
		m[u.key] = was
	} else {
		delete(m, u.key)
	}
}

func (t *tx) putNode(id string, e entry)          { note(t, 'n', t.top.nodes, id, e) }
func (t *tx) putRef(ref, owner string)            { note(t, 'r', t.top.refs, ref, owner) }
func (t *tx) putEdge(parent string, rev uint64)   { note(t, 'e', t.top.edges, parent, rev) }
func (t *tx) putKids(parent string, ids []string) { note(t, 'k', t.top.kids, parent, ids) }
func (t *tx) putData(key string, data []byte)     { note(t, 'b', t.top.blobs, key, data) }

// rollback takes back all that the transaction wrote into the layer.
func (t *tx) rollback() {
	for i := len(t.undo) - 1; i >= 0; i-- {
		u := t.undo[i]
		switch u.in {
		case 'n':
			takeBack(u, t.top.nodes)
		case 'r':
			takeBack(u, t.top.refs)
		case 'e':
			takeBack(u, t.top.edges)
		case 'k':
			takeBack(u, t.top.kids)
		case 'b':
			takeBack(u, t.top.blobs)
		}
	}
	t.changes, t.blobs = nil, nil
}
