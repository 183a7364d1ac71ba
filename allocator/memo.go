package allocator

import (
	"sync"

	"github.com/vagoth/vagoth/registry"
)

// MemoNeed returns need with a memory of what it answered, so that a definition
// is decoded once and not for each decision and each reservation. need must
// depend on the node's type and definition only. It remembers between size/2
// and size answers, those used last. It is safe for concurrent use.
func MemoNeed(need func(*registry.Node) (Resources, error), size int) func(*registry.Node) (Resources, error) {
	m := &memo{need: need, half: max(size/2, 1), young: map[memoKey]Resources{}}
	return m.of
}

// memo is two generations: what is found in the old one moves to the young one,
// and when that is full the old one is forgotten.
type memo struct {
	need func(*registry.Node) (Resources, error)
	half int

	mu         sync.RWMutex
	young, old map[memoKey]Resources
}

type memoKey struct {
	typ        string
	definition registry.Document
}

func (m *memo) of(n *registry.Node) (Resources, error) {
	k := memoKey{n.Type(), n.Definition()}
	m.mu.RLock()
	r, ok := m.young[k]
	m.mu.RUnlock()
	if ok {
		return r, nil
	}
	m.mu.Lock()
	r, ok = m.old[k]
	if ok {
		m.keep(k, r)
	}
	m.mu.Unlock()
	if ok {
		return r, nil
	}
	r, err := m.need(n)
	if err != nil {
		return Resources{}, err
	}
	m.mu.Lock()
	m.keep(k, r)
	m.mu.Unlock()
	return r, nil
}

func (m *memo) keep(k memoKey, r Resources) {
	if len(m.young) >= m.half {
		m.old, m.young = m.young, make(map[memoKey]Resources, m.half)
	}
	m.young[k] = r
}
