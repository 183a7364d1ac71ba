package registry

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
)

// CopyOptions modify Copy.
type CopyOptions struct {
	Progress func(done Counts) // called after each Update, if set
}

// Copied is what Copy did.
type Copied struct {
	Counts        // written by this call
	Found  Counts // there already, from a copy that was broken off
}

// CopyError says how far a copy got.
type CopyError struct {
	Done Counts
	Err  error
}

func (e *CopyError) Error() string {
	if e.Done == (Counts{}) {
		return fmt.Sprintf("cannot copy: %v; nothing was written", e.Err)
	}
	return fmt.Sprintf("cannot copy: %v; %d nodes and %d blobs were written before: the same copy, begun again, goes on behind them", e.Err, e.Done.Nodes, e.Done.Blobs)
}

func (e *CopyError) Unwrap() error { return e.Err }

// Copy writes into to every node and blob that from has, a parent before its
// children, many to an Update: with all that its writer gave it, its times and its
// trail. Revisions are those of the new store.
//
// to is empty, or holds a part of from and nothing else, which is what a copy that
// was broken off leaves: then what is missing is added. Anything else is refused
// with a *DifferenceError before anything is written. Its transactions are
// Restorers.
func Copy(ctx context.Context, from Reader, to Registry, o CopyOptions) (Copied, error) {
	there, err := to.View(ctx, Consistent())
	if err != nil {
		return Copied{}, &CopyError{Err: err}
	}
	c := copier{
		importer: importer{ctx: ctx, r: to, progress: o.Progress, stamps: map[string]Stamp{}},
		from:     from, there: there,
	}
	if c.found, err = part(ctx, there, from); err != nil {
		return Copied{}, &CopyError{Err: err}
	}
	for n, listErr := range from.List(Query{Parent: Is("")}) {
		if err = listErr; err == nil {
			err = walk(from, n, c.node)
		}
		if err != nil {
			break
		}
	}
	if err == nil {
		err = c.flush()
	}
	done := Copied{Counts: c.done, Found: c.found}
	if err != nil {
		var at *ImportError
		if errors.As(err, &at) {
			err = at.Err
		}
		return done, &CopyError{Done: c.done, Err: err}
	}
	return done, nil
}

// copier is one Copy.
type copier struct {
	importer
	from, there Reader // there is the target before
	found       Counts
}

// node adds what the target lacks of n.
func (c *copier) node(n *Node) error {
	if err := c.ctx.Err(); err != nil {
		return err
	}
	had, err := c.there.Get(n.ID())
	if errors.Is(err, ErrNotFound) {
		had, err = nil, c.write(n, exportLine{Node: &wireNode{n.Draft(), n.stamp}})
	}
	if err != nil {
		return err
	}
	for _, info := range n.stamp.Blobs {
		if had != nil && slices.Contains(had.stamp.Blobs, info) {
			continue
		}
		data, err := c.from.Blob(n.id, info.Key)
		if err != nil {
			return err
		}
		if err := c.write(n, exportLine{Blob: &exportBlob{Node: n.id, BlobInfo: info, Data: data}}); err != nil {
			return err
		}
	}
	return nil
}

// write adds a line of n, which can flush those before it.
func (c *copier) write(n *Node, l exportLine) error {
	if err := c.add(0, l); err != nil {
		return err
	}
	c.stamps[n.id] = n.stamp
	return nil
}

// part counts what small holds, all of which large has to hold.
func part(ctx context.Context, small, large Reader) (n Counts, err error) {
	for s, err := range small.List(Query{}) {
		if err = errors.Join(err, ctx.Err()); err != nil {
			return n, err
		}
		l, err := large.Get(s.ID())
		if errors.Is(err, ErrNotFound) {
			return n, &DifferenceError{Node: s.ID(), What: "only the target has it"}
		}
		if err != nil {
			return n, err
		}
		if err := sameNode(l, s, false); err != nil {
			return n, err
		}
		for _, b := range s.stamp.Blobs {
			if !slices.Contains(l.stamp.Blobs, b) {
				return n, &DifferenceError{Node: s.ID(), What: fmt.Sprintf("the blob %s is another one", b.Key)}
			}
		}
		n.Nodes++
		n.Blobs += len(s.stamp.Blobs)
	}
	return n, nil
}

