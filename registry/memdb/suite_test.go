package memdb

import (
	"testing"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/registry/registrytest"
)

func TestSuiteInMemory(t *testing.T) {
	registrytest.Run(t, func(t *testing.T) registry.Registry {
		db, err := Memory(registry.Deps{})
		if err != nil {
			t.Fatal(err)
		}
		return db
	})
}
