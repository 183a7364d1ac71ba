package testbed

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// A Docker is one private dockerd, in a host of its own as a [Daemon] is: its socket, data, network and containers are nobody else's, and
// gone when the test ends. Inside of it, at [Docker.Registry], is a registry.
type Docker struct {
	host   *Daemon
	cgroup string // the folder of its containers, in each hierarchy of control groups
	client *http.Client
}

// registryPort is that of the registry, on the loopback of the host, which no other host has.
const registryPort = "5000"

// Busybox is the name of an image that each Docker has from the beginning: a busybox that sleeps until it is asked to end, in /bin of it.
const Busybox = "busybox:testbed"

// NewDocker starts a dockerd of this test's own, with the image [Busybox] and a registry that is empty. Where the parts are missing the test
// is skipped; see [Need].
func NewDocker(t testing.TB) *Docker {
	t.Helper()
	Need(t, "docker")
	dir, err := os.MkdirTemp("/tmp", "vagoth-testbed-")
	if err != nil {
		t.Fatalf("cannot make a folder for dockerd: %v", err)
	}
	d := &Docker{host: &Daemon{Name: "docker", UUID: newUUID(), dir: dir}, cgroup: filepath.Base(dir)}
	transport := &http.Transport{DisableKeepAlives: true, DialContext: dialUnix(d.Socket())}
	d.client = &http.Client{Transport: transport}
	t.Cleanup(func() {
		if t.Failed() {
			for _, name := range []string{"host.err", "dockerd.out", "docker-registry.out"} {
				if content, err := os.ReadFile(filepath.Join(dir, name)); err == nil && len(content) > 0 {
					t.Logf("%s:\n%s", name, tail(content))
				}
			}
		}
		d.host.end(t)
		d.removeGroups(t)
	})
	if err := d.host.boot(); err != nil {
		t.Fatalf("cannot start the host of dockerd: %v", err)
	}
	d.mountData(t)
	d.Start(t)
	d.startRegistry(t)
	if _, err := d.makeBusybox(t); err != nil {
		t.Fatalf("cannot make the image %s: %v", Busybox, err)
	}
	return d
}

// Socket is the path of dockerd's unix socket, which works from outside.
func (d *Docker) Socket() string { return filepath.Join(d.host.dir, "run", "docker.sock") }

// Registry begins the names of images of the registry.
func (d *Docker) Registry() string { return "127.0.0.1:" + registryPort }

// File is a path in a folder of this host that is deleted with it.
func (d *Docker) File(name string) string { return d.host.File(name) }

// Start starts dockerd and waits until it answers.
func (d *Docker) Start(t testing.TB) {
	t.Helper()
	d.host.launch(t, "dockerd", "--host", "unix://"+d.Socket(), "--data-root", d.host.dir+"/data", "--exec-root", d.host.dir+"/run/docker",
		"--pidfile", d.host.dir+"/run/docker.pid", "--cgroup-parent", "/"+d.cgroup, "--group", "root", "--userland-proxy=false", "--insecure-registry", d.Registry())
	if !Eventually(t, time.Minute, func() bool { _, err := d.call(t.Context(), http.MethodGet, "/_ping", nil); return err == nil }) {
		t.Fatal("dockerd does not answer")
	}
}

// Stop ends dockerd, and its containers.
func (d *Docker) Stop(t testing.TB) {
	t.Helper()
	d.host.must(t, "signal TERM dockerd")
	d.host.must(t, "wait dockerd")
}

// Kill kills dockerd with SIGKILL. Its containers go on, until it is started again.
func (d *Docker) Kill(t testing.TB) {
	t.Helper()
	d.host.must(t, "signal KILL dockerd")
	d.host.must(t, "wait dockerd")
}

// Pause stops dockerd with SIGSTOP: connections are still accepted by the kernel, and nobody answers.
func (d *Docker) Pause(t testing.TB) {
	t.Helper()
	d.host.must(t, "signal STOP dockerd")
}

// Continue lets a paused dockerd go on.
func (d *Docker) Continue(t testing.TB) {
	t.Helper()
	d.host.must(t, "signal CONT dockerd")
}

// Exec runs a command inside this host, in its network and with its files, and returns what it printed.
func (d *Docker) Exec(ctx context.Context, argv ...string) (string, error) {
	return d.host.Exec(ctx, argv...)
}

// Ask asks dockerd itself, whatever stands before it, and returns what it answers; a failure fails the test. The path begins behind the version.
func (d *Docker) Ask(t testing.TB, method, path string, body []byte) []byte {
	t.Helper()
	out, err := d.call(t.Context(), method, "/v1.41"+path, body)
	if err != nil {
		t.Fatalf("%s %s of dockerd: %v", method, path, err)
	}
	return out
}

// Push gives an image of dockerd to the registry, under the name NAME:TAG there, and returns what it is called then.
func (d *Docker) Push(t testing.TB, image, name, tag string) string {
	t.Helper()
	at := d.Registry() + "/" + name
	d.Ask(t, http.MethodPost, "/images/"+image+"/tag?repo="+at+"&tag="+tag, nil)
	if out := d.Ask(t, http.MethodPost, "/images/"+at+"/push?tag="+tag, nil); bytes.Contains(out, []byte("errorDetail")) {
		t.Fatalf("dockerd cannot push %s: %s", at, out)
	}
	d.Ask(t, http.MethodDelete, "/images/"+at+":"+tag, nil)
	return at + ":" + tag
}

