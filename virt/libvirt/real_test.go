package libvirt_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/test/testbed"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/libvirt"
)

const patience = 90 * time.Second // for what a guest does under emulation, on a busy machine

// real is a driver and a libvirtd of its own.
type real struct {
	*testing.T
	driver *libvirt.Driver
	daemon *testbed.Daemon
	host   virt.Host
}

func config(d *testbed.Daemon) libvirt.Config {
	cfg := libvirt.Defaults()
	cfg.URI = d.URI()
	cfg.Disks = d.File("disks")
	cfg.Emulator = "qemu" // what passes for KVM on a machine that is virtual itself may not run a guest
	return cfg
}

func openReal(t *testing.T) *real {
	t.Helper()
	testbed.Need(t, "guest")
	d := testbed.Libvirt(t)
	return &real{T: t, driver: open(t, config(d)), daemon: d, host: virt.Host{ID: "hv1"}}
}

// open opens a driver that is closed before the libvirtd it speaks to goes.
func open(t *testing.T, cfg libvirt.Config) *libvirt.Driver {
	t.Helper()
	d, err := libvirt.Open(t.Context(), cfg, virt.DriverDeps{Name: "test"})
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

// guest is one that boots from the kernel and logs to a file.
func (r *real) guest(id string, change ...func(*virt.Definition)) virt.Guest {
	r.Helper()
	kernel, initrd := testbed.Guest(r)
	def := virt.Definition{
		CPU: 1, Memory: 128,
		Boot:    virt.Boot{Kernel: kernel, Initrd: initrd, Cmdline: "console=ttyS0 vagoth.id=" + id},
		Console: virt.Console{Serial: "file", Log: r.log(id)},
	}
	for _, f := range change {
		f(&def)
	}
	def = virt.Filled(id, def)
	return virt.Guest{ID: id, UUID: def.UUID, Name: id, Definition: def}
}

func (r *real) log(id string) string { return r.daemon.File(id + ".log") }

func (r *real) must(what string, err error) {
	r.Helper()
	if err != nil {
		r.Fatalf("%s: %v", what, err)
	}
}

func (r *real) power(g virt.Guest, op virt.PowerOp) {
	r.Helper()
	r.must(string(op), r.driver.Power(r.Context(), r.host, g, op))
}

func (r *real) state(g virt.Guest) virt.State {
	r.Helper()
	info, err := r.driver.Info(r.Context(), r.host, g)
	r.must("info", err)
	return info.State
}

func (r *real) becomes(g virt.Guest, want virt.State) {
	r.Helper()
	if !testbed.Eventually(r, patience, func() bool { return r.state(g) == want }) {
		r.Fatalf("%s is %s, want %s", g.ID, r.state(g), want)
	}
}

// A guest from provision to deprovision, seen on its own serial console.
func TestRealLifecycle(t *testing.T) {
	r := openReal(t)
	ctx := t.Context()
	g := r.guest("web1", func(d *virt.Definition) {
		d.Disks = []virt.Disk{{Size: 8}, {Size: 4, Format: "raw"}}
		d.NICs = []virt.NIC{{Type: "user", MAC: "52:54:00:12:34:56", Forward: []virt.Forward{{Port: 8080, To: 80}}}, {Type: "user"}}
		d.Console.VNC = true
		d.Boot.Cmdline += " vagoth.ip=10.0.2.15/24 vagoth.gw=10.0.2.2 vagoth.count=1"
	})
	r.must("provision", r.driver.Provision(ctx, r.host, g))
	r.must("define", r.driver.Define(ctx, r.host, g))
	r.must("define again", r.driver.Define(ctx, r.host, g))
	r.power(g, virt.PowerStart)
	said := testbed.WaitForText(t, r.log("web1"), testbed.GuestUp, patience)
	for _, line := range []string{"52:54:00:12:34:56", "disk vda 8388608 bytes", "disk vdb 4194304 bytes", "boots 1"} {
		if !strings.Contains(said, line) {
			t.Errorf("the guest does not say %q:\n%s", line, said)
		}
	}
	conn, err := r.daemon.Dial(ctx, "tcp", "127.0.0.1:8080")
	r.must("reach the forwarded port", err)
	_, err = fmt.Fprint(conn, "GET /id HTTP/1.0\r\n\r\n")
	r.must("ask the guest", err)
	answer := make([]byte, 4096)
	n, _ := conn.Read(answer)
	_ = conn.Close()
	if !strings.Contains(string(answer[:n]), "200 OK") {
		t.Errorf("the guest's web server answers %q", answer[:n])
	}

	info, err := r.driver.Info(ctx, r.host, g)
	r.must("info", err)
	if info.State != virt.Running || info.CPU != 1 || info.Memory != 128 || info.CPUTime <= 0 || info.Console != r.log("web1") ||
		!strings.HasPrefix(info.VNC, "127.0.0.1:59") || info.Extra["hypervisor"] != "qemu" {
		t.Errorf("info of a running guest: %+v", info)
	}

	r.must("suspend", r.driver.Suspend(ctx, r.host, g))
	r.becomes(g, virt.Paused)
	if err := r.driver.Power(ctx, r.host, g, virt.PowerStart); !errors.Is(err, virt.ErrBusy) {
		t.Errorf("start of a suspended guest: %v", err)
	}
	r.must("resume", r.driver.Resume(ctx, r.host, g))
	r.becomes(g, virt.Running)
	r.power(g, virt.PowerReboot)
	testbed.WaitForTexts(t, r.log("web1"), testbed.GuestUp, 2, patience)
	if said := testbed.WaitForText(t, r.log("web1"), "boots 2", patience); !strings.Contains(said, testbed.GuestDown) {
		t.Error("the guest was reset, not asked to reboot")
	}
	r.power(g, virt.PowerShutdown)
	r.becomes(g, virt.Stopped)
	r.must("undefine", r.driver.Undefine(ctx, r.host, g))
	if _, err := r.driver.Info(ctx, r.host, g); !errors.Is(err, virt.ErrNotFound) {
		t.Errorf("info of an undefined guest: %v", err)
	}
	r.must("deprovision", r.driver.Deprovision(ctx, r.host, g))
	left, err := os.ReadDir(r.daemon.File("disks"))
	if err != nil || len(left) != 0 {
		t.Errorf("left in the disks' directory: %v (%v)", left, err)
	}
}

// Libvirtd is killed while a guest runs, and comes back.
func TestRealKilledDaemon(t *testing.T) {
	r := openReal(t)
	ctx := t.Context()
	g := r.guest("web1")
	r.must("define", r.driver.Define(ctx, r.host, g))
	r.power(g, virt.PowerStart)
	testbed.WaitForText(t, r.log("web1"), "vagoth-guest: beat 1", patience)

	r.daemon.Kill(t)
	if _, err := r.driver.Status(ctx, r.host); !errors.Is(err, virt.ErrUnreachable) {
		t.Errorf("status of a killed libvirtd: %v", err)
	}
	if _, err := r.driver.Info(ctx, r.host, g); !errors.Is(err, virt.ErrUnreachable) {
		t.Errorf("info from a killed libvirtd: %v", err)
	}
	beats := strings.Count(testbed.WaitForText(t, r.log("web1"), "beat", patience), "beat")
	r.daemon.Start(t)
	l, err := r.driver.Status(ctx, r.host)
	r.must("status after the restart", err)
	if !l.Complete || len(l.Guests) != 1 || l.Guests[0].State != virt.Running || l.Guests[0].UUID != g.UUID {
		t.Errorf("status after the restart: %+v", l)
	}
	testbed.WaitForTexts(t, r.log("web1"), "beat", beats+1, patience)
	if n := strings.Count(testbed.WaitForText(t, r.log("web1"), testbed.GuestUp, patience), testbed.GuestUp); n != 1 {
		t.Errorf("the guest booted %d times, want once", n)
	}

	// A libvirtd that is stopped accepts and says nothing.
	r.daemon.Pause(t)
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	began := time.Now()
	if _, err := r.driver.Status(short, r.host); !errors.Is(err, virt.ErrUnreachable) {
		t.Errorf("status of a stopped libvirtd: %v", err)
	}
	if took := time.Since(began); took > 3*time.Second {
		t.Errorf("a stopped libvirtd took %v", took)
	}
	r.daemon.Continue(t)
	_, err = r.driver.Status(ctx, r.host)
	r.must("status after it went on", err)
	r.power(g, virt.PowerStop)
	r.must("undefine", r.driver.Undefine(ctx, r.host, g))
}
