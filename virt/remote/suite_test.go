package remote

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/drivertest"
	host "github.com/vagoth/vagoth/virt/sim"
)

// disksOf looks into the disks of simulated hosts behind agents; name says what
// the simulation calls a host.
func disksOf(d *host.Driver, name func(virt.Host) string, n *atomic.Int64) *drivertest.Disks {
	volume := func(g virt.Guest, i int) string {
		if s := g.Definition.Disks[i].Source; s != "" {
			return s[len("/sources/"):]
		}
		return g.Definition.Disks[i].Volume
	}
	return &drivertest.Disks{
		Mark: func(t *testing.T, h virt.Host, g virt.Guest, i int, text string) {
			if err := d.WriteDisk(name(h), volume(g, i), text); err != nil {
				t.Error(err)
			}
		},
		Read: func(t *testing.T, h virt.Host, g virt.Guest, i int) (string, bool) {
			text, ok, err := d.Disk(name(h), volume(g, i))
			if err != nil {
				t.Error(err)
			}
			return text, ok
		},
		Source: func(t *testing.T, h virt.Host, text string) string {
			given := vm(fmt.Sprintf("given%d", n.Add(1)))
			if err := d.Provision(t.Context(), virt.Host{ID: name(h)}, given); err != nil {
				t.Error(err)
			}
			v := given.Definition.Disks[0].Volume
			if err := d.WriteDisk(name(h), v, text); err != nil {
				t.Error(err)
			}
			return "/sources/" + v
		},
	}
}

// plain is a driver without the capabilities that the fake agent has not.
type plain struct {
	virt.Driver
	virt.Suspender
	virt.Measurer
}

// TestConformanceOfAFakeAgent runs the suite over an agent that is in memory.
func TestConformanceOfAFakeAgent(t *testing.T) {
	var n atomic.Int64
	drivertest.Run(t, func(t *testing.T) drivertest.Fixture {
		d := simulated(t)
		f := newFake(t, d, "h1")
		driver := open(t, nil)
		return drivertest.Fixture{
			Driver: plain{driver, driver, driver}, Hosts: []virt.Host{f.host("h1")}, Settle: 2 * time.Second,
			Guest: func(*testing.T) virt.Guest { return vm(fmt.Sprintf("g%d", n.Add(1))) },
			Hung: func(t *testing.T) virt.Host {
				hung := newFake(t, d, "hung")
				d.Hang("hung")
				t.Cleanup(func() { d.Heal("hung") })
				return hung.host("hung")
			},
			Disks: disksOf(d, func(h virt.Host) string { return strings.TrimPrefix(h.ID, "agent-") }, &n),
		}
	})
}
