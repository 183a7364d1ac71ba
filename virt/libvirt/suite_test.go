package libvirt_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vagoth/vagoth/test/testbed"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/drivertest"
)

// The conformance suite, on one real libvirtd for all of its subtests. Its
// guests stop at their BIOS: what a guest does when asked to shut down or
// reboot is TestRealLifecycle's.
func TestSuite(t *testing.T) {
	testbed.Need(t, "libvirt")
	daemon := testbed.Libvirt(t)
	var made atomic.Int64
	drivertest.Run(t, func(t *testing.T) drivertest.Fixture {
		driver := open(t, config(daemon))
		host := virt.Host{ID: "hv1"}
		return drivertest.Fixture{
			Driver: driver,
			Hosts:  []virt.Host{host},
			Guest: func(*testing.T) virt.Guest {
				id := fmt.Sprintf("suite-%d", made.Add(1))
				def := virt.Filled(id, virt.Definition{
					CPU: 1, Memory: 16, Disks: []virt.Disk{{Size: 1, Format: "raw"}}, NICs: []virt.NIC{{Type: "user"}},
				})
				return virt.Guest{ID: id, UUID: def.UUID, Name: id, Definition: def}
			},
			Hung:       hung,
			Disks:      disks(daemon),
			NoShutdown: true,
			Timeout:    30 * time.Second,
			Guests:     4,
		}
	})
}

// disks looks into raw disks, which are files on this machine.
func disks(daemon *testbed.Daemon) *drivertest.Disks {
	file := func(g virt.Guest, i int) string {
		if d := g.Definition.Disks[i]; d.Source != "" {
			return d.Source
		}
		return filepath.Join(daemon.File("disks"), g.Definition.Disks[i].Volume)
	}
	const room = 64
	write := func(t *testing.T, name, text string) {
		t.Helper()
		f, err := os.OpenFile(name, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Close() }()
		if _, err := f.WriteAt(append([]byte(text), make([]byte, room-len(text))...), 4096); err != nil {
			t.Fatal(err)
		}
	}
	var sources atomic.Int64
	return &drivertest.Disks{
		Mark: func(t *testing.T, _ virt.Host, g virt.Guest, i int, text string) { write(t, file(g, i), text) },
		Read: func(t *testing.T, _ virt.Host, g virt.Guest, i int) (string, bool) {
			f, err := os.Open(file(g, i))
			if os.IsNotExist(err) {
				return "", false
			}
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = f.Close() }()
			b := make([]byte, room)
			if _, err := f.ReadAt(b, 4096); err != nil && err != io.EOF {
				t.Fatal(err)
			}
			n := 0
			for n < room && b[n] != 0 {
				n++
			}
			return string(b[:n]), true
		},
		Source: func(t *testing.T, _ virt.Host, text string) string {
			name := daemon.File(fmt.Sprintf("source-%d.img", sources.Add(1)))
			if err := os.WriteFile(name, make([]byte, 1<<20), 0o600); err != nil {
				t.Fatal(err)
			}
			write(t, name, text)
			return name
		},
	}
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
