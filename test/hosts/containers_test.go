package hosts

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/vagoth/vagoth/cmd/vagoth/cli"
	"github.com/vagoth/vagoth/cmd/vagoth/hostagent"
	"github.com/vagoth/vagoth/internal/testlong"
	"github.com/vagoth/vagoth/manager/standard"
	"github.com/vagoth/vagoth/test/testbed"
	"github.com/vagoth/vagoth/virt/mistify"
)

// newContainers is a dockerd without an agent.
func newContainers(t testing.TB) *host {
	t.Helper()
	k := testbed.NewDocker(t)
	return &host{TB: t, docker: k, file: k.File}
}

// saved writes the image that a dockerd has from the beginning into a folder, as
// docker save does.
func (h *host) saved(path string) {
	h.Helper()
	h.must("save the image", os.WriteFile(path, h.docker.Ask(h, http.MethodGet, "/images/"+testbed.Busybox+"/get", nil), 0o600))
}

// containers are those of dockerd by their names, whatever the agent says, and
// which of them run.
func (h *host) containers() (all, running []string) {
	h.Helper()
	var list []struct {
		Names []string
		State string
	}
	h.must("read the containers", json.Unmarshal(h.docker.Ask(h, http.MethodGet, "/containers/json?all=1", nil), &list))
	for _, c := range list {
		name := strings.TrimPrefix(strings.Join(c.Names, " "), "/")
		if all = append(all, name); c.State == "running" {
			running = append(running, name)
		}
	}
	slices.Sort(all)
	slices.Sort(running)
	return all, running
}

// exec runs a program in the container of a node, which succeeds.
func (h *host) exec(node string, argv ...string) {
	h.Helper()
	var list []struct{ ID string }
	query := url.Values{"filters": {`{"label":["vagoth.name=` + node + `"]}`}}
	h.must("read the containers", json.Unmarshal(h.docker.Ask(h, http.MethodGet, "/containers/json?"+query.Encode(), nil), &list))
	if len(list) != 1 {
		h.Fatalf("%d containers run that are called %s", len(list), node)
	}
	asked, err := json.Marshal(map[string]any{"Cmd": argv, "AttachStdout": true, "AttachStderr": true})
	h.must("say what to run", err)
	var made struct{ ID string }
	h.must("read what is to run", json.Unmarshal(h.docker.Ask(h, http.MethodPost, "/containers/"+list[0].ID+"/exec", asked), &made))
	said := h.docker.Ask(h, http.MethodPost, "/exec/"+made.ID+"/start", []byte(`{}`))
	var ended struct{ ExitCode int }
	h.must("read how it ended", json.Unmarshal(h.docker.Ask(h, http.MethodGet, "/exec/"+made.ID+"/json", nil), &ended))
	if ended.ExitCode != 0 {
		h.Fatalf("%v in %s ended with %d: %q", argv, node, ended.ExitCode, said)
	}
}

// names are those of dockerd's images.
func (h *host) names() (all []string) {
	h.Helper()
	var list []struct{ RepoTags []string }
	h.must("read the images", json.Unmarshal(h.docker.Ask(h, http.MethodGet, "/images/json", nil), &list))
	for _, i := range list {
		all = append(all, i.RepoTags...)
	}
	slices.Sort(all)
	return all
}

// The walk of docs/subagents.md: a container's life through the agent's REST
// interface, with an image from a registry and one from a URL.
func TestContainerWalk(t *testing.T) {
	t.Parallel()
	h := newContainers(t)
	pushed := h.docker.Push(t, testbed.Busybox, "team/web", "1")
	folder, url := web(t)
	h.saved(filepath.Join(folder, "web.tar"))
	h.run(hostagent.Source{INI: h.ini("127.0.0.1:0")})
	here := strings.NewReplacer("http://127.0.0.1:8080", h.url, "https://images.example.org", url, "registry.example.org/team/web:1", pushed,
		"registry.example.org%2Fteam%2Fweb:1", strings.ReplaceAll(pushed, "/", "%2F"))
	if n := h.walk("A container's life with curl", folder, here); n < 15 {
		t.Errorf("only %d commands were typed", n)
	}
	if all, _ := h.containers(); len(all) > 0 {
		t.Errorf("the containers %v are left", all)
	}
}

// shippedContainers is what the configuration that Mistify's agent ships calls of
// containers.
var shippedContainers = map[string]string{
	"containerCreate": "mdocker MDocker.CreateContainer, mdocker MDocker.StartContainer", "containerDelete": "mdocker MDocker.StopContainer, mdocker MDocker.DeleteContainer",
	"containerStart": "mdocker MDocker.StartContainer", "containerReboot": "mdocker MDocker.RebootContainer", "containerRestart": "mdocker MDocker.RestartContainer",
	"containerPoweroff": "mdocker MDocker.StopContainer", "containerShutdown": "mdocker MDocker.StopContainer", "containerListImages": "mdocker MDocker.ListImages",
	"containerGetImage": "mdocker MDocker.GetImage", "containerDeleteImage": "mdocker MDocker.DeleteImage", "containerFetchImage": "mdocker MDocker.LoadImage",
}

