package testbed

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	_ "embed"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

//go:embed host
var hostScript []byte

var (
	unshareFlags = []string{"--mount", "--net", "--pid", "--uts", "--ipc", "--fork"}
	daemonName   = regexp.MustCompile(`^[a-z][a-z0-9-]{0,15}$`)
)

// A Daemon is one private hypervisor host with its libvirtd and virtlogd. Its methods may be called from several goroutines.
type Daemon struct {
	Name string // also the host's name, as libvirt reports it
	UUID string // the host's UUID, different for each, as migration wants it

	dir     string
	outside int // the pid of the host's process 1, seen from outside
	command *exec.Cmd
	cancel  context.CancelFunc

	mu      sync.Mutex // one order at a time
	orders  *os.File
	pipe    *os.File // the answers, one line for each order
	answers *bufio.Reader
}

// Libvirt starts a private libvirtd for this test; see [NewLibvirt].
func Libvirt(t testing.TB) *Daemon {
	t.Helper()
	return NewLibvirt(t, "host")
}

// NewLibvirt starts a private libvirtd and virtlogd under this name (lower-case letters, digits and dashes, at most 16), ready to be
// connected to. Any number of them run side by side, on one name too. All of it, guests included, is gone when the test ends.
// Where the parts are missing the test is skipped; see [Need].
func NewLibvirt(t testing.TB, name string) *Daemon {
	t.Helper()
	Need(t, "libvirt")
	if !daemonName.MatchString(name) {
		t.Fatalf("a host cannot be named %q: lower-case letters, digits and dashes, at most 16", name)
	}
	// Not t.TempDir: the path of a unix socket ends at 107 bytes, and the name of the test would be in it.
	dir, err := os.MkdirTemp("/tmp", "vagoth-testbed-")
	if err != nil {
		t.Fatalf("cannot make a folder for host %s: %v", name, err)
	}
	d := &Daemon{Name: name, UUID: newUUID(), dir: dir}
	t.Cleanup(func() {
		if t.Failed() {
			d.dump(t)
		}
		d.end(t)
	})
	if err := d.boot(); err != nil {
		t.Fatalf("cannot start host %s: %v", name, err)
	}
	d.launch(t, "virtlogd", "--config", "/etc/libvirt/virtlogd.conf", "--pid-file", "/run/virtlogd.pid")
	d.awaitFile(t, filepath.Join(dir, "run", "libvirt", "virtlogd-sock"))
	d.Start(t)
	return d
}

// Socket is the path of libvirtd's unix socket, which works from outside.
func (d *Daemon) Socket() string { return filepath.Join(d.dir, "run", "libvirt", "libvirt-sock") }

// URI is what virsh --connect and the libvirt driver take.
func (d *Daemon) URI() string { return "qemu:///system?socket=" + d.Socket() }

// File is a path in a folder of this host that is deleted with it; it means the same inside and outside.
func (d *Daemon) File(name string) string { return filepath.Join(d.dir, "guests", name) }

// Start starts libvirtd and waits until it answers. A libvirtd that runs already is a mistake of the test.
func (d *Daemon) Start(t testing.TB) {
	t.Helper()
	// The socket that a killed libvirtd left behind would pass for a new one.
	if err := os.Remove(d.Socket()); err != nil && !os.IsNotExist(err) {
		t.Fatalf("cannot remove the old socket of host %s: %v", d.Name, err)
	}
	d.launch(t, "libvirtd", "--config", "/etc/libvirt/libvirtd.conf", "--pid-file", "/run/libvirtd.pid")
	d.awaitFile(t, d.Socket())
	var out string
	var err error
	if !Eventually(t, time.Minute, func() bool {
		out, err = d.TryVirsh(t.Context(), "list", "--all", "--name")
		return err == nil
	}) {
		t.Fatalf("libvirtd of host %s does not answer: %v: %s", d.Name, err, out)
	}
}

// Stop ends libvirtd in good order. Its guests go on.
func (d *Daemon) Stop(t testing.TB) {
	t.Helper()
	d.must(t, "signal TERM libvirtd")
	d.must(t, "wait libvirtd")
}

// Kill kills libvirtd with SIGKILL. Its guests go on, and virtlogd with their logs.
func (d *Daemon) Kill(t testing.TB) {
	t.Helper()
	d.must(t, "signal KILL libvirtd")
	d.must(t, "wait libvirtd")
}

// Restart is Stop and Start.
func (d *Daemon) Restart(t testing.TB) {
	t.Helper()
	d.Stop(t)
	d.Start(t)
}

// Pause stops libvirtd with SIGSTOP: connections are still accepted by the kernel, and nobody answers.
func (d *Daemon) Pause(t testing.TB) {
	t.Helper()
	d.must(t, "signal STOP libvirtd")
}

// Continue lets a paused libvirtd go on.
func (d *Daemon) Continue(t testing.TB) {
	t.Helper()
	d.must(t, "signal CONT libvirtd")
}

// Virsh runs virsh on this host's libvirtd and returns what it printed; a failure fails the test.
func (d *Daemon) Virsh(t testing.TB, arguments ...string) string {
	t.Helper()
	out, err := d.TryVirsh(t.Context(), arguments...)
	if err != nil {
		t.Fatalf("virsh %s on host %s: %v: %s", strings.Join(arguments, " "), d.Name, err, out)
	}
	return out
}

