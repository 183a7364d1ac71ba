package hosts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/vagoth/vagoth/cmd/vagoth/hostagent"
	"github.com/vagoth/vagoth/manager/standard"
	"github.com/vagoth/vagoth/test/testbed"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

func TestMain(m *testing.M) {
	if ini := os.Getenv(childEnv); ini != "" {
		os.Exit(child(ini))
	}
	goleak.VerifyTestMain(m)
}

// patience is how long anything may take on a busy machine that emulates its
// guests. Nothing is measured with it.
const patience = 90 * time.Second

// host is a libvirtd of a test's own, or a dockerd, with an agent before it.
type host struct {
	testing.TB
	daemon  *testbed.Daemon
	docker  *testbed.Docker
	file    func(name string) string // a path in the host's folder
	url     string
	client  *mistify.Client
	stop    func()
	kernel  string
	initrd  string
	started int
}

// newHost starts both.
func newHost(t testing.TB, name string) *host {
	t.Helper()
	h := newBare(t, name)
	h.run(hostagent.Source{INI: h.ini("127.0.0.1:0")})
	return h
}

// newBare starts no agent.
func newBare(t testing.TB, name string) *host {
	t.Helper()
	testbed.Need(t, "libvirt", "guest")
	h := &host{TB: t, daemon: testbed.NewLibvirt(t, name)}
	h.file = h.daemon.File
	h.kernel, h.initrd = testbed.Guest(t)
	return h
}

// again starts an agent that was stopped, where it was.
func (h *host) again() {
	h.Helper()
	h.run(hostagent.Source{INI: h.ini(strings.TrimPrefix(h.url, "http://"))})
}

// ini writes the agent's file: what it leaves out is as by default.
func (h *host) ini(listen string) string {
	path := h.file("vagoth.ini")
	if h.docker != nil {
		text := fmt.Sprintf("data = data\n[agent]\nlisten = %s\n[agent.service.docker]\n[subagent.docker]\nsocket = %s\ngrace = 1s\nfetch_private = yes\n", listen, h.docker.Socket())
		h.must("write the file", os.WriteFile(path, []byte(text), 0o600))
		return path
	}
	text := fmt.Sprintf("data = data\n[agent]\nlisten = %s\n[subagent.libvirt]\nuri = %s\nemulator = qemu\n[subagent.dir]\nlibvirt = %[2]s\nfetch_private = yes\n", listen, h.daemon.URI())
	h.must("write the file", os.WriteFile(path, []byte(text), 0o600))
	return path
}

func menu() hostagent.Menu {
	m := standard.Menu()
	return hostagent.Menu{SubAgents: m.SubAgents, Stages: m.Stages, Default: m.Defaults.SubAgents}
}

// run runs an agent until the test ends or it is stopped.
func (h *host) run(src hostagent.Source) {
	h.Helper()
	h.started++
	log, err := os.Create(h.file(fmt.Sprintf("agent-%d.log", h.started)))
	h.must("make the log", err)
	ctx, cancel := context.WithCancel(context.Background())
	ready, ended := make(chan string, 1), make(chan error, 1)
	go func() {
		ended <- hostagent.Run(ctx, hostagent.Options{
			Load: func() (*hostagent.Settings, error) { return hostagent.Read(src, menu()) }, Version: "test",
			LogTo: log, Level: "debug", Ready: func(address string) { ready <- address },
		})
	}()
	h.stop = func() {
		h.stop = func() {}
		cancel()
		if err := <-ended; err != nil {
			h.Errorf("the agent: %v", err)
		}
		h.must("close the log", log.Close())
	}
	h.Cleanup(func() { h.stop() })
	select {
	case address := <-ready:
		h.url = "http://" + address
	case err := <-ended:
		ended <- nil
		h.Fatalf("the agent did not start: %v", err)
	}
	transport := &http.Transport{}
	h.client, err = mistify.NewClient(h.url, mistify.ClientOptions{Transport: transport})
	h.must("make a client", err)
	h.Cleanup(transport.CloseIdleConnections)
}

