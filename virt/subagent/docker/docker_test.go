package docker_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/drivertest"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/docker"
	"github.com/vagoth/vagoth/virt/subagent/fetch"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bench is a sub-agent before a dockerd.
type bench struct {
	*testing.T
	d *docker.Docker
	o docker.Options
}

func newBench(t *testing.T, socket string, change func(*docker.Options)) *bench {
	t.Helper()
	b := &bench{T: t, o: docker.Options{Dir: t.TempDir(), Socket: socket, Timeout: 20 * time.Second, Fetch: fetch.Options{Private: true}}}
	if change != nil {
		change(&b.o)
	}
	b.open()
	t.Cleanup(b.close)
	return b
}

func (b *bench) open() {
	b.Helper()
	var err error
	if b.d, err = docker.Open(b.Context(), b.o); err != nil {
		b.Fatal(err)
	}
}

func (b *bench) close() {
	b.Helper()
	if b.d == nil {
		return
	}
	if err := b.d.Close(); err != nil {
		b.Error(err)
	}
	b.d = nil
}

func guest() *mistify.Guest {
	id := uuid.NewString()
	return &mistify.Guest{ID: id, Name: "c-" + id[:8], Type: mistify.TypeContainer, Image: "base", CPU: 1, Memory: 64}
}

type act = func(context.Context, *mistify.GuestRequest) (*mistify.GuestResponse, error)

// must runs an action and checks the state after it.
func (b *bench) must(do act, g *mistify.Guest, state string) {
	b.Helper()
	out, err := do(b.Context(), &mistify.GuestRequest{Guest: g, Job: "job"})
	if err != nil || out.Retry != 0 || out.Guest.State != state {
		b.Fatalf("%+v (%v), want the state %q", out, err, state)
	}
}

func (b *bench) refused(what string, err, want error) {
	b.Helper()
	if !errors.Is(err, want) {
		b.Errorf("%s: got error %v, want one that is %q", what, err, want)
	}
}

func (b *bench) fails(what string, do act, g *mistify.Guest, want error) {
	b.Helper()
	_, err := do(b.Context(), &mistify.GuestRequest{Guest: g})
	b.refused(what, err, want)
}

func TestLife(t *testing.T) {
	f := newFake(t)
	b := newBench(t, f.socket, nil)
	g := guest()
	for _, step := range []struct {
		name  string
		do    act
		state string
	}{
		{"create", b.d.CreateContainer, "shutoff"}, {"again", b.d.CreateContainer, "shutoff"}, {"start", b.d.StartContainer, "running"},
		{"start again", b.d.StartContainer, "running"}, {"create what runs", b.d.CreateContainer, "running"}, {"pause", b.d.PauseContainer, "paused"},
		{"pause again", b.d.PauseContainer, "paused"}, {"run", b.d.RunContainer, "running"}, {"unpause what runs", b.d.UnpauseContainer, "running"},
		{"reboot", b.d.RebootContainer, "running"}, {"restart", b.d.RestartContainer, "running"}, {"stop", b.d.StopContainer, "shutoff"},
		{"stop again", b.d.StopContainer, "shutoff"}, {"power off what is off", b.d.PoweroffContainer, "shutoff"}, {"shut down what is off", b.d.ShutdownContainer, "shutoff"},
		{"restart what is off", b.d.RestartContainer, "running"}, {"pause", b.d.PauseContainer, "paused"}, {"stop what is paused", b.d.StopContainer, "shutoff"},
		{"run what is off", b.d.RunContainer, "running"}, {"shut down", b.d.ShutdownContainer, "shutoff"}, {"undefine", b.d.UndefineContainer, ""},
		{"undefine again", b.d.UndefineContainer, ""}, {"create anew", b.d.CreateContainer, "shutoff"}, {"run", b.d.RunContainer, "running"},
		{"delete what runs", b.d.DeleteContainer, ""}, {"delete again", b.d.DeleteContainer, ""}, {"deprovision what is gone", b.d.DeprovisionContainer, ""},
	} {
		out, err := step.do(t.Context(), &mistify.GuestRequest{Guest: g})
		if err != nil || out.Guest.State != step.state || out.Guest.ID != g.ID || out.Guest.Image != "base" {
			t.Fatalf("%s: %+v (%v), want the state %q", step.name, out, err, step.state)
		}
	}
	if left := f.all(); len(left) > 0 {
		t.Errorf("the containers %v are left", left)
	}
	for name, do := range map[string]act{
		"start": b.d.StartContainer, "stop": b.d.StopContainer, "power off": b.d.PoweroffContainer, "shut down": b.d.ShutdownContainer, "reboot": b.d.RebootContainer,
		"restart": b.d.RestartContainer, "pause": b.d.PauseContainer, "unpause": b.d.UnpauseContainer, "run": b.d.RunContainer,
	} {
		b.fails(name+" what is gone", do, g, virt.ErrNotFound)
	}
	b.must(b.d.CreateContainer, g, "shutoff")
	for name, do := range map[string]act{"reboot": b.d.RebootContainer, "pause": b.d.PauseContainer, "unpause": b.d.UnpauseContainer} {
		b.fails(name+" what is off", do, g, virt.ErrConflict)
	}
	b.must(b.d.StartContainer, g, "running")
	b.fails("undefine what runs", b.d.UndefineContainer, g, virt.ErrBusy)
	b.fails("deprovision what runs", b.d.DeprovisionContainer, g, virt.ErrBusy)
	b.must(b.d.PauseContainer, g, "paused")
	b.fails("start what is paused", b.d.StartContainer, g, virt.ErrBusy)
	b.fails("shut down what is paused", b.d.ShutdownContainer, g, virt.ErrConflict)
	b.fails("undefine what is paused", b.d.UndefineContainer, g, virt.ErrBusy)
}

