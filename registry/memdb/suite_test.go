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
		db.history.maxCount = 4000
		return db
	})
}

func TestSuiteOnDisk(t *testing.T) {
	registrytest.Run(t, func(t *testing.T) registry.Registry { return openDir(t, t.TempDir()) })
}

func openDir(t testing.TB, dir string) *DB {
	t.Helper()
	c := Defaults()
	c.History = 4000
	db, err := Open(t.Context(), c, registry.Deps{Data: dir})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	db := openDir(t, dir)
	n, err := registry.Create(t.Context(), db, registry.Draft{ID: "a", Name: "a", Type: "vm"})
	if err != nil {
		t.Fatal(err)
	}
	store := db.store
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	db = openDir(t, dir)
	got, err := registry.Get(t.Context(), db, "a")
	if err != nil || !got.Same(n.Draft()) || got.Revision() != n.Revision() || !got.CreatedAt().Equal(n.CreatedAt()) || db.store != store {
		t.Fatal(got, err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}
