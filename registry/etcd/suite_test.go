package etcd

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"sync/atomic"
	"testing"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/registry/registrytest"
	"github.com/vagoth/vagoth/test/etcdtest"
)

var prefixes atomic.Int64

// fresh is the config of an empty store in the etcd at urls.
func fresh(urls ...string) Config {
	c := Defaults()
	c.Endpoints = urls
	c.Prefix = fmt.Sprintf("/vagoth-%d/", prefixes.Add(1))
	c.History = 4000
	return c
}

func openAt(t testing.TB, c Config) *Registry {
	t.Helper()
	return openWith(t, c, registry.Deps{})
}

func openWith(t testing.TB, c Config, deps registry.Deps) *Registry {
	t.Helper()
	r, err := Open(t.Context(), c, deps)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSuite(t *testing.T) {
	urls := etcdtest.ForSuite(t)
	registrytest.Run(t, func(t *testing.T) registry.Registry { return openAt(t, fresh(urls...)) })
}

// several is a cluster's managers as one registry: each call goes to another one.
type several struct {
	managers []*Registry
	turn     atomic.Uint64
}

func (s *several) next() *Registry { return s.managers[s.turn.Add(1)%uint64(len(s.managers))] }

func (s *several) View(ctx context.Context, _ ...registry.ReadOption) (registry.Reader, error) {
	return s.next().View(ctx, registry.Consistent())
}

// Update sees in List and Keys, too, what was committed before.
func (s *several) Update(ctx context.Context, fn func(registry.Tx) error) error {
	m := s.next()
	if _, err := m.View(ctx, registry.Consistent()); err != nil {
		return err
	}
	return m.Update(ctx, fn)
}

func (s *several) Watch(ctx context.Context, q registry.Query, from registry.Cursor) iter.Seq2[registry.Change, error] {
	m := s.managers[0] // a cursor is older than what the others remember, if they were opened later
	// What was committed before the call through another one has arrived here.
	if _, err := m.View(ctx, registry.Consistent()); err != nil {
		return func(yield func(registry.Change, error) bool) {
			if ctx.Err() == nil {
				yield(registry.Change{}, err)
			}
		}
	}
	return m.Watch(ctx, q, from)
}

func (s *several) Close() error {
	var errs []error
	for _, m := range s.managers {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// Whatever one manager promises, three together do, if they are asked for
// consistent reads.
func TestSuiteSeveralManagers(t *testing.T) {
	urls := etcdtest.ForSuite(t)
	registrytest.Run(t, func(t *testing.T) registry.Registry {
		c, s := fresh(urls...), &several{}
		for range 3 {
			s.managers = append(s.managers, openAt(t, c))
		}
		return s
	})
}
