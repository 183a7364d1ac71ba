package standard_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/vagoth/vagoth/manager/standard"
	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
)

// The whole way of a VM, as a script goes it.
func Example() {
	dir, err := os.MkdirTemp("", "vagoth-example")
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ini := filepath.Join(dir, "vagoth.ini")
	if err := os.WriteFile(ini, []byte("[drivers.sim]\nuse = sim\n"), 0o600); err != nil {
		log.Fatal(err)
	}

	ctx := trail.With(context.Background(), trail.New("ann", "a first look"))
	m, err := standard.Open(ctx, ini)
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = m.Close() }()

	for _, spec := range []provisioner.Spec{
		{ID: "hv1", Type: "hv", Definition: document(virt.HostDefinition{Driver: "sim"})},
		{ID: "web1", Type: "vm", Definition: document(virt.Definition{CPU: 1, Memory: 512}), Keys: []string{"asset-4711"}},
	} {
		if _, err := m.Provisioner.Provision(ctx, spec); err != nil {
			log.Fatal(err)
		}
	}
	if _, err := m.Monitor.Poll(ctx); err != nil { // a hypervisor is given VMs once it was seen
		log.Fatal(err)
	}

	vm, err := virt.VM(ctx, m, "web1")
	if err != nil {
		log.Fatal(err)
	}
	job, err := vm.Start(ctx) // queued; it is defined first if it has no host
	if err != nil {
		log.Fatal(err)
	}
	if job, err = virt.Wait(ctx, m, job); err != nil {
		log.Fatal(err)
	}
	state, err := vm.State(ctx)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(job.Action, job.State, "and web1 is", state)

	for hv, err := range virt.Hypervisors(ctx, m) {
		if err != nil {
			log.Fatal(err)
		}
		children, err := hv.Children(ctx)
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(hv.Name(), "has", len(children))
	}
	// Output:
	// vm_start succeeded and web1 is running
	// hv1 has 1
}

func document(v any) registry.Document {
	d, err := registry.NewDocument(v)
	if err != nil {
		log.Fatal(err)
	}
	return d
}