// A guest that cannot be a container is refused before dockerd is asked.
func TestRefused(t *testing.T) {
	f := newFake(t)
	b := newBench(t, f.socket, nil)
	for _, c := range []struct {
		name   string
		change func(*mistify.Guest)
		want   error
	}{
		{"no id", func(g *mistify.Guest) { g.ID = "" }, virt.ErrInvalid},
		{"a path", func(g *mistify.Guest) { g.ID = "../x" }, virt.ErrInvalid},
		{"a virtual machine", func(g *mistify.Guest) { g.Type = "" }, virt.ErrUnsupported},
		{"no image", func(g *mistify.Guest) { g.Image = "" }, virt.ErrInvalid},
		{"an option", func(g *mistify.Guest) { g.Image = "-rm" }, virt.ErrInvalid},
		{"a path as image", func(g *mistify.Guest) { g.Image = "../x" }, virt.ErrInvalid},
		{"a disk", func(g *mistify.Guest) { g.Disks = []mistify.Disk{{Size: 1}} }, virt.ErrUnsupported},
		{"a kernel", func(g *mistify.Guest) { g.Boot.Kernel = "/vmlinuz" }, virt.ErrUnsupported},
		{"a cdrom", func(g *mistify.Guest) { g.CDROM = "/x.iso" }, virt.ErrUnsupported},
		{"cloud-init", func(g *mistify.Guest) { g.CloudInit.UserData = "x" }, virt.ErrUnsupported},
		{"vnc", func(g *mistify.Guest) { g.Console.VNC = true }, virt.ErrUnsupported},
		{"a bridge", func(g *mistify.Guest) { g.NICs = []mistify.NIC{{Type: "bridge", Network: "br0"}} }, virt.ErrUnsupported},
		{"VLANs", func(g *mistify.Guest) { g.NICs = []mistify.NIC{{Network: "n", VLANs: []int{7}}} }, virt.ErrUnsupported},
		{"the host's network", func(g *mistify.Guest) { g.NICs = []mistify.NIC{{Network: "host"}} }, virt.ErrInvalid},
		{"another container's", func(g *mistify.Guest) { g.NICs = []mistify.NIC{{Network: "container:x"}} }, virt.ErrInvalid},
		{"a network as path", func(g *mistify.Guest) { g.NICs = []mistify.NIC{{Network: "../x"}} }, virt.ErrInvalid},
		{"a network twice", func(g *mistify.Guest) { g.NICs = []mistify.NIC{{Network: "n"}, {Network: "n"}} }, virt.ErrInvalid},
		{"an address of the bridge", func(g *mistify.Guest) { g.NICs = []mistify.NIC{{Address: "172.17.0.9"}} }, virt.ErrInvalid},
		{"ports of a network", func(g *mistify.Guest) {
			g.NICs = []mistify.NIC{{Network: "n", Forward: []virt.Forward{{Port: 80, To: 80}}}}
		}, virt.ErrInvalid},
	} {
		g := guest()
		c.change(g)
		b.fails(c.name, b.d.CreateContainer, g, c.want)
	}
	if _, err := b.d.CreateContainer(t.Context(), &mistify.GuestRequest{}); !errors.Is(err, virt.ErrInvalid) {
		t.Errorf("no guest: %v", err)
	}
	if got := f.requests(); len(got) > 0 {
		t.Errorf("dockerd was asked %q", got)
	}
	g := guest()
	g.Image = "other"
	b.fails("an image that is not here", b.d.CreateContainer, g, virt.ErrConflict)
	b.fails("provision with it", b.d.ProvisionContainer, g, virt.ErrConflict)
	if left := f.all(); len(left) > 0 {
		t.Errorf("the containers %v are left", left)
	}
	_, err := b.d.CPUMetrics(t.Context(), &mistify.GuestMetricsRequest{Guest: &mistify.Guest{ID: uuid.NewString()}})
	b.refused("metrics of a virtual machine", err, virt.ErrNotFound)
}

