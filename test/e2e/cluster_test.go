package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/monitor"
	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/test/opened"
	"github.com/vagoth/vagoth/test/testbed"
	"github.com/vagoth/vagoth/virt"
)

// patience is how long anything may take under software emulation on a busy
// machine. Nothing is measured with it.
const patience = 3 * time.Minute

// cluster is an open Manager over hosts that the test started.
type cluster struct {
	*manager.Manager
	t   *testing.T
	ctx context.Context
	dir string
}

// openCluster writes a vagoth.ini whose driver "local" is libvirt, with more
// lines of its own, and opens it.
func openCluster(t *testing.T, more string) *cluster {
	t.Helper()
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "disks"), 0o755); err != nil {
		t.Fatal(err)
	}
	ctx, m := opened.Open(t, dir, fmt.Sprintf("[drivers.local]\nuse = libvirt\ntimeout = 20s\ndisks = %s\n%s", filepath.Join(dir, "disks"), more))
	return &cluster{Manager: m, t: t, ctx: ctx, dir: dir}
}

// addHost registers a hypervisor and polls it.
func (c *cluster) addHost(id, uri string) {
	c.t.Helper()
	doc, err := registry.NewDocument(virt.HostDefinition{Driver: "local", Address: uri})
	if err == nil {
		_, err = c.Provisioner.Provision(c.ctx, provisioner.Spec{ID: id, Type: virt.TypeHypervisor, Definition: doc})
	}
	if err != nil {
		c.t.Fatal(err)
	}
	if r := c.poll(id); r.Hosts[0].State != virt.Up {
		c.t.Fatalf("%s is %s after its first poll: %s", id, r.Hosts[0].State, r.Hosts[0].Error)
	}
}

// tiny is the definition of a guest that boots in seconds and writes its serial
// console to a file.
func (c *cluster) tiny(id string) (virt.Definition, string) {
	kernel, initrd := testbed.Guest(c.t)
	log := filepath.Join(c.dir, id+".log")
	return virt.Definition{
		CPU: 1, Memory: 128,
		Boot:    virt.Boot{Kernel: kernel, Initrd: initrd, Cmdline: "console=ttyS0 vagoth.id=" + id},
		Console: virt.Console{Serial: "file", Log: log},
	}, log
}

// provision creates a VM's node.
func (c *cluster) provision(id string, d virt.Definition) *virt.VirtualMachine {
	c.t.Helper()
	doc, err := registry.NewDocument(d)
	if err == nil {
		_, err = c.Provisioner.Provision(c.ctx, provisioner.Spec{ID: id, Type: virt.TypeVM, Definition: doc})
	}
	if err != nil {
		c.t.Fatal(err)
	}
	vm, err := virt.VM(c.ctx, c.Manager, id)
	if err != nil {
		c.t.Fatal(err)
	}
	return vm
}

// done waits for a job.
func (c *cluster) done(job scheduler.Status, err error) error {
	if err == nil {
		_, err = virt.Wait(c.ctx, c.Manager, job)
	}
	return err
}

func (c *cluster) poll(hosts ...string) monitor.Report {
	c.t.Helper()
	r, err := c.Monitor.Poll(c.ctx, hosts...)
	if err != nil {
		c.t.Fatal(err)
	}
	return r
}

func (c *cluster) node(id string) *registry.Node {
	c.t.Helper()
	n, err := registry.Get(c.ctx, c.Registry, id)
	if err != nil {
		c.t.Fatal(err)
	}
	return n
}

// polled polls until the node is in the state.
func (c *cluster) polled(id string, want virt.State) {
	c.t.Helper()
	if !testbed.Eventually(c.t, patience, func() bool {
		c.poll()
		return c.node(id).State() == string(want)
	}) {
		c.t.Fatalf("%s never became %s, it is %s", id, want, c.node(id).State())
	}
}

// finding waits until a poll finds something of the kind about the node.
func (c *cluster) finding(kind, node string) monitor.Finding {
	c.t.Helper()
	var found monitor.Finding
	if !testbed.Eventually(c.t, patience, func() bool {
		for _, h := range c.poll().Hosts {
			for _, f := range h.Findings {
				if f.Kind == kind && (node == "" || f.Node == node) {
					found = f
					return true
				}
			}
		}
		return false
	}) {
		c.t.Fatalf("no poll found %q of %q", kind, node)
	}
	return found
}

// must fails the test on an error of a step.
func (c *cluster) must(what string, err error) {
	c.t.Helper()
	if err != nil {
		c.t.Fatalf("%s: %v", what, err)
	}
}

// running counts the host's running domains.
func running(t *testing.T, d *testbed.Daemon) int {
	t.Helper()
	return len(strings.Fields(d.Virsh(t, "list", "--uuid", "--state-running")))
}