func (h *host) must(what string, err error) {
	h.Helper()
	if err != nil {
		h.Fatalf("%s: %v", what, err)
	}
}

// done waits for a job and fails unless it is complete.
func (h *host) done(job string, err error) {
	h.Helper()
	h.must("ask", err)
	j, err := h.client.WaitJob(h.Context(), job)
	h.must("wait for "+job, err)
	if j.Status != mistify.JobComplete {
		h.Fatalf("%s ended as %s: %s", j.Action, j.Status, j.Message)
	}
}

// act does an action and returns the guest as it is then.
func (h *host) act(id, action string) mistify.Guest {
	h.Helper()
	_, job, err := h.client.Act(h.Context(), id, action)
	h.done(job, err)
	g, err := h.client.Guest(h.Context(), id)
	h.must("look at the guest", err)
	return g
}

// guest boots from the testbed's kernel, counts its boots in its first disk, and
// says all of it into its log.
func (h *host) guest(more string, disks ...mistify.Disk) mistify.Guest {
	id := uuid.NewString()
	return mistify.Guest{
		ID: id, CPU: 1, Memory: 128, Disks: disks,
		Boot:    virt.Boot{Kernel: h.kernel, Initrd: h.initrd, Cmdline: strings.TrimSpace("console=ttyS0 vagoth.count=1 " + more)},
		Console: virt.Console{Serial: "file", Log: h.log(id), VNC: true},
	}
}

func (h *host) log(id string) string { return h.daemon.File(id + ".log") }

func (h *host) create(g mistify.Guest) mistify.Guest {
	h.Helper()
	_, job, err := h.client.CreateGuest(h.Context(), g)
	h.done(job, err)
	made, err := h.client.Guest(h.Context(), g.ID)
	h.must("look at the guest", err)
	return made
}

// said waits until a guest has said a line so often.
func (h *host) said(id, line string, times int) {
	h.Helper()
	testbed.WaitForTexts(h, h.log(id), line+"\r\n", times, patience) // as a terminal has it
}

// says reports whether it has said it.
func (h *host) says(id, line string) bool {
	h.Helper()
	data, err := os.ReadFile(h.log(id))
	if errors.Is(err, os.ErrNotExist) {
		return false
	}
	h.must("read the log", err)
	return strings.Contains(strings.ReplaceAll(string(data), "\r\n", "\n"), line+"\n")
}

// web serves a folder on the loopback.
func web(t testing.TB) (folder, url string) {
	t.Helper()
	folder = t.TempDir()
	server := httptest.NewServer(http.FileServer(http.Dir(folder)))
	t.Cleanup(server.Close)
	return folder, server.URL
}

// image writes a raw disk of some MB whose first sector says that it was booted
// so often, with some text behind it.
func image(t testing.TB, path string, size int64, boots int) {
	t.Helper()
	sector := make([]byte, 512)
	copy(sector, fmt.Sprintf("boots %d\n", boots))
	f, err := os.Create(path)
	if err == nil {
		_, err = f.Write(sector)
		err = errors.Join(err, f.Truncate(size<<20), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// download writes a snapshot of a disk to a file.
func (h *host) download(s mistify.SnapshotID, path string) {
	h.Helper()
	d, err := h.client.DownloadSnapshot(h.Context(), s)
	h.must("download "+s.String(), err)
	f, err := os.Create(path)
	h.must("make the file", err)
	_, err = io.Copy(f, d)
	h.must("download "+s.String(), errors.Join(err, d.Close(), f.Close()))
}

func (h *host) files() []string {
	h.Helper()
	var all []string
	h.must("list the disks", filepath.WalkDir(h.daemon.File("data/subagents/dir/guests"), func(path string, e os.DirEntry, err error) error {
		if err == nil && !e.IsDir() {
			all = append(all, path)
		}
		return err
	}))
	return all
}
