package score_test

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/allocator/score"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/registry/memdb"
	"github.com/vagoth/vagoth/virt"
)

// perHost is how many VMs stand on a host on average.
const perHost = 10

func benchHosts() []int {
	if os.Getenv("VAGOTH_BENCH") == "small" {
		return []int{100}
	}
	return []int{100, 1000, 5000, 10000}
}

// unplaced is how many VMs a host has room for beside those.
const unplaced = 50

// pick is the VM of the i-th placement: first those on no host, then all again.
func pick(i, hosts int) string {
	return fmt.Sprintf("vm%06d", (hosts*perHost+i)%(hosts*(perHost+unplaced)))
}

// cluster fills a registry with hosts and VMs, and unplaced ones for n
// placements.
func cluster(b *testing.B, r registry.Registry, hosts, n int) {
	b.Helper()
	var drafts []registry.Draft
	for i := range hosts {
		doc, err := registry.NewDocument(virt.HostDefinition{Driver: "sim", CPU: 128, Memory: 1 << 20, Disk: 20 << 20})
		if err != nil {
			b.Fatal(err)
		}
		id := fmt.Sprintf("hv%05d", i)
		drafts = append(drafts, registry.Draft{ID: id, Name: id, Type: virt.TypeHypervisor, State: "up", Definition: doc, Tags: map[string]string{"rack": fmt.Sprint(i % 40)}})
	}
	for i := range hosts*perHost + min(n, hosts*unplaced) {
		id := fmt.Sprintf("vm%06d", i)
		doc, err := registry.NewDocument(virt.Definition{
			CPU: 1 + i%4, Memory: 1024 << (i % 3), Disks: []virt.Disk{{Size: 10240}},
			NICs: []virt.NIC{{MAC: fmt.Sprintf("52:54:00:%02x:%02x:%02x", i>>16, i>>8&255, i&255)}},
		})
		if err != nil {
			b.Fatal(err)
		}
		vm := registry.Draft{ID: id, Name: id, Type: virt.TypeVM, Definition: doc}
		if i < hosts*perHost {
			vm.Parent = fmt.Sprintf("hv%05d", i%hosts)
		}
		drafts = append(drafts, vm)
	}
	for part := range slices.Chunk(drafts, 40) {
		err := r.Update(b.Context(), func(tx registry.Tx) error {
			for _, d := range part {
				if _, err := tx.Create(d); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
}

// place is the whole of a placement: the decision on a snapshot, and the
// transaction that reads the host and its children again, checks and sets the
// parent.
func place(ctx context.Context, r registry.Registry, a allocator.Allocator, need func(*registry.Node) (allocator.Resources, error), id string) error {
	v, err := r.View(ctx)
	if err != nil {
		return err
	}
	vm, err := v.Get(id)
	if err != nil {
		return err
	}
	n, err := need(vm)
	if err != nil {
		return err
	}
	d, err := a.Decide(ctx, v, allocator.Request{ID: id, Type: "vm", Need: n})
	if err != nil {
		return err
	}
	return r.Update(ctx, func(tx registry.Tx) error {
		node, err := tx.Get(d.Host)
		if err != nil {
			return err
		}
		h, ok := virt.AllocatorHost(node)
		if !ok {
			return fmt.Errorf("%s is no host", d.Host)
		}
		children, err := tx.Children(d.Host)
		if err != nil {
			return err
		}
		used, err := allocator.Used(children.Nodes, need, id)
		if err != nil {
			return err
		}
		if ruled := allocator.Fits(h, d.Over, used, n); len(ruled) > 0 {
			return fmt.Errorf("%s is full: %+v", d.Host, ruled)
		}
		_, err = registry.ModifyIn(tx, id, func(d *registry.Draft) error { d.Parent = node.ID(); return nil }, registry.MovingFrom(vm.Parent()))
		return err
	})
}

func openBench(b *testing.B, policy string) (allocator.Allocator, func(*registry.Node) (allocator.Resources, error)) {
	cfg := score.Defaults()
	cfg.Policy = policy
	a, err := score.Open(b.Context(), cfg, allocator.Deps{Host: virt.AllocatorHost, Need: virt.Need})
	if err != nil {
		b.Fatal(err)
	}
	return a, allocator.MemoNeed(virt.Need, 1<<19)
}

// warm makes need know every VM, as it does in a process that has run a while.
func warm(b *testing.B, r registry.Registry, need func(*registry.Node) (allocator.Resources, error)) {
	vms, err := registry.Collect(b.Context(), r, registry.Query{Type: virt.TypeVM})
	if err != nil {
		b.Fatal(err)
	}
	for _, vm := range vms {
		if _, err := need(vm); err != nil {
			b.Fatal(err)
		}
	}
	runtime.GC()
}

// cpu is the processor time that the process has used: what a machine shared
// with others does not distort.
func cpu(b *testing.B) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkPlace places one VM after the other on one core, in memory, with the
// reservation.
func BenchmarkPlace(b *testing.B) {
	for _, hosts := range benchHosts() {
		for _, policy := range []string{score.Spread, score.Pack} {
			b.Run(fmt.Sprint("hosts=", hosts, "/", policy), func(b *testing.B) {
				r, err := memdb.Memory(registry.Deps{})
				if err != nil {
					b.Fatal(err)
				}
				defer func() { _ = r.Close() }()
				cluster(b, r, hosts, b.N+1)
				a, need := openBench(b, policy)
				warm(b, r, need)
				defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
				if err := place(b.Context(), r, a, need, pick(b.N, hosts)); err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				b.ResetTimer()
				before := cpu(b)
				for i := range b.N {
					if err := place(b.Context(), r, a, need, pick(i, hosts)); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "placements/s")
				b.ReportMetric(float64(b.N)/(cpu(b)-before).Seconds(), "placements/cpu-s")
			})
		}
	}
}

// BenchmarkDecide is the decision alone, on a snapshot that does not change.
func BenchmarkDecide(b *testing.B) {
	for _, hosts := range benchHosts() {
		r, err := memdb.Memory(registry.Deps{})
		if err != nil {
			b.Fatal(err)
		}
		cluster(b, r, hosts, 0)
		v, err := r.View(b.Context())
		if err != nil {
			b.Fatal(err)
		}
		for name, c := range map[string]allocator.Constraints{
			"plain":       {},
			"constrained": {Require: map[string]*string{"rack": nil}, Apart: []string{"group=web"}, Prefer: map[string]*string{"rack": registry.Is("7")}},
		} {
			b.Run(fmt.Sprint("hosts=", hosts, "/", name), func(b *testing.B) {
				a, _ := openBench(b, score.Spread)
				req := allocator.Request{Type: "vm", Need: allocator.Resources{CPU: 1, Memory: 1024, Disk: 1024}, Constraints: c}
				for b.Loop() {
					if _, err := a.Decide(b.Context(), v, req); err != nil {
						b.Fatal(err)
					}
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "decisions/s")
			})
		}
		_ = r.Close()
	}
}

// BenchmarkPlaceSynced is the rate with 16 callers, each placement on disk.
func BenchmarkPlaceSynced(b *testing.B) {
	for _, hosts := range benchHosts() {
		b.Run(fmt.Sprint("hosts=", hosts), func(b *testing.B) {
			cfg := memdb.Defaults()
			r, err := memdb.Open(b.Context(), cfg, registry.Deps{Data: b.TempDir()})
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = r.Close() }()
			cluster(b, r, hosts, b.N+1)
			a, need := openBench(b, score.Spread)
			if err := place(b.Context(), r, a, need, pick(b.N, hosts)); err != nil {
				b.Fatal(err)
			}
			warm(b, r, need)
			var next atomic.Int64
			b.ResetTimer()
			var wg sync.WaitGroup
			for range 16 {
				wg.Go(func() {
					for {
						i := int(next.Add(1)) - 1
						if i >= b.N {
							return
						}
						if err := place(b.Context(), r, a, need, pick(i, hosts)); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "placements/s")
		})
	}
}