// What is made says whose it is, and is made as the guest says.
func TestMade(t *testing.T) {
	f := newFake(t)
	b := newBench(t, f.socket, nil)
	g := guest()
	g.CPU, g.Memory = 2, 128
	g.NICs = []mistify.NIC{{Network: "front"}, {Network: "back"}}
	b.must(b.d.CreateContainer, g, "shutoff")
	is, _ := f.boxNamed(g.ID)
	if is.Memory != 128<<20 || is.NanoCPUs != 2e9 || !is.Networks["front"] || !is.Networks["back"] || is.Labels["vagoth.guest"] != g.ID || is.Labels["vagoth.name"] != g.Name {
		t.Errorf("it was made as %+v", is)
	}
	// Limits change, what it is does not.
	listed := func(memory int64) {
		t.Helper()
		if out, err := b.d.Status(t.Context(), &mistify.StatusRequest{}); err != nil || len(out.Guests) != 1 || out.Guests[0].Memory != memory || out.Guests[0].CPU != 2 {
			t.Errorf("it is listed as %+v (%v)", out, err)
		}
	}
	listed(128)
	g.Memory = 256
	b.must(b.d.CreateContainer, g, "shutoff")
	listed(256)
	if is, _ := f.boxNamed(g.ID); is.Memory != 256<<20 {
		t.Errorf("its limits are %+v", is)
	}
	for name, change := range map[string]func(*mistify.Guest){
		"image": func(g *mistify.Guest) { g.Image = "base:other" }, "network": func(g *mistify.Guest) { g.NICs = g.NICs[:1] },
	} {
		other := g.Clone()
		change(other)
		b.fails("another "+name, b.d.CreateContainer, other, virt.ErrConflict)
	}
	// What a crash left out is done when it is asked for again.
	f.put(func() { delete(f.containers[is.ID].Networks, "back") })
	b.must(b.d.CreateContainer, g, "shutoff")
	if is, _ := f.boxNamed(g.ID); !is.Networks["back"] {
		t.Error("the network that was missing is missing still")
	}
	// One that dockerd left half removed is made anew.
	f.put(func() { f.containers[is.ID].State = "dead" })
	b.must(b.d.CreateContainer, g, "shutoff")
	if now, _ := f.boxNamed(g.ID); now.ID == is.ID {
		t.Error("a dead container was kept")
	}
	// One that cannot be made as a whole is not made.
	whole := guest()
	whole.NICs = []mistify.NIC{{Network: "front"}, {Network: "none-such"}}
	b.fails("a network that is not there", b.d.CreateContainer, whole, virt.ErrConflict)
	if _, there := f.boxNamed(whole.ID); there {
		t.Error("half a container is left")
	}
	b.must(b.d.DeleteContainer, g, "")
	g = guest()
	g.NICs = []mistify.NIC{{Type: "user", Forward: []virt.Forward{{Port: 8080, To: 80}}}}
	b.must(b.d.CreateContainer, g, "shutoff")
}

// What a job made is taken back for that job alone.
func TestUndo(t *testing.T) {
	f := newFake(t)
	b := newBench(t, f.socket, nil)
	g := guest()
	do := func(do act, job, state string) {
		t.Helper()
		out, err := do(t.Context(), &mistify.GuestRequest{Guest: g, Job: job})
		if err != nil || out.Guest.State != state {
			t.Fatalf("for %q: %+v (%v), want the state %q", job, out, err, state)
		}
	}
	do(b.d.UndoCreate, "job-1", "") // it was never begun
	do(b.d.CreateContainer, "job-1", "shutoff")
	do(b.d.CreateContainer, "job-2", "shutoff")
	do(b.d.UndoCreate, "job-2", "shutoff") // it was there before
	do(b.d.UndoCreate, "", "shutoff")
	do(b.d.StartContainer, "", "running")
	do(b.d.UndoCreate, "job-1", "")
	do(b.d.UndoCreate, "job-1", "")
}

