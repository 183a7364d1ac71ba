// Package bench measures the whole of vagoth at the size of a cluster.
package bench

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/manager/standard"
	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
)

// BenchmarkCluster provisions VMs with an address from a pool, and defines and
// starts them over simulated hosts, every step synced, by 16 callers; then it
// polls. One iteration is the whole cluster.
func BenchmarkCluster(b *testing.B) {
	hosts, vms := 200, 10_000
	if os.Getenv("VAGOTH_BENCH") == "small" {
		hosts, vms = 10, 100
	}
	b.Run(fmt.Sprintf("hosts=%d/vms=%d", hosts, vms), func(b *testing.B) {
		for range b.N {
			m := open(b)
			addHosts(b, m, hosts)
			began := time.Now()
			each(b, vms, func(i int) error {
				_, err := m.Provisioner.Provision(b.Context(), provisioner.Spec{
					ID: fmt.Sprintf("vm%d", i), Type: virt.TypeVM, Args: map[string]string{"template": "linux", "size": "small"},
				})
				return err
			})
			provisioned := time.Now()
			each(b, vms, func(i int) error {
				vm, err := virt.VM(b.Context(), m, fmt.Sprintf("vm%d", i))
				if err != nil {
					return err
				}
				job, err := vm.Start(b.Context())
				if err == nil {
					_, err = virt.Wait(b.Context(), m, job)
				}
				return err
			})
			started := time.Now()
			report, err := m.Monitor.Poll(b.Context())
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(vms)/provisioned.Sub(began).Seconds(), "provisioned/s")
			b.ReportMetric(float64(vms)/started.Sub(provisioned).Seconds(), "started/s")
			b.ReportMetric(report.Took.Seconds(), "s/poll")
			running, err := registry.Collect(b.Context(), m.Registry, registry.Query{State: string(virt.Running)})
			if err != nil || len(running) != vms {
				b.Fatalf("%d of %d VMs run (%v)", len(running), vms, err)
			}
			if err := m.Close(); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func open(b *testing.B) *manager.Manager {
	b.Helper()
	ini := filepath.Join(b.TempDir(), "vagoth.ini")
	const text = `[drivers.sim]
use = sim
[template.linux]
network = lan
[size.small]
cpu = 1
memory = 1GiB
[network.lan]
cidr = 10.0.0.0/16
`
	if err := os.WriteFile(ini, []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
	m, err := standard.Open(b.Context(), ini)
	if err != nil {
		b.Fatal(err)
	}
	return m
}

func addHosts(b *testing.B, m *manager.Manager, n int) {
	b.Helper()
	doc, err := registry.NewDocument(virt.HostDefinition{Driver: "sim", CPU: 64, Memory: 256 << 10})
	if err != nil {
		b.Fatal(err)
	}
	each(b, n, func(i int) error {
		_, err := m.Provisioner.Provision(trail.With(b.Context(), trail.New("bench", "")), provisioner.Spec{
			ID: fmt.Sprintf("hv%d", i), Type: virt.TypeHypervisor, Definition: doc,
		})
		return err
	})
	if _, err := m.Monitor.Poll(b.Context()); err != nil {
		b.Fatal(err)
	}
}

// each calls fn for 0 to n-1 from 16 callers and fails on the first error.
func each(b *testing.B, n int, fn func(i int) error) {
	b.Helper()
	const callers = 16
	errs := make(chan error, callers)
	var wg sync.WaitGroup
	for c := range callers {
		wg.Go(func() {
			for i := c; i < n; i += callers {
				if err := fn(i); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(errs)
	for err := range errs {
		b.Fatal(err)
	}
}
