package registrytest

import (
	"fmt"

	"github.com/vagoth/vagoth/registry"
)

// PerHost is how many VMs stand on a host among the nodes of Sample.
const PerHost = 20

// Sample is the i-th of many nodes: every 21st a host, the others on it.
func Sample(i int) registry.Draft {
	host := i / (PerHost + 1)
	d := registry.Draft{
		ID: fmt.Sprintf("hv-%06d", host), Name: fmt.Sprintf("host%06d", host), Type: "hypervisor", State: "up",
		Tags: map[string]string{"rack": fmt.Sprintf("r%d", host%400), "ssd": ""},
	}
	if n := i % (PerHost + 1); n > 0 {
		parent := d.ID
		d = registry.Draft{
			ID: fmt.Sprintf("8f3c%04x-6c1b-4d2e-9a%02x-%012x", i*7919%65536, i%256, i), Name: fmt.Sprintf("web-%07d", i), Type: "vm", Tenant: fmt.Sprintf("tenant%d", i%500),
			Parent: parent, State: []string{"running", "off", "paused"}[i%3],
			Tags: map[string]string{"role": fmt.Sprintf("role%d", i%1000), "batch": ""},
			Keys: []string{fmt.Sprintf("mac-52:54:00:%02x:%02x:%02x", i>>16&255, i>>8&255, i&255), fmt.Sprintf("ip-10.%d.%d.%d", i>>16&255, i>>8&255, i&255)},
		}
		d.Definition = registry.TrustedDocument(fmt.Sprintf(`{"cpu":2,"disks":[{"name":"root","size":10240}],"memory":4096,"nics":[{"mac":"%06x","network":"lan"}],"type":"kvm"}`, i))
	}
	return d
}
