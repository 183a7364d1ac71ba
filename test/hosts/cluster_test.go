package hosts

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/test/opened"
	"github.com/vagoth/vagoth/test/testbed"
	"github.com/vagoth/vagoth/virt"
)

// cluster is a manager above agents.
type cluster struct {
	*manager.Manager
	*testing.T
	ctx  context.Context
	logs string // the folder of what VMs say, on whatever host
}

// newCluster opens a manager whose driver is remote, and registers the hosts.
func newCluster(t *testing.T, hosts map[string]*host) *cluster {
	t.Helper()
	ctx, m := opened.Open(t, t.TempDir(), "[drivers.agents]\nuse = remote\nurl = http://{host}\n")
	c := &cluster{Manager: m, T: t, ctx: ctx, logs: t.TempDir()}
	for name, h := range hosts {
		c.create(name, virt.TypeHypervisor, virt.HostDefinition{Driver: "agents", Address: strings.TrimPrefix(h.url, "http://")})
		c.poll()
		if s := c.node(name).State(); s != string(virt.Up) {
			t.Fatalf("%s is %s after its first poll", name, s)
		}
	}
	return c
}

func (c *cluster) must(what string, err error) {
	c.Helper()
	if err != nil {
		c.Fatalf("%s: %v", what, err)
	}
}

func (c *cluster) create(id, kind string, definition any) {
	c.Helper()
	doc, err := registry.NewDocument(definition)
	if err == nil {
		_, err = c.Provisioner.Provision(c.ctx, provisioner.Spec{ID: id, Type: kind, Definition: doc})
	}
	c.must("create "+id, err)
}

func (c *cluster) vm(id string, d virt.Definition) *virt.VirtualMachine {
	c.Helper()
	c.create(id, virt.TypeVM, d)
	vm, err := virt.VM(c.ctx, c.Manager, id)
	c.must("find "+id, err)
	return vm
}

func (c *cluster) done(job scheduler.Status, err error) error {
	if err == nil {
		_, err = virt.Wait(c.ctx, c.Manager, job)
	}
	return err
}

func (c *cluster) poll() {
	c.Helper()
	_, err := c.Monitor.Poll(c.ctx)
	c.must("poll", err)
}

func (c *cluster) node(id string) *registry.Node {
	c.Helper()
	n, err := registry.Get(c.ctx, c.Registry, id)
	c.must("read "+id, err)
	return n
}

func (c *cluster) log(id string) string { return filepath.Join(c.logs, id+".log") }

// said waits until a VM has said a line so often.
func (c *cluster) said(id, line string, times int) {
	c.Helper()
	testbed.WaitForTexts(c, c.log(id), line+"\r\n", times, patience)
}

// is checks where a VM is, and how.
func (c *cluster) is(id, host string, state virt.State) {
	c.Helper()
	c.poll()
	if n := c.node(id); n.Parent() != host || n.State() != string(state) {
		c.Errorf("%s is %s on %q, want it %s on %q", id, n.State(), n.Parent(), state, host)
	}
}

// domains are those of a host's libvirtd, whatever the agent says.
func (h *host) domains(more ...string) []string {
	h.Helper()
	return strings.Fields(h.daemon.Virsh(h, append([]string{"list", "--uuid"}, more...)...))
}

