package libvirt_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/test/testbed"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/drivertest"
)

// A guest moves to another libvirtd while it runs, and back as a definition.
func TestRealMigrate(t *testing.T) {
	r := openReal(t)
	ctx := t.Context()
	peer := testbed.NewLibvirt(t, "peer")
	to := virt.Host{ID: "hv2", Address: peer.URI()}
	g := r.guest("mover", func(d *virt.Definition) { d.Console = virt.Console{}; d.NICs = []virt.NIC{{Type: "user"}} })
	r.must("define", r.driver.Define(ctx, r.host, g))
	r.power(g, virt.PowerStart)
	if err := r.driver.Migrate(ctx, r.host, to, g, true); err != nil {
		t.Fatalf("migrate: %v", err)
	}
	if _, err := r.driver.Info(ctx, r.host, g); !errors.Is(err, virt.ErrNotFound) {
		t.Errorf("info where it came from: %v", err)
	}
	info, err := r.driver.Info(ctx, to, g)
	if err != nil || info.State != virt.Running || info.Extra["node"] != "mover" {
		t.Fatalf("info where it went: %+v, %v", info, err)
	}
	r.must("define where it went", r.driver.Define(ctx, to, g))
	r.must("stop", r.driver.Power(ctx, to, g, virt.PowerStop))
	r.must("migrate back", r.driver.Migrate(ctx, to, r.host, g, false))
	if got := r.state(g); got != virt.Stopped {
		t.Errorf("it is %s, want stopped", got)
	}
	if err := r.driver.Migrate(ctx, r.host, r.host, g, false); !errors.Is(err, virt.ErrInvalid) {
		t.Errorf("migrate to where it is: %v", err)
	}
	if err := r.driver.Migrate(ctx, r.host, virt.Host{Address: "qemu:///system"}, g, false); !errors.Is(err, virt.ErrUnsupported) {
		t.Errorf("migrate to an address that means another host there: %v", err)
	}
	g.Definition.Disks = virt.Filled("mover", virt.Definition{Disks: []virt.Disk{{Size: 1}}}).Disks
	if err := r.driver.Migrate(ctx, r.host, to, g, true); !errors.Is(err, virt.ErrUnsupported) {
		t.Errorf("migrate with a disk of its own: %v", err)
	}
}

