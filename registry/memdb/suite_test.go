package memdb

import (
	"context"
	"testing"
	"time"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/registry/registrytest"
)

func TestMain(m *testing.M) { registrytest.Main(m, durable()) }

func TestSuiteOnDisk(t *testing.T) {
	registrytest.Run(t, func(t *testing.T) registry.Registry { return openDir(t, t.TempDir()) })
}

func TestSuiteDurable(t *testing.T) { registrytest.RunDurable(t, durable()) }

// small is a config with which snapshots are written all the time.
func small(dir string) Config {
	c := Defaults()
	c.Path = component.Path(dir)
	c.Snapshot = 64 << 10
	c.History = 4000
	return c
}

func durable() registrytest.Durable {
	return registrytest.Durable{Open: func(ctx context.Context, dir string) (registry.Registry, error) {
		db, err := Open(ctx, small(dir), registry.Deps{LockWait: 50 * time.Millisecond})
		if err != nil {
			return nil, err
		}
		return db, nil
	}}
}

// openDisk is openDir, with what keeps the commits.
func openDisk(t testing.TB, dir string) (*DB, *disk) {
	t.Helper()
	var kept *disk
	db, err := open(t.Context(), dir, small(dir), registry.Deps{}.WithDefaults(), func(d *disk) { kept = d })
	if err != nil {
		t.Fatal(err)
	}
	return db, kept
}

func openDir(t testing.TB, dir string) *DB {
	t.Helper()
	db, err := Open(t.Context(), small(dir), registry.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	return db
}
