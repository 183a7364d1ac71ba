package etcd

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/registry/memdb"
	"github.com/vagoth/vagoth/test/etcdtest"
)

// size is long, or short with VAGOTH_BENCH=small.
func size(long, short int) int {
	if os.Getenv("VAGOTH_BENCH") == "small" {
		return short
	}
	return long
}

// sample is the i-th of many nodes.
func sample(i int) registry.Draft {
	return registry.Draft{
		ID: fmt.Sprintf("8f3c%04x-6c1b-4d2e-9a%02x-%012x", i*7919%65536, i%256, i), Name: fmt.Sprintf("web-%07d", i), Type: "vm", State: "running",
		Tags: map[string]string{"role": fmt.Sprintf("role%d", i%1000), "batch": ""}, Keys: []string{fmt.Sprintf("ip-10.%d.%d.%d", i>>16&255, i>>8&255, i&255)},
		Definition: registry.TrustedDocument(fmt.Sprintf(`{"cpu":2,"disks":[{"name":"root","size":10240}],"memory":4096,"nics":[{"mac":"%06x"}],"type":"kvm"}`, i)),
	}
}

// fill makes n nodes, thirty to an Update, with sixteen callers.
func fill(b *testing.B, r registry.Registry, n int) {
	b.Helper()
	callers(b, 16, (n+29)/30, func(i int) error {
		return r.Update(b.Context(), func(tx registry.Tx) error {
			for k := 30 * i; k < min(n, 30*(i+1)); k++ {
				if _, err := tx.Create(sample(k)); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// callers calls fn for 0 to n-1, so many at a time, and returns how long it took.
func callers(b *testing.B, at, n int, fn func(i int) error) time.Duration {
	b.Helper()
	var next atomic.Int64
	var all sync.WaitGroup
	began := time.Now()
	for range at {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := fn(i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	return time.Since(began)
}

func benched(b *testing.B) (Config, *Registry) {
	b.Helper()
	c := Defaults()
	c.Endpoints = []string{etcdtest.Run(b, etcdtest.Options{}).URL()}
	r := openAt(b, c)
	b.Cleanup(func() { _ = r.Close() })
	return c, r
}

// BenchmarkRead reads by ID, name and key beside the embedded registry with the
// same nodes, in turns; the ratio is its time over ours. Then the store is opened
// once more.
func BenchmarkRead(b *testing.B) {
	n, reads := size(100_000, 1000), size(300_000, 3000)
	c, r := benched(b)
	fill(b, r, n)
	embedded, err := memdb.Memory(registry.Deps{})
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = embedded.Close() }()
	fill(b, embedded, n)
	for what, get := range map[string]func(v registry.Reader, d registry.Draft) (*registry.Node, error){
		"id":   func(v registry.Reader, d registry.Draft) (*registry.Node, error) { return v.Get(d.ID) },
		"name": func(v registry.Reader, d registry.Draft) (*registry.Node, error) { return v.ByName(d.Name) },
		"key":  func(v registry.Reader, d registry.Draft) (*registry.Node, error) { return v.ByKey(d.Keys[0]) },
	} {
		b.Run(what, func(b *testing.B) {
			wanted := make([]registry.Draft, 1000)
			for i := range wanted {
				wanted[i] = sample(i * 7919 % n)
			}
			loop := func(r registry.Registry) time.Duration {
				began := time.Now()
				for i := range reads {
					v, err := r.View(b.Context())
					if err != nil {
						b.Fatal(err)
					}
					if _, err := get(v, wanted[i%len(wanted)]); err != nil {
						b.Fatal(err)
					}
				}
				return time.Since(began)
			}
			var ours, theirs time.Duration
			for range b.N {
				ours, theirs = 0, 0
				for range 3 {
					theirs += loop(embedded)
					ours += loop(r)
				}
			}
			b.ReportMetric(float64(theirs)/float64(ours), "ratio")
			b.ReportMetric(float64(ours.Nanoseconds())/float64(3*reads), "ns/read")
		})
	}
	b.Run("open", func(b *testing.B) {
		for range b.N {
			other := openAt(b, c)
			if err := other.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkCreate creates nodes beside raw transactions of etcd of the same size: as
// many comparisons, as many keys and as many bytes. They run in turns.
func BenchmarkCreate(b *testing.B) {
	_, r := benched(b)
	ticket := uuid.NewString()
	if _, err := r.client.Put(b.Context(), "/raw/ticket", ticket); err != nil {
		b.Fatal(err)
	}
	var made atomic.Int64
	create := func(int) error {
		_, err := registry.Create(b.Context(), r, sample(int(made.Add(1))))
		return err
	}
	staged, err := r.rep.Stage(b.Context(), func(tx registry.Tx) error { _, err := tx.Create(sample(0)); return err })
	if err != nil {
		b.Fatal(err)
	}
	value := staged.Nodes[0].Data
	raw := func(int) error {
		d := sample(int(made.Add(1)))
		words := []string{d.ID, d.Name, d.Keys[0]}
		conditions := []clientv3.Cmp{clientv3.Compare(clientv3.Value("/raw/ticket"), "=", ticket)}
		writes := []clientv3.Op{clientv3.OpPut("/raw/registry/head", uuid.NewString())}
		for i, w := range words {
			data := "N" + value
			if i > 0 {
				data = "R" + d.ID
			}
			conditions, writes = append(conditions, same("/raw/registry/w/"+w, 0)), append(writes, clientv3.OpPut("/raw/registry/w/"+w, data))
		}
		_, err := r.client.Txn(b.Context()).If(conditions...).Then(writes...).
			Else(clientv3.OpGet("/raw/registry/head"), clientv3.OpGet("/raw/ticket")).Commit()
		return err
	}
	for _, at := range []int{1, 16, 256} {
		b.Run(fmt.Sprintf("callers=%d", at), func(b *testing.B) {
			n := size(map[int]int{1: 1500, 16: 8000, 256: 15_000}[at], 50)
			var ours, theirs time.Duration
			for range b.N {
				ours, theirs = 0, 0
				for range 3 {
					theirs += callers(b, at, n/3, raw)
					ours += callers(b, at, n/3, create)
				}
			}
			b.ReportMetric(float64(theirs)/float64(ours), "ratio")
			b.ReportMetric(float64(n/3*3)/ours.Seconds(), "creates/s")
			b.ReportMetric(float64(n/3*3)/theirs.Seconds(), "raw/s")
		})
	}
}

// BenchmarkSeen is how long after a create was acknowledged another manager shows
// it.
func BenchmarkSeen(b *testing.B) {
	c, r := benched(b)
	other := openAt(b, c)
	defer func() { _ = other.Close() }()
	var took []time.Duration
	for range b.N {
		took = took[:0]
		for i := range size(2000, 50) {
			d := sample(i)
			d.ID, d.Name, d.Keys = uuid.NewString(), "", nil
			d.Name = d.ID
			n, err := registry.Create(b.Context(), r, d)
			if err != nil {
				b.Fatal(err)
			}
			acknowledged := time.Now()
			ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
			if err := other.rep.Wait(ctx, n.Revision()); err != nil {
				b.Fatal(err)
			}
			cancel()
			took = append(took, time.Since(acknowledged))
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs-median")
	b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "µs-99%")
	b.ReportMetric(0, "ns/op")
}
