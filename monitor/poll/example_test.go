package poll_test

import (
	"context"
	"fmt"

	"github.com/vagoth/vagoth/monitor"
	"github.com/vagoth/vagoth/monitor/poll"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/registry/memdb"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/sim"
)

// parts is a cluster without a manager.
type parts virt.Parts

func (p parts) Parts() virt.Parts { return virt.Parts(p) }

func Example() {
	ctx := context.Background()
	reg, err := memdb.Memory(registry.Deps{})
	if err != nil {
		panic(err)
	}
	defer func() { _ = reg.Close() }()
	hosts, err := sim.Open(ctx, sim.Defaults(), virt.DriverDeps{})
	if err != nil {
		panic(err)
	}
	definition, err := registry.NewDocument(virt.HostDefinition{Driver: "sim"})
	if err != nil {
		panic(err)
	}
	if _, err := registry.Create(ctx, reg, registry.Draft{ID: "host1", Name: "host1", Type: virt.TypeHypervisor, Definition: definition}); err != nil {
		panic(err)
	}

	m, err := poll.Open(ctx, poll.Defaults(), monitor.Deps{Cluster: parts{Registry: reg, Drivers: map[string]virt.Driver{"sim": hosts}}})
	if err != nil {
		panic(err)
	}
	defer func() { _ = m.Close() }()
	for range 2 {
		report, err := m.Poll(ctx)
		if err != nil {
			panic(err)
		}
		fmt.Println(report.Hosts[0].Name, report.Hosts[0].State, "written:", report.Written)
		hosts.Unreachable("host1")
	}
	// Output:
	// host1 up written: 1
	// host1 unreachable written: 1
}