// Containers of others are never touched, whatever they are called.
func TestForeign(t *testing.T) {
	f := newFake(t)
	b := newBench(t, f.socket, nil)
	g := guest()
	stranger := &box{ID: sum("stranger"), Name: g.ID, State: "running", Image: "x"}
	saved := &box{ID: sum("saved"), Name: "of-a-saved-image", State: "running", Image: "x", Labels: map[string]string{"vagoth.guest": g.ID, "vagoth.name": g.Name}}
	f.put(func() { f.containers[stranger.ID], f.containers[saved.ID] = stranger, saved })
	for name, do := range map[string]act{
		"create": b.d.CreateContainer, "start": b.d.StartContainer, "stop": b.d.StopContainer, "power off": b.d.PoweroffContainer, "shut down": b.d.ShutdownContainer,
		"reboot": b.d.RebootContainer, "restart": b.d.RestartContainer, "pause": b.d.PauseContainer, "unpause": b.d.UnpauseContainer, "run": b.d.RunContainer,
	} {
		b.fails(name, do, g, virt.ErrConflict)
	}
	_, err := b.d.SaveContainer(t.Context(), &docker.SaveRequest{ID: g.ID, Dest: "mine"})
	b.refused("save", err, virt.ErrConflict)
	for _, do := range []act{b.d.DeleteContainer, b.d.UndefineContainer, b.d.UndoCreate, b.d.DeprovisionContainer} {
		b.must(do, g, "") // of the guest there is none
	}
	out, err := b.d.Status(t.Context(), &mistify.StatusRequest{})
	if err != nil || len(out.Guests) != 0 || !out.Complete {
		t.Errorf("they are listed: %+v (%v)", out, err)
	}
	if out, err := b.d.Status(t.Context(), &mistify.StatusRequest{ID: g.ID}); err != nil || len(out.Guests) != 0 {
		t.Errorf("it is seen: %+v (%v)", out, err)
	}
	for _, asked := range f.requests() {
		if !strings.HasPrefix(asked, "GET ") {
			t.Errorf("dockerd was asked %q", asked)
		}
	}
	if got := f.all(); len(got) != 2 {
		t.Errorf("there are %v", got)
	}
	// One that has the labels of a guest is not a second container of it.
	g = guest()
	b.must(b.d.CreateContainer, g, "shutoff")
	f.put(func() { saved.Labels = map[string]string{"vagoth.guest": g.ID, "vagoth.name": g.Name} })
	if out, err := b.d.Status(t.Context(), &mistify.StatusRequest{}); err != nil || len(out.Guests) != 1 || out.Guests[0].State != virt.Stopped {
		t.Errorf("beside one with its labels the guest is %+v (%v)", out, err)
	}
	b.must(b.d.DeleteContainer, g, "")
	if got := f.all(); len(got) != 2 {
		t.Errorf("in the end there are %v", got)
	}
}

// A guest's name is its own on a host, as with all drivers.
func TestNames(t *testing.T) {
	f := newFake(t)
	b := newBench(t, f.socket, nil)
	g, other := guest(), guest()
	other.Name = g.Name
	b.must(b.d.CreateContainer, g, "shutoff")
	b.fails("a name that is taken", b.d.CreateContainer, other, virt.ErrConflict)
	if got := f.all(); !slices.Equal(got, []string{g.ID}) {
		t.Errorf("there are %v", got)
	}
}

// What was asked for by one who did not wait is still under way when it is asked for
// again: the name is taken, and then the container is there.
func TestUnderWay(t *testing.T) {
	f := newFake(t)
	b := newBench(t, f.socket, nil)
	asked := 0
	f.put(func() {
		f.before = func(w http.ResponseWriter, r *http.Request) bool {
			if !strings.HasSuffix(r.URL.Path, "/containers/create") {
				return false
			}
			if asked++; asked < 4 {
				wrong(w, 409, "Conflict. The container name is already in use")
				return true
			}
			return false
		}
	})
	g := guest()
	b.must(b.d.CreateContainer, g, "shutoff")
	if got := f.all(); !slices.Equal(got, []string{g.ID}) || asked != 4 {
		t.Errorf("asked %d times there are %v", asked, got)
	}
}

func TestReferences(t *testing.T) {
	b := newBench(t, "/nowhere", nil)
	digest := "sha256:" + strings.Repeat("a", 64)
	for _, bad := range append(drivertest.HostileNames(), "Upper", "a:", "a@", "a@sha256:1", "a:b:c", "http://x/y", "a//b", "/a", "a/", "host:port/a", "a/B", strings.Repeat("a/", 200), strings.Repeat("a", 64)) {
		if bad == "a/b" {
			continue // an image can be called so
		}
		_, err := b.d.GetImage(t.Context(), &mistify.ImageRequest{ID: bad})
		if !errors.Is(err, virt.ErrInvalid) {
			t.Errorf("the image %.60q: %v", bad, err)
		}
	}
	for _, good := range []string{"busybox", "busybox:1.36", "library/busybox", "localhost/a", "127.0.0.1:5000/team/busybox:1", "r.example.org/a/b/c@" + digest, "a_b/c--d:X", digest} {
		_, err := b.d.GetImage(t.Context(), &mistify.ImageRequest{ID: good})
		if !errors.Is(err, virt.ErrUnreachable) {
			t.Errorf("the image %q: %v", good, err)
		}
	}
}
