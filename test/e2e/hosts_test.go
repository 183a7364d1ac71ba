package e2e

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/monitor"
	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/test/testbed"
	"github.com/vagoth/vagoth/virt"
)

// libvirtd is killed while a guest runs: nothing is unassigned, and it comes
// back. Only a host that does not answer can be confirmed down.
func TestHostFails(t *testing.T) {
	t.Parallel()
	d := testbed.NewLibvirt(t, "fails")
	c := openCluster(t, "")
	c.addHost("h1", d.URI())
	def, log := c.tiny("web1")
	vm := c.provision("web1", def)
	err := c.done(vm.Start(c.ctx))
	c.must("start", err)
	testbed.WaitForText(t, log, testbed.GuestUp, patience)
	c.polled("web1", virt.Running)

	if _, err := virt.ConfirmDown(c.ctx, c.Manager, "h1", "I am sure", virt.ConfirmOptions{}); !errors.Is(err, virt.ErrAnswers) {
		t.Fatalf("confirm-down of a host that answers: %v, want ErrAnswers", err)
	}

	d.Kill(t)
	c.polled("web1", virt.Unknown)
	n := c.node("web1")
	if n.Parent() != "h1" {
		t.Fatalf("its parent is %q after the host fell silent, not h1", n.Parent())
	}
	if ev, ok := virt.EvidenceOf(n); !ok || ev.At.IsZero() || time.Since(ev.At) > patience || ev.Host != "h1" {
		t.Errorf("the evidence is %+v, %v", ev, ok)
	}
	if s := c.node("h1").State(); s != string(virt.Unreachable) {
		t.Errorf("the host is %s, not unreachable", s)
	}
	if err := c.done(vm.Start(c.ctx)); !errors.Is(err, virt.ErrUnreachable) {
		t.Errorf("start on a silent host: %v, want ErrUnreachable", err)
	}

	d.Start(t)
	c.polled("web1", virt.Running)
	if s := c.node("h1").State(); s != string(virt.Up) {
		t.Errorf("the host is %s after it came back", s)
	}
	if strings.Count(testbed.WaitForText(t, log, testbed.GuestUp, patience), testbed.GuestUp) != 1 {
		t.Error("the guest booted again although only libvirtd was killed")
	}

	d.Kill(t)
	c.polled("web1", virt.Unknown)
	freed, err := virt.ConfirmDown(c.ctx, c.Manager, "h1", "pulled the plug", virt.ConfirmOptions{AbandonDisks: true})
	c.must("confirm-down", err)
	if len(freed) != 1 || freed[0] != "web1" || c.node("web1").Parent() != "" {
		t.Errorf("freed %v, its parent is %q", freed, c.node("web1").Parent())
	}
	if h := c.node("h1"); h.State() != string(virt.Down) || h.Changed().Reason != "pulled the plug" {
		t.Errorf("the host is %s, changed because of %q", h.State(), h.Changed().Reason)
	}
}

// What runs unknown to the registry is adopted, and a known VM that has no host
// is assigned to the one it is found on.
func TestFound(t *testing.T) {
	t.Parallel()
	d := testbed.NewLibvirt(t, "found")
	c := openCluster(t, "[monitor]\ncreate_missing = true\n")
	c.addHost("h1", d.URI())
	def, _ := c.tiny("web1")
	vm := c.provision("web1", def)
	err := c.done(vm.Start(c.ctx))
	c.must("start", err)

	// Forgotten here, it runs on there.
	_, err = registry.SetParent(c.ctx, c.Registry, "web1", "h1", "")
	c.must("forget the parent", err)
	c.finding(monitor.FoundAssigned, "web1")
	if p := c.node("web1").Parent(); p != "h1" {
		t.Errorf("it was assigned to %q, not h1", p)
	}

	const uuid = "6f1d7f5e-54a3-4a5e-8a51-5f6f9f6c0001"
	xml := d.File("foreign.xml")
	c.must("write", os.WriteFile(xml, []byte(fmt.Sprintf(
		"<domain type='qemu'><name>foreign</name><uuid>%s</uuid><memory unit='MiB'>128</memory><vcpu>1</vcpu><os><type>hvm</type><kernel>%s</kernel><initrd>%s</initrd></os></domain>",
		uuid, def.Boot.Kernel, def.Boot.Initrd)), 0o600))
	d.Virsh(t, "define", xml) // behind vagoth's back
	f := c.finding(monitor.FoundAdopted, "")
	n := c.node(f.Node)
	if n.Parent() != "h1" || virt.NodeUUID(n) != uuid {
		t.Errorf("adopted as %s with UUID %s on %q", n.ID(), virt.NodeUUID(n), n.Parent())
	}
	adopted, err := virt.VM(c.ctx, c.Manager, f.Node)
	c.must("the adopted VM", err)
	err = c.done(adopted.Start(c.ctx))
	c.must("start of the adopted VM", err)
	c.polled(f.Node, virt.Running)
}

