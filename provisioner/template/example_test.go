package template_test

import (
	"context"
	"fmt"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/provisioner/template"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/registry/memdb"
	"github.com/vagoth/vagoth/virt"
)

// A template, a size and a network make a definition with an address of it.
func Example() {
	ctx := context.Background()
	r, err := memdb.Memory(registry.Deps{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = r.Close() }()

	cfg := template.Defaults() // of the sections in vagoth.ini:
	cfg.Templates = map[string]template.Template{"debian": {Disks: []component.Size{8 << 30}, Nets: []string{"lan"}}}
	cfg.Sizes = map[string]template.Size{"small": {CPU: 1, Memory: 512 << 20}}
	cfg.Networks = map[string]template.Network{"lan": {CIDR: "192.0.2.0/24", Range: []string{"192.0.2.10"}, Gateway: "192.0.2.1"}}
	p, err := template.Open(ctx, cfg, provisioner.Deps{Registry: r, Types: map[string]provisioner.Class{"vm": virt.VMClass()}})
	if err != nil {
		fmt.Println(err)
		return
	}

	_, err = p.Provision(ctx, provisioner.Spec{ID: "web1", Type: "vm", Args: map[string]string{"template": "debian", "size": "small"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	v, err := r.View(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	n, err := v.ByKey("ip-192.0.2.10")
	fmt.Println(n.Name(), err)

	_, err = p.Provision(ctx, provisioner.Spec{ID: "web2", Type: "vm", Args: map[string]string{"template": "debian", "size": "small"}})
	fmt.Println(err)
	// Output:
	// web1 <nil>
	// cannot provision "web2": network lan is exhausted: 1 of its 1 addresses are in use: deprovision what is not needed, or widen its range
}