// Two hosts with a libvirtd and an agent each, and a manager above them: VMs are
// placed, started, fetched images for, moved, and removed without a rest.
func TestCluster(t *testing.T) {
	t.Parallel()
	hosts := map[string]*host{"h1": newHost(t, "one"), "h2": newHost(t, "two")}
	c := newCluster(t, hosts)
	for name, h := range hosts {
		has, err := virt.Probe(c.ctx, c.Parts(), name, virt.HostDefinition{Driver: "agents", Address: strings.TrimPrefix(h.url, "http://")})
		if err != nil || has.CPU <= 0 || has.Memory <= 0 {
			t.Errorf("%s has %+v (%v)", name, has, err)
		}
	}
	tiny := func(id, more string) virt.Definition {
		return virt.Definition{
			CPU: 1, Memory: 128,
			Boot:    virt.Boot{Kernel: hosts["h1"].kernel, Initrd: hosts["h1"].initrd, Cmdline: "console=ttyS0 vagoth.id=" + id + more},
			Console: virt.Console{Serial: "file", Log: c.log(id)},
		}
	}

	// An image is fetched onto one host; a VM that is to begin as it goes there, is
	// snapshotted while it runs, and goes back.
	folder, url := web(t)
	image(t, filepath.Join(folder, "counted.img"), 4, 6)
	hv, err := virt.HypervisorOf(c.ctx, c.Manager, "h1")
	c.must("find h1", err)
	c.must("fetch", c.done(hv.FetchImage(c.ctx, virt.ImageRequest{ID: "counted", Source: url + "/counted.img"})))
	installed := tiny("counted", " vagoth.count=1")
	installed.Image = "counted"
	counted := c.vm("counted", installed).With(virt.Options{Host: "h1"})
	c.must("start", c.done(counted.Start(c.ctx)))
	c.is("counted", "h1", virt.Running)
	c.said("counted", "vagoth-guest: boots 7", 1)
	c.said("counted", testbed.GuestUp, 1)
	c.must("snapshot", c.done(counted.Snapshot(c.ctx, "first")))
	c.must("stop", c.done(counted.Stop(c.ctx, time.Minute)))
	c.said("counted", testbed.GuestDown, 1)
	c.must("start", c.done(counted.Start(c.ctx)))
	c.said("counted", "vagoth-guest: boots 8", 1)
	c.must("stop", c.done(counted.Stop(c.ctx, 0)))
	c.must("roll back", c.done(counted.Rollback(c.ctx, "first", false)))
	c.must("start", c.done(counted.Start(c.ctx)))
	c.said("counted", "vagoth-guest: boots 8", 2)

	// One without a disk goes where there is more room, and moves while it is off.
	free := c.vm("free", tiny("free", ""))
	c.must("start", c.done(free.Start(c.ctx)))
	c.is("free", "h2", virt.Running)
	c.said("free", testbed.GuestUp, 1)
	if err := c.done(free.Migrate(c.ctx, "h1")); !errors.Is(err, virt.ErrUnsupported) {
		t.Errorf("an agent cannot move what runs: %v", err)
	}
	c.is("free", "h2", virt.Running)
	c.must("stop", c.done(free.Stop(c.ctx, 0)))
	c.must("migrate", c.done(free.Migrate(c.ctx, "h1")))
	c.is("free", "h1", virt.Stopped)
	if one, two := hosts["h1"].domains("--all"), hosts["h2"].domains("--all"); len(one) != 2 || len(two) != 0 {
		t.Errorf("moved, the domains are %v and %v", one, two)
	}
	c.must("start", c.done(free.Start(c.ctx)))
	if n := len(hosts["h1"].domains("--state-running")); n != 2 {
		t.Errorf("%d domains run on h1, want both", n)
	}

	// One with a disk moves with what it has written, while it is off.
	if err := c.done(counted.Migrate(c.ctx, "h2")); !errors.Is(err, virt.ErrBusy) {
		t.Errorf("an agent cannot move disks that are written: %v", err)
	}
	c.must("stop", c.done(counted.Stop(c.ctx, 0)))
	if err := c.done(counted.Migrate(c.ctx, "h2")); !errors.Is(err, virt.ErrUnsupported) || !strings.Contains(err.Error(), "first") {
		t.Errorf("its snapshot would be lost: %v", err)
	}
	c.is("counted", "h1", virt.Stopped)
	c.must("delete the snapshot", c.done(counted.DeleteSnapshot(c.ctx, "first")))
	c.must("migrate", c.done(counted.Migrate(c.ctx, "h2")))
	c.is("counted", "h2", virt.Stopped)
	if n := c.node("counted"); virt.DisksOn(n) != "h2" || virt.LeftOn(n) != "" {
		t.Errorf("moved, its disks are on %s, and some are left on %q", virt.DisksOn(n), virt.LeftOn(n))
	}
	images, err := hosts["h2"].client.Images(c.ctx, "")
	if left := hosts["h1"].files(); err != nil || len(left) != 0 || len(images) != 0 {
		t.Errorf("moved, left are %v, and the images %v (%v)", left, images, err)
	}
	c.must("delete the image", c.done(hv.DeleteImage(c.ctx, "counted")))
	counted = counted.With(virt.Options{})
	c.must("start", c.done(counted.Start(c.ctx)))
	c.said("counted", "vagoth-guest: boots 9", 1)
	if one, two := len(hosts["h1"].domains("--all")), len(hosts["h2"].domains("--all")); one != 1 || two != 1 {
		t.Errorf("moved, there are %d and %d domains", one, two)
	}

	// A host whose agent is stopped is not dead, and neither are its VMs.
	hosts["h1"].stop()
	c.is("free", "h1", virt.Unknown)
	if n := len(hosts["h1"].domains("--state-running")); n != 1 {
		t.Errorf("without the agent %d domains run on h1, want one", n)
	}
	hosts["h1"].again()
	c.is("free", "h1", virt.Running)

	for id, vm := range map[string]*virt.VirtualMachine{"free": free, "counted": counted} {
		c.must("stop "+id, c.done(vm.Stop(c.ctx, 0)))
		c.must("undefine "+id, c.done(vm.Undefine(c.ctx)))
		c.must("deprovision "+id, c.done(vm.Deprovision(c.ctx)))
		c.must("delete "+id, c.Provisioner.Deprovision(c.ctx, id))
	}
	for name, h := range hosts {
		if left := fmt.Sprint(h.domains("--all"), h.files()); left != "[] []" {
			t.Errorf("left on %s: %s", name, left)
		}
	}
}
