package index

import (
	"slices"
	"sort"
	"sync"

	"github.com/vagoth/vagoth/registry"
)

// commit is one committed Update, as watchers see it.
type commit struct {
	rev     uint64
	changes []registry.Change // without cursors
	cost    int
}

// history remembers the latest commits, as many as fit its bounds. Commits that
// it handed out stay valid when it forgets them.
type history struct {
	maxCount, maxBytes int

	mu     sync.Mutex
	list   []*commit // a part of a slice that is only ever appended to
	count  int       // changes
	bytes  int
	before uint64 // every later commit is in the list
}

// nodeCost is about what remembering one side of a change pins, beside the
// documents.
const nodeCost = 1 << 10

func costOf(changes []registry.Change) int {
	cost := 0
	for _, c := range changes {
		// Only Before is pinned by the history alone; After is current for a while.
		for _, n := range []*registry.Node{c.Before, c.After} {
			if n != nil {
				cost += nodeCost + n.Definition().Len() + n.Metadata().Len()
			}
		}
	}
	return cost
}

func (h *history) add(commits ...*commit) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range commits {
		h.count += len(c.changes)
		h.bytes += c.cost
	}
	h.list = append(h.list, commits...)
	for len(h.list) > 0 && (h.count > h.maxCount || h.bytes > h.maxBytes) {
		c := h.list[0]
		h.count -= len(c.changes)
		h.bytes -= c.cost
		h.before = c.rev
		h.list[0] = nil
		h.list = h.list[1:]
	}
}

// since returns the commits after revision from, up to revision to, at most
// limit of them. ok is false if some are no longer remembered.
func (h *history) since(from, to uint64, limit int) (commits []*commit, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if from < h.before {
		return nil, false
	}
	i := sort.Search(len(h.list), func(i int) bool { return h.list[i].rev > from })
	j := sort.Search(len(h.list), func(j int) bool { return h.list[j].rev > to })
	if i >= j {
		return nil, true
	}
	return slices.Clone(h.list[i:min(j, i+limit)]), true
}

// restart forgets all commits up to rev.
func (h *history) restart(rev uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.list, h.count, h.bytes, h.before = nil, 0, 0, rev
}