// The configuration of Mistify's agent drives containers unchanged but for the
// port, with an image from the registry and one from a URL.
func TestMistifyContainers(t *testing.T) {
	t.Parallel()
	h := newContainers(t)
	pushed := h.docker.Push(t, testbed.Busybox, "team/web", "1")
	folder, url := web(t)
	h.saved(filepath.Join(folder, "web.tar"))
	h.runMistify(shippedContainers, map[string]map[string]any{"mdocker": {"port": h.serve("docker", "socket = "+h.docker.Socket()+"\nfetch_private = yes\ngrace = 2s")}})
	ctx := t.Context()
	job, err := h.client.FetchContainerImage(ctx, mistify.ImageRequest{ID: "loaded", Source: url + "/web.tar"})
	h.done(job, err)
	job, err = h.client.FetchContainerImage(ctx, mistify.ImageRequest{ID: pushed})
	h.done(job, err)
	if list, err := h.client.ContainerImages(ctx); err != nil || len(list) != 3 {
		t.Errorf("the images are %+v (%v)", list, err)
	}
	g := h.create(mistify.Guest{ID: uuid.NewString(), Type: mistify.TypeContainer, Image: "loaded", CPU: 1, Memory: 16, NICs: []mistify.NIC{{Network: "bridge"}}})
	if g.State != "running" {
		t.Errorf("it is %s", g.State)
	}
	other := h.create(mistify.Guest{ID: uuid.NewString(), Type: mistify.TypeContainer, Image: pushed, NICs: []mistify.NIC{{Network: "bridge"}}})
	for _, action := range []string{"reboot", "restart", "start"} {
		if g := h.act(g.ID, action); g.State != "running" {
			t.Errorf("after %s it is %s", action, g.State)
		}
	}
	for _, action := range []string{"shutdown", "poweroff"} {
		if g := h.act(g.ID, action); g.State != "shutoff" {
			t.Errorf("after %s it is %s", action, g.State)
		}
	}
	for _, id := range []string{g.ID, other.ID} {
		h.done(h.client.DeleteGuest(ctx, id))
	}
	if all, _ := h.containers(); len(all) > 0 {
		t.Errorf("the containers %v are left", all)
	}
	for _, id := range []string{"loaded", pushed} {
		h.done(h.client.DeleteImage(ctx, id))
	}
	if got := h.names(); !slices.Equal(got, []string{testbed.Busybox}) {
		t.Errorf("the images %v are left", got)
	}
}

// The agent is killed while containers and images are made and removed; the next
// one goes on. Then each guest that it knows has its container, which runs, and
// there is no other.
func TestContainersKilled(t *testing.T) {
	t.Parallel()
	h := newContainers(t)
	d := &doomed{host: h, ini: h.ini("127.0.0.1:0"), guests: map[string]word{}, images: map[string]word{}, hit: map[word]int{}}
	seed := uint64(testlong.Seed(t))
	folder, url := web(t)
	h.saved(filepath.Join(folder, "base.tar"))
	d.make = func(bool) mistify.Guest {
		return mistify.Guest{ID: uuid.NewString(), Type: mistify.TypeContainer, Image: testbed.Busybox, CPU: 1, Memory: 16}
	}
	d.fetch = func(id string) mistify.ImageRequest {
		return mistify.ImageRequest{ID: id, Type: mistify.TypeContainer, Source: url + "/base.tar"}
	}
	d.live()
	rounds := 200
	if !testlong.Long() {
		rounds = 3 // a container takes longer to start than a guest with an empty disk
	}
	d.rounds(rounds, rand.New(rand.NewPCG(seed, seed)), d.checkContainers)
	for _, id := range slices.Sorted(maps.Keys(d.guests)) {
		d.done(d.client.DeleteGuest(t.Context(), id))
	}
	if all, _ := h.containers(); len(all) > 0 && !t.Failed() {
		t.Errorf("in the end the containers %v are left", all)
	}
	if err := errors.Join(d.stdin.Close(), <-d.ended); err != nil {
		t.Errorf("the agent's end: %v", err)
	}
}

