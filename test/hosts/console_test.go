package hosts

import (
	"log/slog"
	"testing"

	"github.com/vagoth/vagoth/test/testbed"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/drivertest"
	"github.com/vagoth/vagoth/virt/remote"
)

// A manager elsewhere reaches the console of a guest that runs Linux, through the
// agent of its host.
func TestConsole(t *testing.T) {
	t.Parallel()
	h := newHost(t, "one")
	drivertest.RunConsole(t, func(t *testing.T) drivertest.Fixture {
		d, err := remote.Open(t.Context(), remote.Defaults(), virt.DriverDeps{Name: "agents", Log: slog.New(slog.DiscardHandler)})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
		return drivertest.Fixture{
			Driver: d,
			Hosts:  []virt.Host{{ID: "h1", Address: h.url}},
			Guest: func(*testing.T) virt.Guest {
				def := virt.Filled("web1", virt.Definition{CPU: 1, Memory: 128, Boot: virt.Boot{Kernel: h.kernel, Initrd: h.initrd, Cmdline: "console=ttyS0"}})
				return virt.Guest{ID: "web1", UUID: def.UUID, Name: "web1", Definition: def}
			},
			Console: &drivertest.Console{Says: testbed.GuestUp},
			Timeout: patience,
		}
	})
}
