package memdb_test

import (
	"errors"
	"testing"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/registry/memdb"
)

// A released key is free for others, and nothing else of the node changes; a
// key that somebody else holds stays with them.
func TestReleasedKeys(t *testing.T) {
	t.Parallel()
	r, err := memdb.Memory(registry.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	ctx := t.Context()
	for _, d := range []registry.Draft{{ID: "a", Name: "a", Type: "any", Keys: []string{"k1", "k2"}}, {ID: "b", Name: "b", Type: "any", Keys: []string{"k3"}}} {
		if _, err := registry.Create(ctx, r, d); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := registry.ClaimKeys(ctx, r, "b", "k1"); !errors.Is(err, registry.ErrConflict) {
		t.Fatalf("a held key was claimed: %v", err)
	}
	n, err := registry.ReleaseKeys(ctx, r, "a", "k1", "k3")
	if err != nil || n.NumKeys() != 1 || !n.HasKey("k2") {
		t.Fatalf("after the release a holds %v (%v)", n.Keys(), err)
	}
	if n, err = registry.ClaimKeys(ctx, r, "b", "k1"); err != nil || !n.HasKey("k1") || !n.HasKey("k3") {
		t.Fatalf("b holds %v (%v)", n.Keys(), err)
	}
}
