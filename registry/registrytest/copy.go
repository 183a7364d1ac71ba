package registrytest

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"time"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/trail"
)

// testRestored: a transaction can give what it wrote other times and another
// trail, and nothing else.
func testRestored(t *testing.T, r registry.Registry) {
	optional := false
	update(t, r, func(tx registry.Tx) error {
		_, optional = tx.(registry.Restorer)
		return nil
	})
	if !optional {
		t.Skip("its transactions are no registry.Restorer, which is optional")
	}
	create(t, r, registry.Draft{ID: "before"})
	was := registry.Stamp{
		CreatedAt: time.Date(2001, 2, 3, 4, 5, 6, 7, time.UTC), UpdatedAt: time.Date(2002, 3, 4, 5, 6, 7, 8, time.UTC),
		Changed: trail.Trail{Transaction: "t-1", Source: "somebody", Reason: "because"},
	}
	update(t, r, func(tx registry.Tx) error {
		if _, err := tx.Create(registry.Draft{ID: "a", Name: "a", Type: "vm"}); err != nil {
			return err
		}
		keep := tx.(registry.Restorer) //nolint:forcetypeassert // it was one above
		return errors.Join(tx.PutBlob("a", "b", []byte("data")), keep.Restore("a", was))
	})
	n, err := view(t, r).Get("a")
	if err != nil {
		t.Fatal(err)
	}
	if !n.CreatedAt().Equal(was.CreatedAt) || !n.UpdatedAt().Equal(was.UpdatedAt) || n.Changed() != was.Changed {
		t.Errorf("restored as %+v, want the times and the trail of %+v", n.Stamp(), was)
	}
	if n.Revision() == 0 || len(n.Blobs()) != 1 {
		t.Errorf("revision %d and %d blobs: they are the store's own", n.Revision(), len(n.Blobs()))
	}
	for id, want := range map[string]error{"before": registry.ErrInvalid, "nobody": registry.ErrNotFound} {
		err := r.Update(t.Context(), func(tx registry.Tx) error {
			return tx.(registry.Restorer).Restore(id, was) //nolint:forcetypeassert // it was one above
		})
		if !errors.Is(err, want) {
			t.Errorf("restoring %s: %v, want %v", id, err, want)
		}
	}
	if n, err := view(t, r).Get("before"); err != nil || n.CreatedAt().Equal(was.CreatedAt) {
		t.Errorf("a node that was not written has other times: %v, %v", n, err)
	}
}

// testCopy: see Promises.
func testCopy(t *testing.T, open Open) {
	from, to := open(t), open(t)
	defer func() {
		for _, r := range []registry.Registry{from, to} {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		}
	}()
	fill(t, from)
	if _, err := registry.SetState(trail.With(t.Context(), trail.New("somebody", "because")), from, "n100", "off"); err != nil {
		t.Fatal(err)
	}
	source := view(t, from)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	broken, err := registry.Copy(ctx, source, to, registry.CopyOptions{Progress: func(done registry.Counts) {
		if done.Nodes > 100 {
			cancel()
		}
	}})
	var at *registry.CopyError
	if !errors.As(err, &at) || !errors.Is(err, context.Canceled) || at.Done != broken.Counts || broken.Nodes < 100 || broken.Nodes > 200 {
		t.Fatalf("broken off: %+v, %v", broken, err)
	}
	if _, err := registry.Compare(t.Context(), source, view(t, to)); !errors.As(err, new(*registry.DifferenceError)) {
		t.Fatalf("half a copy compares with %v", err)
	}
	steps := 0
	rest, err := registry.Copy(t.Context(), source, to, registry.CopyOptions{Progress: func(registry.Counts) { steps++ }})
	if err != nil || rest.Found != broken.Counts || rest.Nodes+broken.Nodes != 251 || rest.Blobs+broken.Blobs != 3 || steps < 3 {
		t.Fatalf("the rest: %+v in %d Updates, %v; before it %+v", rest, steps, err, broken)
	}
	d, err := registry.Compare(t.Context(), source, view(t, to))
	if err != nil || d.Counts != (registry.Counts{Nodes: 251, Blobs: 3}) || len(d.SHA256) != 64 {
		t.Fatalf("compared: %+v, %v", d, err)
	}
	if again, err := registry.Copy(t.Context(), source, to, registry.CopyOptions{}); err != nil || again.Counts != (registry.Counts{}) || again.Found != d.Counts {
		t.Fatalf("copied again: %+v, %v", again, err)
	}
	before, _ := source.Get("n100")
	after, _ := view(t, to).Get("n100")
	if !after.CreatedAt().Equal(before.CreatedAt()) || after.Changed().Reason != "because" || !after.UpdatedAt().After(after.CreatedAt()) {
		t.Errorf("the copy of n100 has the stamp %+v, the node %+v", after.Stamp(), before.Stamp())
	}
	for name, change := range map[string]struct {
		change, back func(registry.Tx) error
	}{
		"one more": {
			func(tx registry.Tx) error {
				_, err := tx.Create(registry.Draft{ID: "more", Name: "more", Type: "vm"})
				return err
			},
			func(tx registry.Tx) error { return tx.Delete("more") },
		},
		"another blob": {
			func(tx registry.Tx) error { return tx.PutBlob("n007", "small", []byte("other")) },
			func(tx registry.Tx) error {
				n, err := source.Get("n007")
				if err != nil {
					return err
				}
				return errors.Join(tx.PutBlob("n007", "small", []byte("x\x00y")), tx.(registry.Restorer).Restore("n007", n.Stamp())) //nolint:forcetypeassert // or Copy had failed
			},
		},
	} {
		update(t, to, change.change)
		var diff *registry.DifferenceError
		if got, err := registry.Copy(t.Context(), source, to, registry.CopyOptions{}); !errors.As(err, &diff) || got.Counts != (registry.Counts{}) {
			t.Errorf("%s: copied %+v, %v", name, got, err)
		}
		if _, err := registry.Compare(t.Context(), source, view(t, to)); !errors.As(err, new(*registry.DifferenceError)) {
			t.Errorf("%s: compared: %v", name, err)
		}
		update(t, to, change.back)
		if _, err := registry.Compare(t.Context(), source, view(t, to)); err != nil {
			t.Errorf("%s: taken back: %v", name, err)
		}
	}
	if b, err := view(t, to).Blob("z", "big"); err != nil || !bytes.Equal(b, bytes.Repeat([]byte("\xff\x00"), registry.MaxBlob/2)) {
		t.Errorf("the large blob has %d bytes, %v", len(b), err)
	}
}
