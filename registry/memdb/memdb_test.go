package memdb

import (
	"errors"
	"testing"

	"github.com/vagoth/vagoth/registry"
)

func TestFirst(t *testing.T) {
	db, err := Memory(registry.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	n, err := registry.Create(ctx, db, registry.Draft{ID: "a", Name: "alpha", Type: "vm", Keys: []string{"mac-1"}, Tags: map[string]string{"x": "1"}})
	if err != nil {
		t.Fatal(err)
	}
	got, err := registry.Get(ctx, db, "a")
	if err != nil || got != n {
		t.Fatalf("got %v, %v", got, err)
	}
	if _, err := registry.Create(ctx, db, registry.Draft{ID: "mac-1", Name: "b", Type: "vm"}); !errors.Is(err, registry.ErrConflict) {
		t.Fatal(err)
	}
	if _, err := registry.Rename(ctx, db, "a", "beta"); err != nil {
		t.Fatal(err)
	}
	all, err := registry.Collect(ctx, db, registry.Query{Tags: map[string]*string{"x": nil}, Name: "b*"})
	if err != nil || len(all) != 1 {
		t.Fatal(all, err)
	}
	if err := registry.Delete(ctx, db, "a"); err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
}
