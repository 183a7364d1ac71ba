package index

import (
	"testing"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/registry/registrytest"
)

func TestSuite(t *testing.T) {
	registrytest.Run(t, func(t *testing.T) registry.Registry {
		db, err := Memory(registry.Deps{})
		if err != nil {
			t.Fatal(err)
		}
		db.history.maxCount = 4000
		return db
	})
}
