package index

import (
	"fmt"
	"slices"
	"testing"

	"github.com/vagoth/vagoth/registry"
)

// A list answers the same whether most nodes have the attr, or few, and while
// that changes; what an earlier view shows stays as it was.
func TestBroadListsAnswerAlike(t *testing.T) {
	db, err := Memory(registry.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	on := attr{kind: attrState, a: "on"}
	var want []string // those that are on
	var all int
	put := func(from, to int, state string) {
		t.Helper()
		err := db.Update(t.Context(), func(tx registry.Tx) error {
			for i := from; i < to; i++ {
				d := registry.Draft{ID: fmt.Sprintf("n%05d", i*7919%20011), Type: "vm", State: state}
				d.Name = d.ID
				old, err := tx.Get(d.ID)
				switch {
				case state == "":
					err = tx.Delete(d.ID)
					all--
				case err != nil:
					_, err = tx.Create(d)
					all++
				default:
					_, err = tx.Put(d)
				}
				if err != nil {
					return err
				}
				if old != nil && old.State() == "on" {
					at, _ := slices.BinarySearch(want, d.ID)
					want = slices.Delete(want, at, at+1)
				}
				if state == "on" {
					at, _ := slices.BinarySearch(want, d.ID)
					want = slices.Insert(want, at, d.ID)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	type view struct {
		r    registry.Reader
		want []string
	}
	var views []view
	ids := func(r registry.Reader, q registry.Query) (ids []string) {
		for n, err := range r.List(q) {
			if err != nil {
				t.Fatal(err)
			}
			ids = append(ids, n.ID())
		}
		return ids
	}
	check := func(v view) {
		t.Helper()
		if got := ids(v.r, registry.Query{State: "on"}); !slices.Equal(got, v.want) {
			t.Fatalf("%d nodes are listed, want %d", len(got), len(v.want))
		}
		for _, after := range []string{"n00700", "n09999", "n20010"} {
			i, found := slices.BinarySearch(v.want, after)
			if found {
				i++
			}
			if got := ids(v.r, registry.Query{State: "on", After: after, Limit: 5}); !slices.Equal(got, v.want[i:min(i+5, len(v.want))]) {
				t.Fatalf("after %s come %q", after, got)
			}
		}
	}
	for _, s := range []struct {
		from, to int
		state    string
		broad    bool
	}{
		{0, 400, "on", false},      // too few
		{400, 1000, "off", false},  //
		{1000, 2600, "on", true},   // most
		{2600, 4600, "off", true},  // 2000 of 4600
		{4600, 9000, "off", false}, // less than a quarter
		{0, 400, "off", false},     //
		{2000, 9000, "on", true},   // most again
		{3000, 8900, "", true},     // 2100 of 3100
		{1000, 2800, "off", false}, // 300 of 3100
		{400, 1000, "on", false},   // 900
		{0, 2000, "on", true},      // 2300
		{0, 1000, "", true},        // 1300 of 2100
		{2000, 2800, "", true},     // all that is left
		{1000, 1900, "", false},    // 400 are too few
	} {
		for at := s.from; at < s.to; at += 97 {
			put(at, min(at+97, s.to), s.state)
		}
		if p, _ := db.state.Load().whole().lists.get(on); p.broad != s.broad {
			t.Fatalf("after %v: %d of %d nodes are on, and the list is broad: %v", s, p.n, all, p.broad)
		}
		if found := db.state.Load().audit(); len(found) > 0 {
			t.Fatalf("after %v there are %d problems: %.300q", s, len(found), found)
		}
		r, err := db.View(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		views = append(views, view{r, slices.Clone(want)})
		check(views[len(views)-1])
	}
	for _, v := range views {
		check(v)
	}
}
