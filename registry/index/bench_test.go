package index

import (
	"encoding/binary"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	gomemdb "github.com/hashicorp/go-memdb"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/registry/registrytest"
	"github.com/vagoth/vagoth/trail"
)

// sizes are the numbers of nodes; only the smallest with VAGOTH_BENCH=small.
func sizes() []int {
	if os.Getenv("VAGOTH_BENCH") == "small" {
		return []int{10_000}
	}
	return []int{10_000, 100_000, 1_000_000}
}

// fill makes a store of n sample nodes, in memory, as a snapshot of them loads.
func fill(tb testing.TB, n int) (db *DB, documents int) {
	tb.Helper()
	db, err := Memory(registry.Deps{})
	if err != nil {
		tb.Fatal(err)
	}
	l := newLoader(db)
	take := func(rec []byte) {
		if err := l.snapshot(rec); err != nil {
			tb.Fatal(err)
		}
	}
	hosts := (n + registrytest.PerHost) / (registrytest.PerHost + 1)
	take(appendHeader(nil, header{store: db.store, rev: uint64(n), nodes: uint64(n), edges: uint64(hosts)}))
	var rec []byte
	for _, i := range ordered(n) {
		node := registry.NewNode(registrytest.Sample(i), registry.Stamp{Revision: uint64(i/50) + 1, CreatedAt: time.Unix(int64(i), 0), UpdatedAt: time.Unix(int64(i), 5)})
		documents += node.Definition().Len() + node.Metadata().Len()
		if rec, err = appendNode(append(rec[:0], format, recNode), node, nil); err != nil {
			tb.Fatal(err)
		}
		take(rec)
	}
	for host := range hosts {
		take(binary.AppendUvarint(appendString(append(rec[:0], format, recEdge), registrytest.Sample(host*(registrytest.PerHost+1)).ID), 1))
	}
	take([]byte{format, recEnd})
	l.end()
	return db, documents
}

// ordered are the numbers of n sample nodes, ordered by ID.
func ordered(n int) []int {
	type numbered struct {
		id string
		i  int
	}
	all := make([]numbered, n)
	for i := range all {
		all[i] = numbered{registrytest.Sample(i).ID, i}
	}
	slices.SortFunc(all, func(a, b numbered) int { return strings.Compare(a.id, b.id) })
	numbers := make([]int, n)
	for i, o := range all {
		numbers[i] = o.i
	}
	return numbers
}

// rawRow and rawTables are the same nodes in go-memdb as one would write it by
// its manual.
type rawRow struct {
	ID, Name, Type, Tenant, Parent, State string
	Keys, Tags                            []string
	Definition                            string
}

func rawTables(tb testing.TB, n int) *gomemdb.MemDB {
	tb.Helper()
	indexes := map[string]*gomemdb.IndexSchema{
		"id":   {Name: "id", Unique: true, Indexer: &gomemdb.StringFieldIndex{Field: "ID"}},
		"name": {Name: "name", Unique: true, Indexer: &gomemdb.StringFieldIndex{Field: "Name"}},
		"key":  {Name: "key", Unique: true, AllowMissing: true, Indexer: &gomemdb.StringSliceFieldIndex{Field: "Keys"}},
		"tag":  {Name: "tag", AllowMissing: true, Indexer: &gomemdb.StringSliceFieldIndex{Field: "Tags"}},
	}
	for _, f := range []string{"Type", "Tenant", "Parent", "State"} {
		indexes[f] = &gomemdb.IndexSchema{Name: f, AllowMissing: true, Indexer: &gomemdb.StringFieldIndex{Field: f}}
	}
	db, err := gomemdb.NewMemDB(&gomemdb.DBSchema{Tables: map[string]*gomemdb.TableSchema{"nodes": {Name: "nodes", Indexes: indexes}}})
	if err != nil {
		tb.Fatal(err)
	}
	txn := db.Txn(true)
	for _, i := range ordered(n) {
		d := registrytest.Sample(i)
		row := &rawRow{ID: d.ID, Name: d.Name, Type: d.Type, Tenant: d.Tenant, Parent: d.Parent, State: d.State, Keys: d.Keys, Definition: d.Definition.String()}
		for k, v := range d.Tags {
			row.Tags = append(row.Tags, k, k+"="+v)
		}
		if err := txn.Insert("nodes", row); err != nil {
			tb.Fatal(err)
		}
	}
	txn.Commit()
	return db
}

// beside runs ours and raw in turns, so that both see the same machine, and
// reports how many times as fast ours is.
func beside(b *testing.B, ours, raw func(i int)) {
	b.Helper()
	b.ReportAllocs()
	var mine, theirs time.Duration
	const turn = 200
	for i := 0; i < b.N; {
		n := min(turn, b.N-i)
		begin := time.Now()
		for j := range n {
			ours(i + j)
		}
		mine += time.Since(begin)
		b.StopTimer()
		begin = time.Now()
		for j := range n {
			raw(i + j)
		}
		theirs += time.Since(begin)
		b.StartTimer()
		i += n
	}
	b.ReportMetric(float64(mine.Nanoseconds())/float64(b.N), "ns/op")
	b.ReportMetric(float64(theirs.Nanoseconds())/float64(b.N), "raw-ns/op")
	b.ReportMetric(float64(theirs)/float64(mine), "ratio")
}

