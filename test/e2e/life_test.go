package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/test/testbed"
	"github.com/vagoth/vagoth/virt"
)

// A guest from new to delete, seen on its own serial console.
func TestLife(t *testing.T) {
	t.Parallel()
	d := testbed.NewLibvirt(t, "life")
	c := openCluster(t, "")
	c.addHost("h1", d.URI())
	def, log := c.tiny("web1")
	def.Disks = []virt.Disk{{Size: 8}}
	vm := c.provision("web1", def)

	err := c.done(vm.Start(c.ctx))
	c.must("start", err)
	c.polled("web1", virt.Running)
	testbed.WaitForText(t, log, testbed.GuestID("web1"), patience)
	testbed.WaitForText(t, log, testbed.GuestUp, patience)
	parent, err := vm.Parent(c.ctx)
	c.must("parent", err)
	if parent == nil || parent.ID() != "h1" {
		t.Fatalf("its parent is %v, not h1", parent)
	}
	disks, err := filepath.Glob(filepath.Join(c.dir, "disks", "*"))
	if err != nil || len(disks) != 1 {
		t.Fatalf("one disk should have been made, there are %v (%v)", disks, err)
	}
	why, err := vm.Decision(c.ctx)
	c.must("decision", err)
	if why.Host != "h1" || len(why.Hosts()) != 1 {
		t.Errorf("the decision kept with it is %+v", why)
	}

	err = c.done(vm.Suspend(c.ctx))
	c.must("suspend", err)
	c.polled("web1", virt.Paused)
	err = c.done(vm.Resume(c.ctx))
	c.must("resume", err)
	c.polled("web1", virt.Running)
	err = c.done(vm.Reboot(c.ctx))
	c.must("reboot", err)
	testbed.WaitForTexts(t, log, testbed.GuestUp, 2, patience)
	c.polled("web1", virt.Running)

	if err := c.done(vm.Deprovision(c.ctx)); !errors.Is(err, virt.ErrBusy) {
		t.Fatalf("deprovision of a running VM: %v, want ErrBusy", err)
	}
	err = c.done(vm.Stop(c.ctx, time.Minute)) // the guest is asked first
	c.must("stop", err)
	testbed.WaitForText(t, log, testbed.GuestDown, patience)
	c.polled("web1", virt.Stopped)

	err = c.done(vm.Undefine(c.ctx))
	c.must("undefine", err)
	if n := c.node("web1"); n.Parent() != "" || virt.DisksOn(n) != "h1" {
		t.Fatalf("after undefine its parent is %q and its disks are on %q", n.Parent(), virt.DisksOn(n))
	}
	if err := c.Provisioner.Deprovision(c.ctx, "web1"); err == nil {
		t.Fatal("a VM with disks was deleted")
	}
	err = c.done(vm.Deprovision(c.ctx))
	c.must("deprovision", err)
	if _, err := os.Stat(disks[0]); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("its disk is still there: %v", err)
	}
	c.must("delete", c.Provisioner.Deprovision(c.ctx, "web1"))
	if _, err := registry.Get(c.ctx, c.Registry, "web1"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("the node is still there: %v", err)
	}
	if n := running(t, d); n != 0 {
		t.Errorf("%d domains run in the end", n)
	}
}

// Two VMs with one MAC are refused, naming the owner; nothing is written.
func TestOneMAC(t *testing.T) {
	t.Parallel()
	c := openCluster(t, "")
	nic := []virt.NIC{{Type: "bridge", Network: "br0", MAC: "52:54:00:00:00:01"}}
	c.provision("web1", virt.Definition{CPU: 1, Memory: 128, NICs: nic})
	doc := must(registry.NewDocument(virt.Definition{CPU: 1, Memory: 128, NICs: nic}))
	_, err := c.Provisioner.Provision(c.ctx, provisioner.Spec{ID: "web2", Type: virt.TypeVM, Definition: doc})
	var clash *registry.ConflictError
	if !errors.As(err, &clash) || clash.Owner != "web1" {
		t.Fatalf("the second VM with the MAC: %v, want a conflict that names web1", err)
	}
	if _, err := registry.Get(c.ctx, c.Registry, "web2"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("something of the refused VM was written: %v", err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
