package etcd

import (
	"context"
	"math/rand"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vagoth/vagoth/internal/testlong"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/registry/registrytest"
	"github.com/vagoth/vagoth/test/etcdtest"
)

// managers opens so many on one fresh store, whose clocks differ, and jump back and
// forth.
func managers(t *testing.T, c Config, n int) []registry.Registry {
	var all []registry.Registry
	for range n {
		all = append(all, openWith(t, c, registry.Deps{Now: jumping()}))
	}
	return all
}

// jumping is a clock that is set anew, by up to a year, every few times that it is
// looked at.
func jumping() func() time.Time {
	var looks, ahead atomic.Int64
	return func() time.Time {
		if looks.Add(1)%5 == 0 {
			ahead.Store(int64(time.Duration(rand.Intn(2*365*24)-365*24) * time.Hour))
		}
		return time.Now().Add(time.Duration(ahead.Load()))
	}
}

// Three managers race for the same words.
func TestHistories(t *testing.T) {
	url := etcdtest.Embedded(t)
	registrytest.RunHistories(t, registrytest.Histories{
		Rounds: testlong.Count(t, 200), Clients: 8, Calls: 63,
		Open: func(t *testing.T) []registry.Registry { return managers(t, fresh(url), 3) },
	})
}

// The same, while members of etcd are killed, held and taken off the network.
func TestHistoriesUnderFaults(t *testing.T) {
	cluster := etcdtest.Start(t)
	registrytest.RunHistories(t, registrytest.Histories{
		Rounds: testlong.Count(t, 200), Clients: 8, Calls: 63,
		Open: func(t *testing.T) []registry.Registry {
			cluster.Ready(time.Minute)
			c := fresh("")
			c.Endpoints = cluster.URLs()
			c.Timeout, c.Probe = 5*time.Second, 500*time.Millisecond
			return managers(t, c, 3)
		},
		Disturb: func(ctx context.Context, rnd *rand.Rand) {
			defer cluster.Mend()
			for ctx.Err() == nil {
				i := rnd.Intn(etcdtest.Size)
				[]func(int){cluster.Kill, cluster.Stop, cluster.Cut}[rnd.Intn(3)](i)
				wait(ctx, time.Duration(200+rnd.Intn(1500))*time.Millisecond)
				cluster.Mend()
				wait(ctx, time.Duration(rnd.Intn(500))*time.Millisecond)
			}
		},
	})
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
