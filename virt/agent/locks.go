package agent

import (
	"context"
	"sync"
)

// gates are semaphores by name that exist only while somebody uses them. With
// room for one they are locks.
type gates struct {
	room int

	mu   sync.Mutex
	open map[string]*gate
}

type gate struct {
	places chan struct{}
	users  int // that are inside or wait
}

func newGates(room int) *gates { return &gates{room: room, open: map[string]*gate{}} }

// enter waits for a place. Unless there is an error, leave gives it back.
func (g *gates) enter(ctx context.Context, name string) (leave func(), err error) {
	g.mu.Lock()
	at := g.open[name]
	if at == nil {
		at = &gate{places: make(chan struct{}, g.room)}
		g.open[name] = at
	}
	at.users++
	g.mu.Unlock()
	select {
	case at.places <- struct{}{}:
		return func() {
			<-at.places
			g.left(name, at)
		}, nil
	default:
	}
	select {
	case at.places <- struct{}{}:
		return func() {
			<-at.places
			g.left(name, at)
		}, nil
	case <-ctx.Done():
		g.left(name, at)
		return nil, ctx.Err()
	}
}

func (g *gates) left(name string, at *gate) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if at.users--; at.users == 0 {
		delete(g.open, name)
	}
}

// len is how many names are in use.
func (g *gates) len() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return len(g.open)
}