// What is on the host already is neither taken over nor overwritten.
func TestRealRespectsWhatIsThere(t *testing.T) {
	r := openReal(t)
	ctx := t.Context()

	// Somebody else's domain with the UUID of an adopted node.
	g := r.guest("adopted")
	xml := `<domain type="qemu"><name>legacy</name><uuid>` + g.UUID + `</uuid><memory unit="MiB">32</memory><vcpu>1</vcpu><os><type>hvm</type></os></domain>`
	file := r.daemon.File("legacy.xml")
	if err := os.WriteFile(file, []byte(xml), 0o600); err != nil {
		t.Fatal(err)
	}
	r.daemon.Virsh(t, "define", file)
	before := r.daemon.Virsh(t, "dumpxml", "legacy")
	r.must("define what somebody else defined", r.driver.Define(ctx, r.host, g))
	if after := r.daemon.Virsh(t, "dumpxml", "legacy"); after != before {
		t.Errorf("somebody else's domain was changed:\n%s", after)
	}
	r.power(g, virt.PowerStart)
	l, err := r.driver.Status(ctx, r.host)
	if err != nil || len(l.Guests) != 1 || l.Guests[0].State != virt.Running || l.Guests[0].Name != "legacy" {
		t.Errorf("status: %+v, %v", l, err)
	}
	r.power(g, virt.PowerStop)

	// A domain of another node.
	mine := r.guest("mine")
	r.must("define", r.driver.Define(ctx, r.host, mine))
	thief := mine
	thief.ID = "thief"
	if err := r.driver.Define(ctx, r.host, thief); !errors.Is(err, virt.ErrConflict) || !strings.Contains(err.Error(), `"mine"`) {
		t.Errorf("define of another node's domain: %v", err)
	}

	// A changed definition waits until the guest is off.
	r.power(mine, virt.PowerStart)
	changed := mine
	changed.Definition.CPU = 2
	if err := r.driver.Define(ctx, r.host, changed); !errors.Is(err, virt.ErrBusy) {
		t.Errorf("define of a running guest anew: %v", err)
	}
	r.power(mine, virt.PowerStop)
	r.must("define anew", r.driver.Define(ctx, r.host, changed))
	// Under another name too: the domain keeps the one it has.
	changed.Name, changed.Definition.CPU = "renamed", 1
	r.must("define under another name", r.driver.Define(ctx, r.host, changed))

	// Files and volumes that are there.
	r.must("provision nothing", r.driver.Provision(ctx, r.host, mine))
	disk := r.guest("disky", func(d *virt.Definition) { d.Disks = []virt.Disk{{Size: 1, Format: "raw"}} })
	r.must("provision", r.driver.Provision(ctx, r.host, disk))
	for what, d := range map[string]virt.Disk{"size": {Size: 2, Format: "raw"}, "format": {Size: 1}} {
		other := r.guest("disky", func(def *virt.Definition) { def.Disks = []virt.Disk{d} })
		if err := r.driver.Provision(ctx, r.host, other); !errors.Is(err, virt.ErrConflict) {
			t.Errorf("provision of a disk that is there in another %s: %v", what, err)
		}
	}
	stray := filepath.Join(r.daemon.File("disks"), "stray-disk-0")
	if err := os.WriteFile(stray, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	strange := r.guest("stray", func(d *virt.Definition) { d.Disks = []virt.Disk{{Size: 1, Format: "raw"}} })
	if err := r.driver.Provision(ctx, r.host, strange); !errors.Is(err, virt.ErrConflict) {
		t.Errorf("provision over a file that the pool does not know: %v", err)
	}
	if b, err := os.ReadFile(stray); err != nil || string(b) != "precious" {
		t.Errorf("the stray file holds %q (%v)", b, err)
	}

	// What this libvirt cannot do.
	for what, change := range map[string]func(*virt.Definition){
		"uefi": func(d *virt.Definition) { d.Boot.Firmware = "uefi" },
		"VLAN": func(d *virt.Definition) { d.NICs = []virt.NIC{{Type: "bridge", Network: "br0", VLANs: []int{7}}} },
		"CPUs": func(d *virt.Definition) { d.CPU = 4000 },
	} {
		if err := r.driver.Define(ctx, r.host, r.guest("never", change)); !errors.Is(err, virt.ErrUnsupported) {
			t.Errorf("%s: got error %v, want ErrUnsupported", what, err)
		}
	}
	if _, err := r.driver.Info(ctx, r.host, r.guest("never")); !errors.Is(err, virt.ErrNotFound) {
		t.Errorf("a guest that was refused: %v", err)
	}
}

// Hostile words reach no host, one by one in every place that the suite does
// not look at.
func TestRealHostileIDs(t *testing.T) {
	r := openReal(t)
	for _, name := range drivertest.HostileNames() {
		g := r.guest("web1")
		g.ID = name
		for what, f := range map[string]func() error{
			"define":    func() error { return r.driver.Define(t.Context(), r.host, g) },
			"provision": func() error { return r.driver.Provision(t.Context(), r.host, g) },
		} {
			if err := f(); !errors.Is(err, virt.ErrInvalid) {
				t.Errorf("%s with the ID %.40q: %v", what, name, err)
			}
		}
	}
	if l, err := r.driver.Status(t.Context(), r.host); err != nil || len(l.Guests) != 0 {
		t.Errorf("after hostile calls: %+v, %v", l, err)
	}
}

// Libvirt's simulated hypervisor, for tests that have no QEMU.
func TestTestHypervisor(t *testing.T) {
	testbed.Need(t, "libvirt")
	daemon := testbed.Libvirt(t)
	cfg := config(daemon)
	cfg.URI = "test:///default?socket=" + daemon.Socket()
	d := open(t, cfg)
	h := virt.Host{ID: "hv1"}
	l, err := d.Status(t.Context(), h)
	if err != nil || !l.Complete || len(l.Guests) != 1 || l.Guests[0].Name != "test" || l.Guests[0].State != virt.Running || l.Guests[0].CPU != 2 {
		t.Fatalf("%+v, %v", l, err)
	}
	def := virt.Filled("web1", virt.Definition{CPU: 1, Memory: 64})
	g := virt.Guest{ID: "web1", UUID: def.UUID, Name: "web1", Definition: def}
	for _, f := range []func() error{
		func() error { return d.Define(t.Context(), h, g) },
		func() error { return d.Define(t.Context(), h, g) },
		func() error { return d.Power(t.Context(), h, g, virt.PowerStart) },
		func() error { return d.Suspend(t.Context(), h, g) },
		func() error { return d.Resume(t.Context(), h, g) },
		func() error { return d.Power(t.Context(), h, g, virt.PowerStop) },
		func() error { return d.Undefine(t.Context(), h, g) },
	} {
		if err := f(); err != nil {
			t.Error(err)
		}
	}
}

// A migration that was given up, or whose manager died, takes the guest nowhere any more,
// also when the other host is heard of only then; and until it has ended nobody is told
// that it has.
func TestRealMigrateGivenUp(t *testing.T) {
	r := openReal(t)
	ctx := t.Context()
	cfg := config(r.daemon)
	cfg.Timeout = 6 * time.Second // the first call of a libvirtd takes its time
	impatient := open(t, cfg)
	peer := testbed.NewLibvirt(t, "peer")
	g := r.guest("mover", func(d *virt.Definition) { d.Console = virt.Console{}; d.NICs = []virt.NIC{{Type: "user"}} })
	r.must("define", r.driver.Define(ctx, r.host, g))
	r.power(g, virt.PowerStart)
	for _, how := range []string{"given up", "dead"} {
		t.Run(how, func(t *testing.T) {
			gate := testbed.NewGate(t, peer.Socket())
			gate.Shut()
			to := virt.Host{ID: "hv2", Address: gate.URI()}
			moving, giveUp := context.WithCancel(ctx)
			defer giveUp()
			ended := make(chan error, 1)
			go func() { ended <- impatient.Migrate(moving, r.host, to, g, true) }()
			select {
			case <-gate.Arrived:
			case err := <-ended:
				t.Fatalf("it has not got as far as the other host: %v", err)
			}
			if how == "given up" {
				giveUp()
				if err := <-ended; !errors.Is(err, virt.ErrBusy) {
					t.Errorf("given up while it was under way: %v", err)
				}
			}
			if err := impatient.Settle(ctx, r.host, g); !errors.Is(err, virt.ErrBusy) {
				t.Errorf("settled while it was under way: %v", err)
			}
			gate.Open()
			settled := virt.ErrBusy
			for errors.Is(settled, virt.ErrBusy) {
				settled = impatient.Settle(ctx, r.host, g)
			}
			r.must("settle", settled)
			if how == "dead" {
				if err := <-ended; err == nil {
					t.Error("the migration has ended well")
				}
			}
			if got := r.state(g); got != virt.Running {
				t.Errorf("where it was it is %s", got)
			}
			if _, err := r.driver.Info(ctx, virt.Host{ID: "hv2", Address: peer.URI()}, g); !errors.Is(err, virt.ErrNotFound) {
				t.Errorf("where it was to go: %v", err)
			}
		})
	}
	r.must("migrate then", r.driver.Migrate(ctx, r.host, virt.Host{ID: "hv2", Address: peer.URI()}, g, true))
}
