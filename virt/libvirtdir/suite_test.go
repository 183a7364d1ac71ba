package libvirtdir_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/vagoth/vagoth/test/testbed"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/drivertest"
	"github.com/vagoth/vagoth/virt/libvirtdir"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func config(d *testbed.Daemon) libvirtdir.Config {
	cfg := libvirtdir.Defaults()
	cfg.URI = d.URI()
	cfg.Disks = d.File("disks")
	cfg.Emulator = "qemu" // what passes for KVM on a machine that is virtual itself may not run a guest
	cfg.Private = true
	return cfg
}

// open opens a driver that is closed before the libvirtd it speaks to goes.
func open(t *testing.T, cfg libvirtdir.Config) *libvirtdir.Driver {
	t.Helper()
	d, err := libvirtdir.Open(t.Context(), cfg, virt.DriverDeps{Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

// images serves a raw disk of 1 MB under every name.
func images(t *testing.T) string {
	t.Helper()
	disk := make([]byte, 1<<20)
	copy(disk[4096:], "image")
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(disk)))
		_, _ = w.Write(disk)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// The conformance suite, on one real libvirtd for all of its subtests. Its
// guests stop at their BIOS: what a guest does when asked to shut down or
// reboot is TestRealLifecycle's of package virt/libvirt, and its console
// TestConsole's.
func TestSuite(t *testing.T) {
	t.Parallel()
	testbed.Need(t, "libvirt")
	daemon, url := testbed.Libvirt(t), images(t)
	cfg := config(daemon)
	cfg.URI = libvirtdir.Defaults().URI // the host has an address of its own
	var made atomic.Int64
	drivertest.Run(t, func(t *testing.T) drivertest.Fixture {
		return drivertest.Fixture{
			Driver: open(t, cfg),
			Hosts:  []virt.Host{{ID: "hv1", Address: daemon.URI()}},
			Guest: func(*testing.T) virt.Guest {
				id := fmt.Sprintf("suite-%d", made.Add(1))
				def := virt.Filled(id, virt.Definition{CPU: 1, Memory: 16, Disks: []virt.Disk{{Size: 1}}, NICs: []virt.NIC{{Type: "user"}}})
				return virt.Guest{ID: id, UUID: def.UUID, Name: id, Definition: def}
			},
			Image: func(*testing.T) virt.ImageRequest {
				id := fmt.Sprintf("image-%d", made.Add(1))
				return virt.ImageRequest{ID: id, Source: url + "/" + id}
			},
			Hung:         hung,
			Disks:        disks(daemon),
			NoShutdown:   true,
			NoLiveDetach: true,
			Timeout:      30 * time.Second,
			Guests:       4,
		}
	})
}

// Consoles are those of guests that run Linux.
func TestConsole(t *testing.T) {
	t.Parallel()
	kernel, initrd := testbed.Guest(t)
	daemon := testbed.Libvirt(t)
	drivertest.RunConsole(t, func(t *testing.T) drivertest.Fixture {
		return drivertest.Fixture{
			Driver: open(t, config(daemon)),
			Hosts:  []virt.Host{{ID: "hv1"}},
			Guest: func(*testing.T) virt.Guest {
				def := virt.Filled("web1", virt.Definition{CPU: 1, Memory: 128, Boot: virt.Boot{Kernel: kernel, Initrd: initrd, Cmdline: "console=ttyS0"}})
				return virt.Guest{ID: "web1", UUID: def.UUID, Name: "web1", Definition: def}
			},
			Console: &drivertest.Console{Says: testbed.GuestUp},
			Timeout: patience,
		}
	})
}

// disks looks into disks, which are files on this machine: with QEMU's programs,
// or through the QEMU that has them open.
func disks(daemon *testbed.Daemon) *drivertest.Disks {
	var sources atomic.Int64
	return &drivertest.Disks{
		Mark: func(t *testing.T, _ virt.Host, g virt.Guest, i int, text string) {
			mark(t, daemon, g.UUID, file(daemon, g, i), g.Definition.Disks[i].Format, text)
		},
		Read: func(t *testing.T, _ virt.Host, g virt.Guest, i int) (string, bool) {
			return read(t, file(daemon, g, i), g.Definition.Disks[i].Format)
		},
		Source: func(t *testing.T, _ virt.Host, text string) string {
			name := daemon.File(fmt.Sprintf("source-%d.img", sources.Add(1)))
			if err := os.WriteFile(name, make([]byte, 1<<20), 0o600); err != nil {
				t.Fatal(err)
			}
			mark(t, daemon, "", name, "raw", text)
			return name
		},
	}
}

func file(daemon *testbed.Daemon, g virt.Guest, i int) string {
	if d := g.Definition.Disks[i]; d.Source != "" {
		return d.Source
	}
	return filepath.Join(daemon.File("disks"), g.Definition.Disks[i].Volume)
}

// hung is a host that takes a connection and never says a word.
func hung(t *testing.T) virt.Host {
	t.Helper()
	dir, err := os.MkdirTemp("", "vagoth-libvirt-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "unix", filepath.Join(dir, "s"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // the kernel takes connections, nobody accepts them
	return virt.Host{ID: "hung", Address: "qemu:///system?socket=" + filepath.Join(dir, "s")}
}
