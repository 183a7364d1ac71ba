package etcd

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/vagoth/vagoth/internal/etcdtest"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/registry/registrytest"
)

var prefixes atomic.Int64

// fresh is the config of an empty store in the etcd at url.
func fresh(url string) Config {
	c := Defaults()
	c.Endpoints = []string{url}
	c.Prefix = fmt.Sprintf("/vagoth-%d/", prefixes.Add(1))
	c.History = 4000
	return c
}

func openAt(t testing.TB, c Config) *Registry {
	t.Helper()
	r, err := Open(t.Context(), c, registry.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestSuite(t *testing.T) {
	url := etcdtest.Embedded(t)
	registrytest.Run(t, func(t *testing.T) registry.Registry { return openAt(t, fresh(url)) })
}
