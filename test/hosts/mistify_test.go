package hosts

import (
	"context"
	"encoding/json"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vagoth/vagoth/cmd/vagoth/hostagent"
	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/test/testbed"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent"
)

// shipped is what the configuration that Mistify's agent ships calls of virtual
// machines: actions with the stages SERVICE METHOD.
var shipped = map[string]string{
	"create": "storage ImageStore.CreateGuestDisks, libvirt Libvirt.CreateGuest", "delete": "libvirt Libvirt.Delete, storage ImageStore.DeleteGuestsDisks",
	"reboot": "libvirt Libvirt.Reboot", "restart": "libvirt Libvirt.Restart", "poweroff": "libvirt Libvirt.Poweroff", "shutdown": "libvirt Libvirt.Shutdown",
	"run": "libvirt Libvirt.Run", "cpuMetrics": "libvirt Libvirt.CpuMetrics", "nicMetrics": "libvirt Libvirt.NicMetrics", "diskMetrics": "libvirt Libvirt.DiskMetrics",
	"listImages": "storage ImageStore.ListImages", "getImage": "storage ImageStore.GetImage", "deleteImage": "storage ImageStore.DeleteImage",
	"fetchImage": "storage ImageStore.RequestImage", "listSnapshots": "storage ImageStore.ListSnapshots", "getSnapshot": "storage ImageStore.GetSnapshot",
	"createSnapshot": "storage ImageStore.CreateSnapshot", "deleteSnapshot": "storage ImageStore.DeleteSnapshot",
	"rollbackSnapshot": "storage ImageStore.RollbackSnapshot", "downloadSnapshot": "storageDownload ImageStore.DownlaodSnapshot",
}

// serve runs a sub-agent at a port of its own.
func (h *host) serve(kind string, section string) int {
	h.Helper()
	sub, err := openSubAgent(h, kind, section)
	h.must("open "+kind, err)
	s := mistify.NewServer(mistify.ServerOptions{})
	sub.Register(s)
	ln, err := mistify.Listen(mistify.Endpoint{})
	h.must("listen", err)
	ended := make(chan error, 1)
	ctx, cancel := context.WithCancel(context.Background())
	go func() { ended <- s.Serve(ctx, ln) }()
	h.Cleanup(func() {
		cancel()
		h.must("serve "+kind, <-ended)
		h.must("close "+kind, sub.Close())
	})
	return ln.Addr().(*net.TCPAddr).Port
}

func openSubAgent(h *host, kind, section string) (subagent.SubAgent, error) {
	entries := []component.Entry{}
	for _, line := range strings.Split(strings.TrimSpace(section), "\n") {
		key, value, _ := strings.Cut(line, " = ")
		entries = append(entries, component.Entry{Key: key, Value: value})
	}
	open, problems := menu().SubAgents[kind].Decode(component.Source{Own: []component.Section{{Name: "subagent." + kind, Entries: entries}}})
	if len(problems) > 0 {
		h.Fatal(problems)
	}
	return open(h.Context(), subagent.Deps{Name: kind, Data: h.file("data/" + kind)})
}

// runMistify runs an agent with a file of Mistify's that has these actions.
func (h *host) runMistify(shipped map[string]string, services map[string]map[string]any) {
	h.Helper()
	type stage struct {
		Method  string `json:"method"`
		Service string `json:"service"`
	}
	actions := map[string]map[string][]stage{}
	for action, calls := range shipped {
		var stages []stage
		for _, call := range strings.Split(calls, ", ") {
			service, method, _ := strings.Cut(call, " ")
			stages = append(stages, stage{Method: method, Service: service})
		}
		actions[action] = map[string][]stage{"stages": stages}
	}
	text, err := json.Marshal(map[string]any{"actions": actions, "services": services, "dbpath": h.file("data/mistify.db")})
	h.must("write the config", err)
	path := h.file("agent.json")
	h.must("write the config", os.WriteFile(path, text, 0o600))
	h.run(hostagent.Source{Mistify: path, Listen: "127.0.0.1:0", Data: h.file("data")})
}

// The configuration of Mistify's agent drives the sub-agents unchanged but for
// the ports, which are free ones here.
func TestMistify(t *testing.T) {
	t.Parallel()
	h := newBare(t, "host")
	ports := map[string]map[string]any{
		"libvirt": {"port": h.serve("libvirt", "uri = "+h.daemon.URI()+"\nemulator = qemu")},
		"storage": {"port": h.serve("dir", "libvirt = "+h.daemon.URI()+"\nfetch_private = yes")},
	}
	ports["storageDownload"] = map[string]any{"port": ports["storage"]["port"], "path": "/snapshots/download"}
	h.runMistify(shipped, ports)

	ctx := t.Context()
	folder, url := web(t)
	image(t, filepath.Join(folder, "counted.img"), 4, 6)
	h.done(h.client.FetchImage(ctx, mistify.ImageRequest{ID: "counted", Source: url + "/counted.img"}))
	g := h.create(h.guest("", mistify.Disk{Image: "counted"}))
	if g.State != "running" {
		t.Errorf("the guest is %s", g.State)
	}
	h.said(g.ID, "vagoth-guest: boots 7", 1)
	h.said(g.ID, testbed.GuestUp, 1)
	if c, err := h.client.CPUMetrics(ctx, g.ID); err != nil || len(c) != 1 || c[0].CPUTime <= 0 {
		t.Errorf("the metrics of its CPU: %+v (%v)", c, err)
	}
	of := mistify.SnapshotID{Guest: g.ID, Name: "first"}
	h.done(h.client.CreateSnapshot(ctx, of))
	if g := h.act(g.ID, "restart"); g.State != "running" {
		t.Errorf("restarted, it is %s", g.State)
	}
	h.said(g.ID, "vagoth-guest: boots 8", 1)
	of.Disk = "0"
	h.download(of, filepath.Join(folder, "first.qcow2"))
	if g := h.act(g.ID, "poweroff"); g.State != "shutoff" {
		t.Errorf("off, it is %s", g.State)
	}
	of.Disk = ""
	h.done(h.client.Rollback(ctx, of, false))
	h.act(g.ID, "start") // which Mistify calls run
	h.said(g.ID, "vagoth-guest: boots 8", 2)
	h.done(h.client.DeleteSnapshot(ctx, of))
	h.done(h.client.DeleteGuest(ctx, g.ID))
	h.done(h.client.DeleteImage(ctx, "counted"))
	if left := h.daemon.Virsh(t, "list", "--all", "--name"); left != "" {
		t.Errorf("the domains %q are left", left)
	}
}
