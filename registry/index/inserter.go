package index

import "github.com/vagoth/vagoth/registry"

// inserter writes the references of a snapshot's nodes into the finder, a chunk at
// a time beside whoever decodes the next chunk and gathers its postings: on two
// cores a store opens in half the time. The references belong to it until wait.
type inserter struct {
	make *edits

	chunk []*registry.Node
	done  chan struct{} // closed when the chunk under way is done; nil if there is none
}

// inserted is how many nodes make a chunk.
const inserted = 4096

// add takes a node.
func (i *inserter) add(n *registry.Node) {
	if i.chunk = append(i.chunk, n); len(i.chunk) == inserted {
		i.begin()
	}
}

// begin starts on the chunk when the one before it is done.
func (i *inserter) begin() {
	i.settle()
	chunk, done := i.chunk, make(chan struct{})
	i.chunk, i.done = make([]*registry.Node, 0, inserted), done
	go func() {
		defer close(done)
		for _, n := range chunk {
			i.make.claim(entry{after: n})
		}
	}()
}

// wait returns when all that was taken is in the finder.
func (i *inserter) wait() {
	if len(i.chunk) > 0 {
		i.begin()
	}
	i.settle()
}

// settle waits for the chunk under way.
func (i *inserter) settle() {
	if i.done != nil {
		<-i.done
		i.done = nil
	}
}