func (d *doomed) checkContainers(round int) {
	d.Helper()
	fail := func(format string, args ...any) {
		d.Helper()
		d.Errorf("round %d: %s", round, fmt.Sprintf(format, args...))
	}
	list, err := d.client.Guests(d.Context())
	d.must("list the guests", err)
	known := make([]string, len(list))
	for i, g := range list {
		known[i] = g.ID
	}
	slices.Sort(known)
	all, running := d.containers()
	if !slices.Equal(known, all) || !slices.Equal(known, running) {
		fail("the guests are %v, the containers %v, of which run %v; of them was known %v", known, all, running, d.guests)
	}
	for _, id := range known {
		if _, ours := d.guests[id]; !ours {
			fail("the guest %s is there, and was removed", id)
		}
	}
	d.compare(fail, d.guests, known)
	var images []string
	for _, name := range d.names() {
		if name != testbed.Busybox {
			images = append(images, strings.TrimSuffix(name, ":latest"))
		}
	}
	for _, id := range images {
		if i, err := d.client.Image(d.Context(), id); err != nil || i.Status != "complete" || d.images[id] == "" {
			fail("the image %s, last %q, is %+v (%v)", id, d.images[id], i, err)
		}
	}
	d.compare(fail, d.images, images)
	if left, err := os.ReadDir(d.file("data/subagents/docker/incoming")); err != nil || len(left) > 0 {
		fail("what was downloaded is left: %v (%v)", left, err)
	}
}

// The manager above: containers are fetched images for, placed, started, measured
// and removed through an agent, and on a simulated host, by the same commands.
func TestContainerCommands(t *testing.T) {
	t.Parallel()
	h := newContainers(t)
	folder, url := web(t)
	h.saved(filepath.Join(folder, "web.tar"))
	h.run(hostagent.Source{INI: h.ini("127.0.0.1:0")})
	ini := filepath.Join(t.TempDir(), "vagoth.ini")
	h.must("write the file", os.WriteFile(ini, []byte("data = data\n[drivers.agents]\nuse = remote\n[drivers.lab]\nuse = sim\npath = sims\n"), 0o600))
	vagoth := func(args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		env := cli.Env{In: strings.NewReader(""), Out: &out, Err: &errs, Getenv: func(string) string { return "" }, Now: time.Now, Who: "tester"}
		if code := cli.Run(t.Context(), standard.Menu(), env, append([]string{"-c", ini}, args...)); code != 0 {
			t.Fatalf("vagoth %s exited with %d:\n%s%s", strings.Join(args, " "), code, &out, &errs)
		}
		return out.String()
	}
	shows := func(want string, args ...string) {
		t.Helper()
		if out := vagoth(args...); !strings.Contains(out, want) {
			t.Errorf("vagoth %s does not show %q:\n%s", strings.Join(args, " "), want, out)
		}
	}
	vagoth("hv", "add", "h1", "--driver", "agents", "--url", h.url, "--types", "container")
	vagoth("hv", "add", "h2", "--driver", "lab", "--types", "container,vm")
	for _, hv := range []string{"h1", "h2"} {
		vagoth("image", "fetch", "team/web:1", hv, "--type", "container", "--from", url+"/web.tar")
		shows("team/web:1", "image", "list", hv)
	}
	vagoth("new", "c1", "type=container", "image=team/web:1", "cpu=1", "memory=16M")
	vagoth("start", "c1", "--host", "h1")
	shows("running", "info", "c1")
	if all, running := h.containers(); len(all) != 1 || len(running) != 1 {
		t.Errorf("the containers are %v, and %v run", all, running)
	}
	shows("CPU", "metrics", "c1")

	// What it writes becomes an image, of which another begins.
	h.exec("c1", "/bin/sh", "-c", "echo of-c1 > /written")
	shows("c1 is saved as image team/web:2", "image", "save", "c1", "team/web:2")
	shows("team/web:2", "image", "list", "h1")
	shows("running", "info", "c1")
	vagoth("new", "c3", "type=container", "image=team/web:2", "cpu=1", "memory=16M", "terminal=yes")
	vagoth("start", "c3", "--host", "h1")
	h.exec("c3", "/bin/sh", "-c", `read was < /written && test "$was" = of-c1`)
	vagoth("stop", "c3")
	for _, step := range []struct{ verb, state string }{{"suspend", "paused"}, {"resume", "running"}, {"stop", "stopped"}} {
		vagoth(step.verb, "c1")
		vagoth("poll")
		shows(step.state, "info", "c1")
	}
	vagoth("new", "c2", "type=container", "image=team/web:1", "cpu=1", "memory=16M")
	vagoth("start", "c2", "--host", "h2")
	shows("running", "info", "c2")
	vagoth("stop", "c2")
	for _, id := range []string{"c1", "c2", "c3"} {
		vagoth("undefine", id)
		vagoth("deprovision", id, "--yes")
		vagoth("delete", id, "--yes")
	}
	vagoth("image", "delete", "team/web:1", "h1", "h2", "--yes")
	vagoth("image", "delete", "team/web:2", "h1", "--yes")
	if all, _ := h.containers(); len(all) > 0 {
		t.Errorf("the containers %v are left", all)
	}
}