// TryVirsh is Virsh for calls that may fail. It takes at most a minute.
func (d *Daemon) TryVirsh(ctx context.Context, arguments ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	command := exec.CommandContext(ctx, "virsh", slices.Concat([]string{"--quiet", "--connect", d.URI()}, arguments)...)
	command.Env = append(os.Environ(), "LC_ALL=C", "HOME="+d.dir)
	command.WaitDelay = time.Second
	out, err := command.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// Exec runs a command inside this host, in its network and with its files, and returns what it printed.
func (d *Daemon) Exec(ctx context.Context, argv ...string) (string, error) {
	flags := []string{"--target", strconv.Itoa(d.outside), "--mount", "--net", "--pid", "--uts", "--ipc", "--"}
	command := exec.CommandContext(ctx, "nsenter", append(flags, argv...)...)
	command.WaitDelay = time.Second
	out, err := command.CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

func (d *Daemon) boot() error {
	if err := d.configure(); err != nil {
		return err
	}
	script := filepath.Join(d.dir, "host")
	if err := os.WriteFile(script, hostScript, 0o700); err != nil {
		return err
	}
	ordersRead, ordersWrite, err := os.Pipe()
	if err != nil {
		return err
	}
	answersRead, answersWrite, err := os.Pipe()
	if err != nil {
		return err
	}
	stderr, err := os.Create(filepath.Join(d.dir, "host.err"))
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background()) // not the test's: that one is over before cleaning up
	d.cancel = cancel
	d.command = exec.CommandContext(ctx, "unshare", append(slices.Clone(unshareFlags), "bash", script, d.dir, d.Name)...)
	d.command.Stdin, d.command.Stdout, d.command.Stderr = ordersRead, answersWrite, stderr
	d.command.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "HOME=" + d.dir}
	d.command.Dir = "/"
	err = d.command.Start()
	for _, file := range []*os.File{ordersRead, answersWrite, stderr} {
		_ = file.Close() // the child has its own
	}
	if err != nil {
		d.command = nil
		_ = ordersWrite.Close()
		_ = answersRead.Close()
		return err
	}
	d.orders, d.pipe, d.answers = ordersWrite, answersRead, bufio.NewReader(answersRead)
	answer, err := d.answer()
	if err != nil {
		return err
	}
	d.outside, err = strconv.Atoi(answer)
	return err
}

// answer reads one line. The deadline stands for a host that hangs.
func (d *Daemon) answer() (string, error) {
	if err := d.pipe.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
		return "", err
	}
	line, err := d.answers.ReadString('\n')
	if err != nil {
		problem, _ := os.ReadFile(filepath.Join(d.dir, "host.err"))
		return "", fmt.Errorf("the host does not answer: %w: %s", err, bytes.TrimSpace(problem))
	}
	verdict, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	if verdict != "ok" {
		return "", fmt.Errorf("the host refuses: %s", rest)
	}
	return rest, nil
}

func (d *Daemon) order(line string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.orders == nil {
		return fmt.Errorf("the host is gone")
	}
	if _, err := fmt.Fprintln(d.orders, line); err != nil {
		return err
	}
	_, err := d.answer()
	return err
}

func (d *Daemon) must(t testing.TB, line string) {
	t.Helper()
	if err := d.order(line); err != nil {
		t.Fatalf("%s on host %s: %v", line, d.Name, err)
	}
}

func (d *Daemon) launch(t testing.TB, name string, arguments ...string) {
	t.Helper()
	path, err := program(name)
	if err != nil {
		t.Fatal(err)
	}
	d.must(t, strings.Join(append([]string{"start", name, path}, arguments...), " "))
}

func (d *Daemon) awaitFile(t testing.TB, path string) {
	t.Helper()
	if !Eventually(t, time.Minute, func() bool { _, err := os.Stat(path); return err == nil }) {
		t.Fatalf("host %s: %s does not appear", d.Name, path)
	}
}

// end closes the pipe, which ends the host, waits until the kernel has taken all of it down, and sees that its folder is gone.
func (d *Daemon) end(t testing.TB) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.command != nil {
		_ = d.orders.Close()
		d.orders = nil
		// A host that does not end by itself is killed, and with its process 1 all that is in there.
		timer := time.AfterFunc(30*time.Second, d.cancel)
		if err := d.command.Wait(); err != nil && d.outside != 0 {
			t.Errorf("host %s did not end well: %v", d.Name, err)
		}
		timer.Stop()
		_ = d.pipe.Close()
	}
	if d.cancel != nil {
		d.cancel()
	}
	if err := os.RemoveAll(d.dir); err != nil {
		t.Errorf("cannot delete the folder of host %s: %v", d.Name, err)
	}
}

// dump logs the daemons' own words, for a test that failed.
func (d *Daemon) dump(t testing.TB) {
	for _, name := range []string{"host.err", "virtlogd.out", "libvirtd.out"} {
		if content, err := os.ReadFile(filepath.Join(d.dir, name)); err == nil && len(content) > 0 {
			t.Logf("host %s, %s:\n%s", d.Name, name, tail(content))
		}
	}
	logs, _ := filepath.Glob(filepath.Join(d.dir, "log", "qemu", "*.log"))
	for _, name := range logs {
		if content, err := os.ReadFile(name); err == nil {
			t.Logf("host %s, %s:\n%s", d.Name, filepath.Base(name), tail(content))
		}
	}
}

func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