// DifferenceError names the first difference between two stores.
type DifferenceError struct {
	Node string
	What string
}

func (e *DifferenceError) Error() string {
	return fmt.Sprintf("the stores differ in node %s: %s", e.Node, e.What)
}

// Digest is what two stores have in common that hold the same.
type Digest struct {
	Counts
	SHA256 string `json:"sha256"` // over all nodes, without their revisions, and their blobs
}

// Compare reads all of both and returns a *DifferenceError unless they hold the
// same, apart from revisions.
func Compare(ctx context.Context, a, b Reader) (Digest, error) {
	var d Digest
	sum := sha256.New()
	next, stop := iter.Pull2(b.List(Query{}))
	defer stop()
	for na, err := range a.List(Query{}) {
		if err = errors.Join(err, ctx.Err()); err != nil {
			return d, err
		}
		nb, err, ok := next()
		switch {
		case err != nil:
			return d, err
		case !ok || nb.id > na.id:
			return d, &DifferenceError{Node: na.id, What: "the second has none"}
		case nb.id < na.id:
			return d, &DifferenceError{Node: nb.id, What: "the first has none"}
		}
		if err := sameNode(na, nb, true); err != nil {
			return d, err
		}
		_, _ = sum.Write(content(na, true))
		for _, info := range na.stamp.Blobs {
			da, err := a.Blob(na.id, info.Key)
			if err != nil {
				return d, err
			}
			db, err := b.Blob(nb.id, info.Key)
			if err != nil {
				return d, err
			}
			if !bytes.Equal(da, db) {
				return d, &DifferenceError{Node: na.id, What: fmt.Sprintf("the blob %s is another one", info.Key)}
			}
			_, _ = sum.Write(da)
			d.Blobs++
		}
		d.Nodes++
	}
	if nb, err, ok := next(); err != nil {
		return d, err
	} else if ok {
		return d, &DifferenceError{Node: nb.id, What: "the first has none"}
	}
	d.SHA256 = hex.EncodeToString(sum.Sum(nil))
	return d, nil
}

// content is a node as far as two stores can agree on it.
func content(n *Node, blobs bool) []byte {
	s := n.stamp
	s.Revision = 0
	if !blobs {
		s.Blobs = nil
	}
	data, _ := json.Marshal(wireNode{n.Draft(), s}) //nolint:errchkjson // texts, numbers, times that can be stored, and documents that were checked
	return data
}

// sameNode returns what differs first in the content of two nodes of one ID.
func sameNode(a, b *Node, blobs bool) error {
	ca, cb := content(a, blobs), content(b, blobs)
	if bytes.Equal(ca, cb) {
		return nil
	}
	var ma, mb map[string]json.RawMessage
	if err := errors.Join(json.Unmarshal(ca, &ma), json.Unmarshal(cb, &mb)); err != nil {
		return &DifferenceError{Node: a.id, What: err.Error()}
	}
	differ := map[string]bool{}
	for _, m := range []map[string]json.RawMessage{ma, mb} {
		for k := range m {
			if !bytes.Equal(ma[k], mb[k]) {
				differ[k] = true
			}
		}
	}
	// When a node was written says less than what was.
	keys := slices.SortedFunc(maps.Keys(differ), func(a, b string) int {
		return cmp.Or(cmp.Compare(slices.Index(stampKeys, a), slices.Index(stampKeys, b)), strings.Compare(a, b))
	})
	return &DifferenceError{Node: a.id, What: fmt.Sprintf("%s is %s and %s", keys[0], quoted(ma[keys[0]]), quoted(mb[keys[0]]))}
}

// stampKeys are those of a stamp in a node's JSON form.
var stampKeys = []string{"created_at", "updated_at", "changed"}

// quoted is a value of a node, cut short, for a message.
func quoted(v json.RawMessage) string {
	if len(v) == 0 {
		return "not there"
	}
	return fmt.Sprintf("%.80s", v)
}