// Group reads a file of the control group of a container, by its id, such as memory/memory.limit_in_bytes, or memory.max where there is one
// hierarchy for all.
func (d *Docker) Group(t testing.TB, container, one, all string) string {
	t.Helper()
	hierarchy, file, _ := strings.Cut(one, "/")
	for _, path := range []string{filepath.Join(groups, hierarchy, d.cgroup, container, file), filepath.Join(groups, d.cgroup, container, all)} {
		if text, err := os.ReadFile(path); err == nil {
			return strings.TrimSpace(string(text))
		}
	}
	t.Fatalf("the container %s has neither %s nor %s", container, one, all)
	return ""
}

const groups = "/sys/fs/cgroup"

// mountData gives dockerd a disk of its own, and has what is written to it counted: kernels from 6.10 on do so only for disks that somebody
// has bounded.
func (d *Docker) mountData(t testing.TB) {
	t.Helper()
	image, data := filepath.Join(d.host.dir, "disk"), filepath.Join(d.host.dir, "data")
	err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, 512<<20), os.Mkdir(data, 0o700))
	if err != nil {
		t.Fatalf("cannot make a disk for dockerd: %v", err)
	}
	var number string
	for _, argv := range [][]string{{"mkfs.ext4", "-q", "-F", image}, {"mount", "-o", "loop", image, data}, {"findmnt", "-n", "-o", "MAJ:MIN", data}} {
		if number, err = d.Exec(t.Context(), argv...); err != nil {
			t.Fatalf("cannot make a disk for dockerd: %v: %v: %s", argv, err, number)
		}
	}
	group := filepath.Join(groups, "blkio", d.cgroup)
	if _, err := os.Stat(filepath.Dir(group)); errors.Is(err, fs.ErrNotExist) {
		return // one hierarchy for all, which counts by itself
	}
	err = os.Mkdir(group, 0o755)
	if err == nil {
		err = os.WriteFile(filepath.Join(group, "blkio.throttle.write_bps_device"), []byte(strings.TrimSpace(number)+" 100000000000"), 0)
	}
	if err != nil {
		t.Fatalf("cannot have the disk of dockerd counted: %v", err)
	}
}

func (d *Docker) startRegistry(t testing.TB) {
	t.Helper()
	path := d.File("registry.yml")
	text := fmt.Sprintf("version: 0.1\nstorage:\n  filesystem:\n    rootdirectory: %s\n  delete:\n    enabled: true\nhttp:\n  addr: %s\n", d.File("registry"), d.Registry())
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatalf("cannot write the registry's config: %v", err)
	}
	d.host.launch(t, "docker-registry", "serve", path)
	if !Eventually(t, time.Minute, func() bool {
		c, err := d.host.Dial(t.Context(), "tcp", d.Registry())
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}) {
		t.Fatal("the registry does not answer")
	}
}

// makeBusybox makes the image Busybox.
func (d *Docker) makeBusybox(t testing.TB) ([]byte, error) {
	box, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return nil, err
	}
	var files bytes.Buffer
	w := tar.NewWriter(&files)
	errs := []error{w.WriteHeader(&tar.Header{Name: "bin/", Typeflag: tar.TypeDir, Mode: 0o755}), w.WriteHeader(&tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o777}),
		w.WriteHeader(&tar.Header{Name: "bin/busybox", Typeflag: tar.TypeReg, Mode: 0o755, Size: int64(len(box))})}
	_, err = w.Write(box)
	errs = append(errs, err)
	for _, name := range []string{"sh", "sleep", "dd", "cat", "echo", "wget", "httpd", "hostname"} {
		errs = append(errs, w.WriteHeader(&tar.Header{Name: "bin/" + name, Typeflag: tar.TypeSymlink, Linkname: "busybox"}))
	}
	if err := errors.Join(append(errs, w.Close())...); err != nil {
		return nil, err
	}
	// The shell ends when it is asked to: what is process 1 and says nothing of a signal does not get it.
	const change = `CMD ["/bin/sh","-c","trap 'exit 0' TERM; while :; do sleep 0.2; done"]`
	name, tag, _ := strings.Cut(Busybox, ":")
	return d.call(t.Context(), http.MethodPost, "/v1.41/images/create?fromSrc=-&repo="+name+"&tag="+tag+"&changes="+url.QueryEscape(change), files.Bytes())
}

// removeGroups removes the control groups, which are the machine's and stay. They are busy until the kernel has taken down what was in them.
func (d *Docker) removeGroups(t testing.TB) {
	if !Eventually(t, time.Minute, func() bool {
		left := false
		for _, pattern := range []string{filepath.Join(groups, d.cgroup), filepath.Join(groups, "*", d.cgroup)} {
			found, _ := filepath.Glob(pattern)
			for _, top := range found {
				below, _ := filepath.Glob(filepath.Join(top, "*", "cgroup.procs"))
				for _, file := range below {
					_ = os.Remove(filepath.Dir(file))
				}
				left = os.Remove(top) != nil || left
			}
		}
		return !left
	}) {
		t.Errorf("the control groups %s are left", d.cgroup)
	}
}

// call asks dockerd.
func (d *Docker) call(ctx context.Context, method, path string, body []byte) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, method, "http://docker"+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "application/json")
	}
	r.Header.Set("X-Registry-Auth", "e30=") // dockerd wants one for a push, and this is none
	resp, err := d.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	out, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode >= 300 && resp.StatusCode != http.StatusNotModified {
		err = fmt.Errorf("it answers %s: %s", resp.Status, bytes.TrimSpace(out))
	}
	return out, err
}

func dialUnix(path string) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}
}
