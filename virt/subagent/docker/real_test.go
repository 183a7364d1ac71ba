package docker_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/test/testbed"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/docker"
)

// exec runs something in a container, and waits for its end.
func exec(t *testing.T, d *testbed.Docker, container string, argv ...string) {
	t.Helper()
	body, err := json.Marshal(map[string]any{"Cmd": argv, "AttachStdout": true, "AttachStderr": true})
	if err != nil {
		t.Fatal(err)
	}
	var made struct{ ID string }
	if err := json.Unmarshal(d.Ask(t, http.MethodPost, "/containers/"+container+"/exec", body), &made); err != nil {
		t.Fatal(err)
	}
	said := d.Ask(t, http.MethodPost, "/exec/"+made.ID+"/start", []byte(`{}`))
	var ended struct{ ExitCode int }
	if err := json.Unmarshal(d.Ask(t, http.MethodGet, "/exec/"+made.ID+"/json", nil), &ended); err != nil || ended.ExitCode != 0 {
		t.Fatalf("%v ended with %d (%v): %q", argv, ended.ExitCode, err, said)
	}
}

// idOf is dockerd's id of the container of a guest.
func idOf(t *testing.T, d *testbed.Docker, g *mistify.Guest) string {
	t.Helper()
	var is struct{ ID string }
	if err := json.Unmarshal(d.Ask(t, http.MethodGet, "/containers/"+g.ID+"/json", nil), &is); err != nil {
		t.Fatal(err)
	}
	return is.ID
}