func BenchmarkRead(b *testing.B) {
	for _, n := range sizes() {
		b.Run(fmt.Sprintf("nodes=%d", n), func(b *testing.B) {
			runtime.GC()
			db, _ := fill(b, n)
			raw := rawTables(b, n)
			ctx := b.Context()
			pick := func(i int) int { i = i * 7919 % n; return i - i%(registrytest.PerHost+1) + 1 + i%registrytest.PerHost }
			view := func() registry.Reader {
				v, err := db.View(ctx)
				if err != nil {
					b.Fatal(err)
				}
				return v
			}
			drafts := make([]registry.Draft, 512)
			for i := range drafts {
				drafts[i] = registrytest.Sample(min(pick(i*31), n-1))
				if drafts[i].Type != "vm" {
					drafts[i] = registrytest.Sample(1)
				}
			}
			draft := func(i int) registry.Draft { return drafts[i%len(drafts)] }
			one := func(index string, key func(registry.Draft) string, get func(registry.Reader, string) (*registry.Node, error)) func(*testing.B) {
				return func(b *testing.B) {
					beside(b, func(i int) {
						if _, err := get(view(), key(draft(i))); err != nil {
							b.Fatal(err)
						}
					}, func(i int) {
						if o, err := raw.Txn(false).First("nodes", index, key(draft(i))); err != nil || o == nil {
							b.Fatal(err)
						}
					})
				}
			}
			b.Run("get", one("id", func(d registry.Draft) string { return d.ID }, registry.Reader.Get))
			b.Run("name", one("name", func(d registry.Draft) string { return d.Name }, registry.Reader.ByName))
			b.Run("key", one("key", func(d registry.Draft) string { return d.Keys[0] }, registry.Reader.ByKey))
			list := func(index string, key func(registry.Draft) string, query func(registry.Draft) registry.Query) func(*testing.B) {
				return func(b *testing.B) {
					found, want := 0, 0
					beside(b, func(i int) {
						for _, err := range view().List(query(draft(i))) {
							if err != nil {
								b.Fatal(err)
							}
							found++
						}
					}, func(i int) {
						it, err := raw.Txn(false).Get("nodes", index, key(draft(i)))
						if err != nil {
							b.Fatal(err)
						}
						for it.Next() != nil {
							want++
						}
					})
					if found != want || found == 0 {
						b.Fatalf("listed %d nodes, go-memdb %d", found, want)
					}
					b.ReportMetric(float64(found)/float64(b.N), "nodes/op")
				}
			}
			b.Run("tag", list("tag", func(d registry.Draft) string { return "role=" + d.Tags["role"] }, func(d registry.Draft) registry.Query {
				return registry.Query{Tags: map[string]*string{"role": registry.Is(d.Tags["role"])}}
			}))
			b.Run("parent", list("Parent", func(d registry.Draft) string { return d.Parent }, func(d registry.Draft) registry.Query {
				return registry.Query{Parent: registry.Is(d.Parent)}
			}))
		})
	}
}

// BenchmarkMemory reports the memory a node takes beyond its documents.
func BenchmarkMemory(b *testing.B) {
	for _, n := range sizes() {
		b.Run(fmt.Sprintf("nodes=%d", n), func(b *testing.B) {
			for range b.N {
				before := heap()
				db, documents := fill(b, n)
				after := heap()
				b.ReportMetric(float64(after-before-uint64(documents))/float64(n), "bytes/node")
				runtime.KeepAlive(db)
			}
		})
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// BenchmarkBatch makes nodes in memory, in batches such as 128 callers gather:
// what a create costs the processor, without the journal and the switching.
func BenchmarkBatch(b *testing.B) {
	for _, n := range sizes() {
		b.Run(fmt.Sprintf("nodes=%d", n), func(b *testing.B) {
			db, _ := fill(b, n)
			const size = 128
			drafts := make([]registry.Draft, b.N)
			for i := range drafts {
				drafts[i] = registrytest.Sample(n + (registrytest.PerHost+1)*500 + i)
				drafts[i].Parent = ""
			}
			b.ReportAllocs()
			runtime.GC()
			b.ResetTimer()
			began := processorTime()
			for i := 0; i < b.N; i += size {
				for j := i; j < min(i+size, b.N); j++ {
					if err := db.lock(b.Context()); err != nil {
						b.Fatal(err)
					}
					create := func(tx registry.Tx) error { _, err := tx.Create(drafts[j]); return err }
					if _, _, err := db.run(b.Context(), trail.Trail{}, create); err != nil {
						b.Fatal(err)
					}
				}
				db.syncing <- struct{}{}
				db.flush()
				<-db.syncing
			}
			b.ReportMetric(float64((processorTime()-began).Nanoseconds())/1000/float64(b.N), "cpu-us/op")
		})
	}
}

// BenchmarkFirstList lists what a few nodes have in common, after as many creates
// as the trees of a state may lack: the longest that a listing waits for them.
func BenchmarkFirstList(b *testing.B) {
	for _, n := range sizes() {
		b.Run(fmt.Sprintf("nodes=%d", n), func(b *testing.B) {
			db, _ := fill(b, n)
			made := n + (registrytest.PerHost+1)*500
			for range b.N {
				b.StopTimer()
				for first := true; first || len(db.state.Load().late) < mostRecent(n)-1; first = false {
					d := registrytest.Sample(made)
					d.Parent = ""
					if _, err := registry.Create(b.Context(), db, d); err != nil {
						b.Fatal(err)
					}
					made++
				}
				s := db.state.Load()
				b.StartTimer()
				if l := s.posting(attr{kind: attrTenant, a: "tenant1"}); l.len() == 0 {
					b.Fatal("nothing is listed")
				}
			}
			b.ReportMetric(float64(mostRecent(n)-1), "changes")
		})
	}
}
