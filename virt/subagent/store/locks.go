package store

import (
	"context"
	"fmt"
	"sync"

	"github.com/vagoth/vagoth/virt"
)

// Locks has a lock for each name. The zero Locks are fine.
type Locks struct {
	mu    sync.Mutex
	locks map[string]*lock
}

type lock struct {
	held  chan struct{}
	users int
}

// Hold takes the lock of a name and returns what gives it back.
func (l *Locks) Hold(ctx context.Context, name string) (release func(), err error) {
	l.mu.Lock()
	if l.locks == nil {
		l.locks = map[string]*lock{}
	}
	one := l.locks[name]
	if one == nil {
		one = &lock{held: make(chan struct{}, 1)}
		l.locks[name] = one
	}
	one.users++
	l.mu.Unlock()
	leave := func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if one.users--; one.users == 0 {
			delete(l.locks, name)
		}
	}
	select {
	case one.held <- struct{}{}:
		return func() { <-one.held; leave() }, nil
	case <-ctx.Done():
		leave()
		return nil, ctx.Err()
	}
}

// Uses counts who clones an image, so that nobody removes it meanwhile. The zero
// Uses are fine.
type Uses struct {
	mu    sync.Mutex
	using map[string]int // -1 while it is being removed
}

// Clone keeps an image from being removed until done is called.
func (u *Uses) Clone(id string) (done func(), err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.using[id] < 0 {
		return nil, fmt.Errorf("%w: the image %s is being removed", virt.ErrConflict, id)
	}
	return u.add(id, 1), nil
}

// Remove keeps an image from being cloned until done is called.
func (u *Uses) Remove(id string) (done func(), err error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.using[id] != 0 {
		return nil, fmt.Errorf("%w: the image %s is being cloned or removed: try again", virt.ErrConflict, id)
	}
	return u.add(id, -1), nil
}

func (u *Uses) add(id string, n int) (done func()) {
	if u.using == nil {
		u.using = map[string]int{}
	}
	u.using[id] += n
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.using[id] -= n; u.using[id] == 0 {
			delete(u.using, id)
		}
	}
}