// One VM on two hosts raises the alarm, and neither is touched.
func TestSeenTwice(t *testing.T) {
	t.Parallel()
	d1, d2 := testbed.NewLibvirt(t, "twice1"), testbed.NewLibvirt(t, "twice2")
	c := openCluster(t, "")
	c.addHost("h1", d1.URI())
	c.addHost("h2", d2.URI())
	def, _ := c.tiny("web1")
	vm := c.provision("web1", def)
	err := c.done(vm.With(virt.Options{Host: "h1"}).Start(c.ctx))
	c.must("start", err)

	// Somebody starts it by hand on the other one.
	g, err := virt.GuestOf(c.node("web1"))
	c.must("guest", err)
	g.Definition.Console = virt.Console{Serial: "pty"}
	other := virt.Host{ID: "h2", Address: d2.URI()}
	c.must("define on the second", c.Drivers["local"].Define(c.ctx, other, g))
	c.must("start on the second", c.Drivers["local"].Power(c.ctx, other, g, virt.PowerStart))

	c.finding(monitor.FoundTwice, "web1")
	n := c.node("web1")
	if a, ok := virt.AlarmOf(n); !ok || len(a.Hosts) != 2 {
		t.Errorf("the alarm on the node is %+v, %v", a, ok)
	}
	if n.Parent() != "h1" || running(t, d1) != 1 || running(t, d2) != 1 {
		t.Errorf("something was done about it: parent %q, %d and %d domains run", n.Parent(), running(t, d1), running(t, d2))
	}

	c.must("stop the second", c.Drivers["local"].Power(c.ctx, other, g, virt.PowerStop))
	c.must("undefine the second", c.Drivers["local"].Undefine(c.ctx, other, g))
	if !testbed.Eventually(t, patience, func() bool {
		c.poll()
		_, alarm := virt.AlarmOf(c.node("web1"))
		return !alarm
	}) {
		t.Error("the alarm stays although the VM is on one host only")
	}
}

// A hostile, a silent and a stopped libvirtd delay nobody else, and hurt
// nobody.
func TestSick(t *testing.T) {
	t.Parallel()
	good, stopped := testbed.NewLibvirt(t, "good"), testbed.NewLibvirt(t, "stopped")
	c := openCluster(t, "[monitor]\ntimeout = 5s\n")
	c.addHost("good", good.URI())
	c.addHost("stopped", stopped.URI())
	peers := map[string]string{
		"length4":  endpoint(t, []byte{0, 0, 0, 4}),
		"huge":     endpoint(t, []byte{0x3f, 0xff, 0xff, 0xff}),
		"silent":   endpoint(t, nil),
		"nonsense": endpoint(t, []byte(strings.Repeat("libvirt?", 4096))),
	}
	for id, uri := range peers {
		doc := must(registry.NewDocument(virt.HostDefinition{Driver: "local", Address: uri}))
		_, err := c.Provisioner.Provision(c.ctx, provisioner.Spec{ID: id, Type: virt.TypeHypervisor, Definition: doc})
		c.must("add "+id, err)
	}
	stopped.Pause(t)
	defer stopped.Continue(t)

	for range 3 {
		r := c.poll()
		for _, h := range r.Hosts {
			want := virt.Unreachable
			if h.Host == "good" {
				want = virt.Up
			}
			if h.State != want {
				t.Errorf("%s is %s, not %s (%s)", h.Host, h.State, want, h.Error)
			}
		}
	}
	// The good host can be worked with meanwhile.
	def, _ := c.tiny("web1")
	err := c.done(c.provision("web1", def).Start(c.ctx))
	c.must("start beside the sick", err)
}

// endpoint is a peer that accepts, says this, and nothing more.
func endpoint(t *testing.T, say []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	var conns []net.Conn
	go func() {
		defer close(done)
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns = append(conns, conn)
			_, _ = conn.Write(say)
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
		for _, conn := range conns {
			_ = conn.Close()
		}
	})
	return "qemu:///system?socket=" + path
}
