package index

import (
	"bytes"
	"context"
	"maps"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/vagoth/vagoth/registry"
)

// memLog keeps the records, as a journal would.
type memLog struct{ records [][]byte }

func (l *memLog) Append(recs [][]byte) (uint64, error) {
	for _, r := range recs {
		l.records = append(l.records, bytes.Clone(r))
	}
	return uint64(len(l.records)), nil
}
func (l *memLog) Published(Snapshot)   {}
func (l *memLog) Close(Snapshot) error { return nil }

// again loads what a snapshot and the records after it hold.
func again(tb rapid.TB, snapshot, records [][]byte) *DB {
	db, err := newDB(registry.Deps{}.WithDefaults())
	if err != nil {
		tb.Fatal(err)
	}
	l := newLoader(db)
	for _, r := range snapshot {
		if err := l.snapshot(r); err != nil {
			tb.Fatal(err)
		}
	}
	for _, r := range records {
		if err := l.entry(r); err != nil {
			tb.Fatal(err)
		}
	}
	l.end()
	return db
}

func snapshotOf(tb rapid.TB, db *DB) [][]byte {
	var recs [][]byte
	for r, err := range db.state.Load().snapshot(db.store) {
		if err != nil {
			tb.Fatal(err)
		}
		recs = append(recs, bytes.Clone(r))
	}
	return recs
}

// A snapshot taken anywhere in the history and the records after it make the
// same store as all the records.
func TestReplayMakesTheSameStore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		ctx := context.Background()
		db, err := Memory(registry.Deps{})
		if err != nil {
			t.Fatal(err)
		}
		log := &memLog{records: [][]byte{appendHeader(nil, header{store: db.store})}}
		db.log = log
		var snapshots [][][]byte
		var from []int
		id := rapid.SampledFrom([]string{"a", "b", "c", "d"})
		for range rapid.IntRange(1, 40).Draw(t, "updates") {
			if rapid.IntRange(0, 9).Draw(t, "snapshot") == 0 {
				snapshots, from = append(snapshots, snapshotOf(t, db)), append(from, len(log.records))
			}
			_ = db.Update(ctx, func(tx registry.Tx) error {
				for range rapid.IntRange(1, 4).Draw(t, "steps") {
					id := id.Draw(t, "id")
					switch rapid.IntRange(0, 5).Draw(t, "step") {
					case 0:
						_ = tx.Delete(id)
					case 1:
						_ = tx.PutBlob(id, "x", rapid.SliceOfN(rapid.Byte(), 0, 3).Draw(t, "blob"))
					case 2:
						_ = tx.PutBlob(id, "x", nil)
					case 3:
						_, _ = tx.Create(registry.Draft{ID: id, Name: id, Type: "vm", Parent: rapid.SampledFrom([]string{"", "a"}).Draw(t, "parent")})
					default:
						n, err := tx.Get(id)
						if err != nil {
							continue
						}
						d := n.Draft()
						d.Parent = rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "parent")
						d.State = rapid.SampledFrom([]string{"", "on"}).Draw(t, "state")
						d.Keys = rapid.SliceOfN(rapid.SampledFrom([]string{"k1", "k2", "k3"}), 0, 2).Draw(t, "keys")
						d.Tags = map[string]string{"t": d.State}
						_, _ = tx.Put(d, registry.MovingFrom(n.Parent()), registry.Forced())
					}
				}
				return nil
			})
		}
		want := snapshotOf(t, db)
		compare := func(got *DB) {
			if !slices.EqualFunc(snapshotOf(t, got), want, bytes.Equal) {
				t.Fatalf("replayed\n%q\nwant\n%q", snapshotOf(t, got), want)
			}
			same(t, got, db)
		}
		compare(again(t, nil, log.records))
		for i := range snapshots {
			compare(again(t, snapshots[i], log.records[from[i]:]))
			compare(again(t, snapshots[i], log.records[1:])) // with what it holds already
		}
	})
}

// same compares what finds nodes, which no snapshot holds.
func same(tb rapid.TB, got, want *DB) {
	rows := func(db *DB) map[string][]string {
		m := map[string][]string{}
		s := db.state.Load()
		s.whole().lists.walk(func(p *posting) {
			s.posting(p.attr).walk("", func(n *registry.Node) bool { m[p.attr.String()] = append(m[p.attr.String()], n.ID()); return true })
		})
		for what, list := range map[string]*sorted[owned]{"keys": s.whole().keys, "names": s.whole().names} {
			list.walk("", func(o owned) bool { m[what] = append(m[what], o.ref+" "+o.id); return true })
		}
		if p := s.audit(); len(p) > 0 {
			tb.Fatalf("the index has problems: %q", p)
		}
		return m
	}
	if g, w := rows(got), rows(want); !maps.EqualFunc(g, w, slices.Equal) {
		tb.Fatalf("the postings are %q, want %q", g, w)
	}
}
