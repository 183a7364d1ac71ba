package sim

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/drivertest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func open(t testing.TB, change func(*Config)) *Driver {
	t.Helper()
	cfg := Defaults()
	if change != nil {
		change(&cfg)
	}
	d, err := Open(t.Context(), cfg, virt.DriverDeps{Name: "sim"})
	if err != nil {
		t.Fatal(err)
	}
	return d
}

var (
	h1 = virt.Host{ID: "h1"}
	h2 = virt.Host{ID: "h2"}
)

// vm makes a guest with one disk.
func vm(name string) virt.Guest {
	u := uuid.NewSHA1(uuid.NameSpaceDNS, []byte(name)).String()
	return virt.Guest{ID: name, UUID: u, Name: name, Definition: virt.Definition{
		UUID: u, Type: "vm", CPU: 2, Memory: 512, Disks: []virt.Disk{{Bus: "virtio", Device: "vda", Size: 1024, Volume: name + "-disk-0"}},
	}}
}

// up makes a guest run on a host.
func up(t testing.TB, d *Driver, h virt.Host, g virt.Guest) {
	t.Helper()
	for _, err := range []error{
		d.Provision(t.Context(), h, g), d.Define(t.Context(), h, g), d.Power(t.Context(), h, g, virt.PowerStart),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestConformance(t *testing.T) {
	for name, change := range map[string]func(*testing.T, *Config){
		"memory": func(*testing.T, *Config) {},
		"path":   func(t *testing.T, c *Config) { c.Path = component.Path(t.TempDir()) },
		"slow": func(_ *testing.T, c *Config) {
			c.Latency, c.Jitter, c.Fetch = time.Millisecond, time.Millisecond, 20*time.Millisecond
		},
	} {
		t.Run(name, func(t *testing.T) {
			var n atomic.Int64
			drivertest.Run(t, func(t *testing.T) drivertest.Fixture {
				d := open(t, func(c *Config) { c.Shutdown = 20 * time.Millisecond; change(t, c) })
				volume := func(g virt.Guest, i int) string {
					if s := g.Definition.Disks[i].Source; s != "" {
						return s[len("/sources/"):]
					}
					return g.Definition.Disks[i].Volume
				}
				return drivertest.Fixture{
					Driver: d, Hosts: []virt.Host{h1, {ID: "other", Address: "h2"}}, Settle: 2 * time.Second,
					Guest: func(*testing.T) virt.Guest { return vm(fmt.Sprintf("g%d", n.Add(1))) },
					Container: func(*testing.T) virt.Guest {
						g := vm(fmt.Sprintf("c%d", n.Add(1)))
						g.Definition.Type, g.Definition.Disks = virt.TypeContainer, nil
						return g
					},
					Image: func(*testing.T) virt.ImageRequest {
						id := fmt.Sprintf("image%d", n.Add(1))
						return virt.ImageRequest{ID: id, Source: "http://127.0.0.1/" + id, Size: 1 << 20}
					},
					Console: &drivertest.Console{Type: "hello", Says: "login: hello"},
					Hung:    func(*testing.T) virt.Host { d.Hang("hung"); return virt.Host{ID: "hung"} },
					Disks: &drivertest.Disks{
						Mark: func(t *testing.T, h virt.Host, g virt.Guest, i int, text string) {
							if err := d.WriteDisk(nameOf(h), volume(g, i), text); err != nil {
								t.Error(err)
							}
						},
						Read: func(t *testing.T, h virt.Host, g virt.Guest, i int) (string, bool) {
							text, ok, err := d.Disk(nameOf(h), volume(g, i))
							if err != nil {
								t.Error(err)
							}
							return text, ok
						},
						Source: func(t *testing.T, h virt.Host, text string) string {
							given := vm(fmt.Sprintf("given%d", n.Add(1)))
							if err := d.Provision(t.Context(), h, given); err != nil {
								t.Error(err)
							}
							v := given.Definition.Disks[0].Volume
							if err := d.WriteDisk(nameOf(h), v, text); err != nil {
								t.Error(err)
							}
							return "/sources/" + v
						},
					},
				}
			})
		})
	}
}

func TestDefineOfARunningGuest(t *testing.T) {
	d, g := open(t, nil), vm("web")
	up(t, d, h1, g)
	changed := g
	changed.Definition.CPU++
	if err := d.Define(t.Context(), h1, changed); !errors.Is(err, virt.ErrBusy) {
		t.Errorf("defining a running guest anew: %v, want ErrBusy", err)
	}
	if info, err := d.Info(t.Context(), h1, g); err != nil || info.CPU != g.Definition.CPU {
		t.Errorf("it has %d CPUs (%v), want %d", info.CPU, err, g.Definition.CPU)
	}
}

func TestVolumesOfOthers(t *testing.T) {
	d, g, thief := open(t, nil), vm("web"), vm("thief")
	if err := d.Provision(t.Context(), h1, g); err != nil {
		t.Fatal(err)
	}
	thief.Definition.Disks = g.Definition.Disks
	if err := d.Provision(t.Context(), h1, thief); !errors.Is(err, virt.ErrConflict) {
		t.Errorf("provisioning a volume of another guest: %v, want ErrConflict", err)
	}
	if err := d.Deprovision(t.Context(), h1, thief); err != nil {
		t.Error(err)
	}
	if _, ok, err := d.Disk("h1", "web-disk-0"); !ok || err != nil {
		t.Errorf("the volume of another guest is gone (%v)", err)
	}
	// It is in the way of a guest that would bring one of the same name, too.
	other := vm("other")
	other.Definition.Disks = g.Definition.Disks
	if err := errors.Join(d.Provision(t.Context(), h2, other), d.Define(t.Context(), h2, other)); err != nil {
		t.Fatal(err)
	}
	if err := d.Migrate(t.Context(), h2, h1, other, false); !errors.Is(err, virt.ErrConflict) {
		t.Errorf("migrating onto a volume of another guest: %v, want ErrConflict", err)
	}
	if _, err := d.Info(t.Context(), h2, other); err != nil {
		t.Errorf("after a refused migrate: %v", err)
	}
}
