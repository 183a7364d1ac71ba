package agent

import (
	"context"
	"sync"
	"time"
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
	if leave, ok := g.tryEnter(name); ok {
		return leave, nil
	}
	at := g.at(name)
	select {
	case at.places <- struct{}{}:
		return func() { g.leave(name, at) }, nil
	case <-ctx.Done():
		g.left(name, at)
		return nil, ctx.Err()
	}
}

// enterSoon is enter with a time after which it is given up. A free place, as
// there mostly is one, costs no timer.
func (g *gates) enterSoon(ctx context.Context, name string, soon time.Duration) (leave func(), err error) {
	if leave, ok := g.tryEnter(name); ok {
		return leave, nil
	}
	ctx, cancel := context.WithTimeout(ctx, soon)
	defer cancel()
	return g.enter(ctx, name)
}

func (g *gates) tryEnter(name string) (leave func(), ok bool) {
	at := g.at(name)
	select {
	case at.places <- struct{}{}:
		return func() { g.leave(name, at) }, true
	default:
		g.left(name, at)
		return nil, false
	}
}

func (g *gates) at(name string) *gate {
	g.mu.Lock()
	defer g.mu.Unlock()
	at := g.open[name]
	if at == nil {
		at = &gate{places: make(chan struct{}, g.room)}
		g.open[name] = at
	}
	at.users++
	return at
}

func (g *gates) leave(name string, at *gate) {
	<-at.places
	g.left(name, at)
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
