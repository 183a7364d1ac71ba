package poll

import (
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/vagoth/vagoth/internal/testlong"
	"github.com/vagoth/vagoth/monitor"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/registry/memdb"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/sim"
)

// cluster is a virt.Cluster of simulated hosts over a registry in memory.
type cluster struct {
	reg registry.Registry
	db  *memdb.DB
	sim *sim.Driver
}

func (c *cluster) Parts() virt.Parts {
	return virt.Parts{Registry: c.reg, Drivers: map[string]virt.Driver{"sim": c.sim}, Now: time.Now}
}

// newCluster makes hosts with VMs that run on them.
func newCluster(tb testing.TB, hosts, vms int) *cluster {
	tb.Helper()
	db, err := memdb.Memory(registry.Deps{})
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { _ = db.Close() })
	s, err := sim.Open(tb.Context(), sim.Defaults(), virt.DriverDeps{Name: "sim"})
	if err != nil {
		tb.Fatal(err)
	}
	for h := range hosts {
		host := fmt.Sprintf("host%04d", h)
		err := db.Update(tb.Context(), func(tx registry.Tx) error {
			def, err := registry.NewDocument(virt.HostDefinition{Driver: "sim"})
			if err != nil {
				return err
			}
			if _, err := tx.Create(registry.Draft{ID: host, Name: host, Type: virt.TypeHypervisor, Definition: def}); err != nil {
				return err
			}
			for v := range vms {
				id := fmt.Sprintf("vm%04d-%02d", h, v)
				def, err := registry.NewDocument(virt.Definition{CPU: 2, Memory: 2048, Disks: []virt.Disk{{Size: 10240}},
					NICs: []virt.NIC{{Network: "default", MAC: fmt.Sprintf("52:54:00:%02x:%02x:%02x", h>>8, h&255, v)}}})
				if err != nil {
					return err
				}
				if _, err := tx.Create(registry.Draft{ID: id, Name: id, Type: virt.TypeVM, Parent: host, State: string(virt.Defined), Definition: def}); err != nil {
					return err
				}
				if err := s.AddStranger(host, virt.Seen{UUID: virt.UUIDOf(id, virt.Definition{}), Name: id, State: virt.Running, CPU: 2, Memory: 2048}); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			tb.Fatal(err)
		}
	}
	return &cluster{reg: db, db: db, sim: s}
}

// cpu is the processor time that this process has used.
func cpu(tb testing.TB) time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkPoll is a poll that finds nothing new: 1,000 hosts with 20 VMs each
// with VAGOTH_LONG=1, 50 otherwise.
func BenchmarkPoll(b *testing.B) {
	hosts, vms := 50, 20
	if testlong.Long() {
		hosts = 1000
	}
	b.Run(fmt.Sprintf("hosts=%d/vms=%d", hosts, vms), func(b *testing.B) {
		c := newCluster(b, hosts, vms)
		m, err := Open(b.Context(), Defaults(), monitor.Deps{Cluster: c})
		if err != nil {
			b.Fatal(err)
		}
		defer func() { _ = m.Close() }()
		first := cpu(b)
		rep, err := m.Poll(b.Context())
		if err != nil || rep.Written != hosts*(vms+1) {
			b.Fatalf("the first poll wrote %d nodes, %v", rep.Written, err)
		}
		first = cpu(b) - first
		runtime.GC()
		before, used := c.db.Stats(), cpu(b)
		b.ReportAllocs()
		for b.Loop() {
			if rep, err = m.Poll(b.Context()); err != nil {
				b.Fatal(err)
			}
		}
		used = cpu(b) - used
		if after := c.db.Stats(); after.Revision != before.Revision || rep.Written != 0 {
			b.Fatalf("polls that found nothing new wrote: revision %d to %d", before.Revision, after.Revision)
		}
		b.ReportMetric(used.Seconds()/float64(b.N), "cpu-s/poll")
		b.ReportMetric(first.Seconds(), "cpu-s/first-poll")
		b.ReportMetric(0, "writes/poll")
	})
}
