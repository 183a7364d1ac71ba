package memdb

import (
	gomemdb "github.com/hashicorp/go-memdb"

	"github.com/vagoth/vagoth/registry"
)

// inserter writes the nodes of a snapshot into the tables and their references
// into the finder, a chunk at a time beside whoever decodes the next chunk and
// gathers its postings: on two cores a store opens in half the time. The
// transaction and the references belong to it until wait.
type inserter struct {
	txn  *gomemdb.Txn
	make *edits

	chunk []*registry.Node
	done  chan error // of the chunk under way; nil if there is none
}

// inserted is how many nodes make a chunk.
const inserted = 4096

// add takes a node. The error may be that of an earlier one.
func (i *inserter) add(n *registry.Node) error {
	if i.chunk = append(i.chunk, n); len(i.chunk) < inserted {
		return nil
	}
	return i.begin()
}

// begin starts on the chunk when the one before it is done.
func (i *inserter) begin() error {
	if err := i.settle(); err != nil {
		return err
	}
	chunk, done := i.chunk, make(chan error, 1)
	i.chunk, i.done = make([]*registry.Node, 0, inserted), done
	go func() {
		for _, n := range chunk {
			i.make.claim(entry{after: n})
			if err := i.txn.Insert(nodesTable, n); err != nil {
				done <- err
				return
			}
		}
		done <- nil
	}()
	return nil
}

// wait returns when all that was taken is in the tables.
func (i *inserter) wait() error {
	if len(i.chunk) > 0 {
		if err := i.begin(); err != nil {
			return err
		}
	}
	return i.settle()
}

// settle waits for the chunk under way.
func (i *inserter) settle() error {
	if i.done == nil {
		return nil
	}
	err := <-i.done
	i.done = nil
	return err
}