// The whole of it on a real dockerd, with a real registry.
func TestReal(t *testing.T) {
	t.Parallel()
	k := testbed.NewDocker(t)
	b := newBench(t, k.Socket(), func(o *docker.Options) { o.Grace, o.Timeout, o.MaxPIDs = 2*time.Second, time.Minute, 50 })
	ctx := t.Context()

	// An image from the registry, and one from a URL.
	pushed := k.Push(t, testbed.Busybox, "team/sleeper", "1")
	fetch := func(r mistify.ImageRequest) error {
		_, err := b.d.FetchImage(ctx, &r)
		return err
	}
	if err := fetch(mistify.ImageRequest{ID: pushed}); err != nil {
		t.Fatal(err)
	}
	b.refused("one that the registry has not", fetch(mistify.ImageRequest{ID: k.Registry() + "/team/nothing:1"}), virt.ErrNotFound)
	url := web(t, map[string][]byte{"saved.tar": k.Ask(t, http.MethodGet, "/images/"+testbed.Busybox+"/get", nil), "bad.tar": pack(t, goodParts()...)})
	if err := fetch(mistify.ImageRequest{ID: "mine/loaded:1", Source: url + "/saved.tar"}); err != nil {
		t.Fatal(err)
	}
	if err := fetch(mistify.ImageRequest{ID: "mine/bad:1", Source: url + "/bad.tar"}); err == nil {
		t.Error("an archive that holds no image was loaded")
	}
	if got := b.images(); !slices.Equal(got, []string{pushed, testbed.Busybox, "mine/loaded:1"}) {
		t.Errorf("the images are %q", got)
	}
	if out, err := b.d.GetImage(ctx, &mistify.ImageRequest{ID: "mine/loaded:1"}); err != nil || out.Images[0].Size < 1 {
		t.Errorf("%+v (%v)", out, err)
	}

	// A container with limits and a network, which does something.
	k.Ask(t, http.MethodPost, "/networks/create", []byte(`{"Name":"back","IPAM":{"Config":[{"Subnet":"10.77.0.0/24"}]}}`))
	g := guest()
	g.Image, g.Memory, g.CPU = pushed, 32, 1
	g.NICs = []mistify.NIC{{Network: "default"}, {Network: "back", Address: "10.77.0.9"}}
	b.must(b.d.CreateContainer, g, "shutoff")
	b.must(b.d.CreateContainer, g, "shutoff")
	b.must(b.d.StartContainer, g, "running")
	id := idOf(t, k, g)
	if memory := k.Group(t, id, "memory/memory.limit_in_bytes", "memory.max"); memory != "33554432" {
		t.Errorf("its control group has the memory %s", memory)
	}
	if cpu := k.Group(t, id, "cpu/cpu.cfs_quota_us", "cpu.max"); cpu != "100000" && cpu != "100000 100000" {
		t.Errorf("its control group has the CPU time %s", cpu)
	}
	if pids := k.Group(t, id, "pids/pids.max", "pids.max"); pids != "50" {
		t.Errorf("its control group may have %s processes", pids)
	}
	measured := func() (cpu float64, disk mistify.DiskMetrics, nic mistify.NICMetrics) {
		t.Helper()
		r := &mistify.GuestMetricsRequest{Guest: g}
		c, err := b.d.CPUMetrics(ctx, r)
		if err != nil || len(c.CPU) != 1 {
			t.Fatalf("CPUs: %+v (%v)", c, err)
		}
		d, err := b.d.DiskMetrics(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		for _, one := range d.Disk {
			disk = one
		}
		n, err := b.d.NICMetrics(ctx, r)
		if err != nil || len(n.NIC) != 2 {
			t.Fatalf("NICs: %+v (%v)", n, err)
		}
		return c.CPU[0].CPUTime, disk, n.NIC["eth0"]
	}
	cpu, disk, nic := measured()
	exec(t, k, g.ID, "/bin/dd", "if=/dev/zero", "of=/written", "bs=64k", "count=16", "oflag=direct")
	if out, err := k.Exec(ctx, "busybox", "ping", "-c", "1", "10.77.0.9"); err != nil {
		t.Errorf("it does not answer at its address: %v: %s", err, out)
	}
	if out, err := k.Exec(ctx, "busybox", "ping", "-c", "1", address(t, k, g, "bridge")); err != nil {
		t.Errorf("it does not answer on the bridge: %v: %s", err, out)
	}
	cpu2, disk2, nic2 := measured()
	if cpu2 <= cpu || disk2.WriteBytes < disk.WriteBytes+1<<20 || disk2.WriteOps <= disk.WriteOps || nic2.RxPackets <= nic.RxPackets || nic2.TxBytes <= nic.TxBytes {
		t.Errorf("the metrics stand still: %v and %v, %+v and %+v, %+v and %+v", cpu, cpu2, disk, disk2, nic, nic2)
	}
	out, err := b.d.Status(ctx, &mistify.StatusRequest{})
	if err != nil || !out.Complete || len(out.Guests) != 1 || out.Guests[0].ID != g.ID || out.Guests[0].Memory != 32 || out.Guests[0].CPU != 1 || out.Capacity.CPU < 1 || out.Capacity.Memory < 1 {
		t.Errorf("the status is %+v (%v)", out, err)
	}
	if out, err := b.d.Status(ctx, &mistify.StatusRequest{ID: g.ID}); err != nil || len(out.Guests) != 1 || out.Guests[0].CPUTime <= 0 || !slices.Contains(out.Guests[0].Addresses, "10.77.0.9") {
		t.Errorf("it is %+v (%v)", out, err)
	}

	// Held, let go, asked, killed; and its limits changed.
	b.must(b.d.PauseContainer, g, "paused")
	b.must(b.d.PauseContainer, g, "paused")
	b.must(b.d.RunContainer, g, "running")
	g.Memory = 64
	b.must(b.d.CreateContainer, g, "running")
	if memory := k.Group(t, id, "memory/memory.limit_in_bytes", "memory.max"); memory != "67108864" {
		t.Errorf("its control group has the memory %s", memory)
	}
	b.must(b.d.RebootContainer, g, "running")
	b.must(b.d.RestartContainer, g, "running")
	b.shutDown(g)
	b.must(b.d.StartContainer, g, "running")
	b.must(b.d.StopContainer, g, "shutoff")
	b.must(b.d.StartContainer, g, "running")
	b.must(b.d.PauseContainer, g, "paused")
	b.must(b.d.PoweroffContainer, g, "shutoff")

	// What it wrote is saved, and another guest begins with it.
	save := func(job string) error {
		_, err := b.d.SaveContainer(ctx, &docker.SaveRequest{ID: g.ID, Dest: "mine/saved:1", Job: job})
		return err
	}
	for range 2 { // once, and found
		if err := save("job"); err != nil {
			t.Fatal(err)
		}
	}
	b.refused("a name that is taken", save("other job"), virt.ErrConflict)
	other := guest()
	other.Image = "mine/saved:1"
	b.must(b.d.CreateContainer, other, "shutoff")
	b.must(b.d.StartContainer, other, "running")
	exec(t, k, other.ID, "/bin/cat", "/written")
	_, err = b.d.DeleteImage(ctx, &mistify.ImageRequest{ID: "mine/saved:1"})
	b.refused("delete an image that is used", err, virt.ErrConflict)

	// A container that somebody makes of it is nobody's.
	var made struct {
		Config struct{ Labels map[string]string }
	}
	if err := json.Unmarshal(k.Ask(t, http.MethodGet, "/images/mine/saved:1/json", nil), &made); err != nil || made.Config.Labels["vagoth.saved"] == "" {
		t.Errorf("the saved image has the labels %v (%v)", made.Config.Labels, err)
	}
	for label, value := range made.Config.Labels {
		if strings.HasPrefix(label, "vagoth.") && label != "vagoth.saved" && value != "" {
			t.Errorf("the saved image has the guest's label %s=%s", label, value)
		}
	}
	k.Ask(t, http.MethodPost, "/containers/create?name=foreign", []byte(`{"Image":"mine/saved:1"}`))
	if out, err := b.d.Status(ctx, &mistify.StatusRequest{}); err != nil || len(out.Guests) != 2 {
		t.Errorf("with a foreign one: %+v (%v)", out, err)
	}
	k.Ask(t, http.MethodDelete, "/containers/foreign", nil)

	b.consoles(k)

	// And all of it goes.
	for _, g := range []*mistify.Guest{g, other} {
		b.must(b.d.DeleteContainer, g, "")
		b.must(b.d.DeleteContainer, g, "")
	}
	for _, id := range []string{pushed, "mine/loaded:1", "mine/saved:1"} {
		if _, err := b.d.DeleteImage(ctx, &mistify.ImageRequest{ID: id}); err != nil {
			t.Error(err)
		}
	}
	if got := b.images(); !slices.Equal(got, []string{testbed.Busybox}) {
		t.Errorf("the images %q are left", got)
	}
	b.left("all is gone")
	if left := strings.TrimSpace(string(k.Ask(t, http.MethodGet, "/containers/json?all=1", nil))); left != "[]" {
		t.Errorf("the containers %s are left", left)
	}

	// A dockerd that hangs, and one that is gone.
	b.close()
	b.o.Timeout, b.o.Patience = 2*time.Second, 0
	b.open()
	g = guest()
	g.Image = testbed.Busybox
	k.Pause(t)
	b.fails("create, where it hangs", b.d.CreateContainer, g, virt.ErrUnreachable)
	k.Continue(t)
	b.close()
	b.o.Timeout = 20 * time.Second // only what hangs is not waited for
	b.open()
	b.must(b.d.CreateContainer, g, "shutoff")
	b.must(b.d.StartContainer, g, "running")
	k.Kill(t)
	b.fails("stop, where it is gone", b.d.StopContainer, g, virt.ErrUnreachable)
	k.Start(t)
	b.must(b.d.DeleteContainer, g, "")
}

// shutDown asks a guest to end until it has ended: a shell that has just begun does
// not hear it yet.
func (b *bench) shutDown(g *mistify.Guest) {
	b.Helper()
	if !testbed.Eventually(b, time.Minute, func() bool {
		_, err := b.d.ShutdownContainer(b.Context(), &mistify.GuestRequest{Guest: g})
		out, look := b.d.Status(b.Context(), &mistify.StatusRequest{ID: g.ID})
		return err == nil && look == nil && len(out.Guests) == 1 && out.Guests[0].State == virt.Stopped
	}) {
		b.Fatal("it never ended")
	}
}

// address is what a guest has on a network.
func address(t *testing.T, k *testbed.Docker, g *mistify.Guest, network string) string {
	t.Helper()
	var is struct {
		NetworkSettings struct {
			Networks map[string]struct{ IPAddress string }
		}
	}
	if err := json.Unmarshal(k.Ask(t, http.MethodGet, "/containers/"+g.ID+"/json", nil), &is); err != nil {
		t.Fatal(err)
	}
	return is.NetworkSettings.Networks[network].IPAddress
}
