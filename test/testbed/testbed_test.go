package testbed_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/vagoth/vagoth/test/testbed"
)

const patience = 2 * time.Minute // a guest is up in four seconds; a busy machine of one core may take ten times that

// crashVariable makes this test program start a host with a guest, print the host's folder, and wait to be killed.
const crashVariable = "VAGOTH_TESTBED_CRASH"

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bootGuest is startGuest, and waits until the guest is up.
func bootGuest(t *testing.T, d *testbed.Daemon, id, qemuArguments string, parameters ...string) (serial string) {
	t.Helper()
	serial = startGuest(t, d, id, qemuArguments, parameters...)
	log := testbed.WaitForText(t, serial, testbed.GuestUp, patience)
	if !strings.Contains(log, testbed.GuestID(id)) {
		t.Errorf("the guest does not know that it is %s:\n%s", id, log)
	}
	return serial
}

// startGuest defines and starts a tiny guest and returns its serial log. Each parameter goes to its kernel's command line.
func startGuest(t *testing.T, d *testbed.Daemon, id, qemuArguments string, parameters ...string) (serial string) {
	t.Helper()
	kernel, initrd := testbed.Guest(t)
	serial = d.File(id + ".log")
	definition := fmt.Sprintf(`<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
<name>%[1]s</name><memory unit='MiB'>128</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc'>hvm</type><kernel>%[2]s</kernel><initrd>%[3]s</initrd>
<cmdline>console=ttyS0 quiet vagoth.id=%[1]s %[4]s</cmdline></os>
<features><acpi/></features>
<devices><serial type='file'><source path='%[5]s'/></serial><memballoon model='none'/></devices>
<qemu:commandline>%[6]s</qemu:commandline></domain>`, id, kernel, initrd, strings.Join(parameters, " "), serial, qemuArguments)
	file := d.File(id + ".xml")
	if err := os.WriteFile(file, []byte(definition), 0o600); err != nil {
		t.Fatal(err)
	}
	d.Virsh(t, "define", file)
	d.Virsh(t, "start", id)
	return serial
}

func awaitState(t *testing.T, d *testbed.Daemon, id, state string) {
	t.Helper()
	var seen string
	if !testbed.Eventually(t, patience, func() bool { seen = d.Virsh(t, "domstate", id); return seen == state }) {
		t.Fatalf("%s is %q, expected %q", id, seen, state)
	}
}

func TestGuestBootsRebootsAndShutsDown(t *testing.T) {
	t.Parallel()
	d := testbed.Libvirt(t)
	serial := bootGuest(t, d, "web1", "")
	awaitState(t, d, "web1", "running")

	d.Virsh(t, "reboot", "web1")
	testbed.WaitForTexts(t, serial, testbed.GuestUp, 2, patience)
	awaitState(t, d, "web1", "running")

	d.Virsh(t, "shutdown", "web1")
	testbed.WaitForTexts(t, serial, testbed.GuestDown, 2, patience)
	awaitState(t, d, "web1", "shut off")
}

func TestDeafGuestIgnoresThePowerButton(t *testing.T) {
	t.Parallel()
	d := testbed.Libvirt(t)
	serial := bootGuest(t, d, "web1", "", "vagoth.deaf=1")
	d.Virsh(t, "shutdown", "web1")
	beats := strings.Count(testbed.WaitForText(t, serial, "beat", patience), "beat")
	log := testbed.WaitForTexts(t, serial, "beat", beats+3, patience)
	if strings.Contains(log, testbed.GuestDown) {
		t.Errorf("it was told to ignore the power button:\n%s", log)
	}
	awaitState(t, d, "web1", "running")
}

func TestTwoDaemonsSideBySide(t *testing.T) {
	t.Parallel()
	a, b := testbed.NewLibvirt(t, "a"), testbed.NewLibvirt(t, "b")
	if a.URI() == b.URI() || a.UUID == b.UUID {
		t.Errorf("the two are one: %s %s, %s %s", a.URI(), b.URI(), a.UUID, b.UUID)
	}
	for _, d := range []*testbed.Daemon{a, b} {
		if name := d.Virsh(t, "hostname"); name != d.Name {
			t.Errorf("host %s says it is %q", d.Name, name)
		}
		if capabilities := d.Virsh(t, "capabilities"); !strings.Contains(capabilities, d.UUID) {
			t.Errorf("host %s does not have its UUID %s", d.Name, d.UUID)
		}
	}
	startGuest(t, a, "web1", "")
	if names := b.Virsh(t, "list", "--all", "--name"); names != "" {
		t.Errorf("host b sees guests of host a: %q", names)
	}
	startGuest(t, b, "web1", "") // nothing between the two keeps one VM from running twice: that is for vagoth to notice
	awaitState(t, a, "web1", "running")
	awaitState(t, b, "web1", "running")
}

func TestGuestsOutliveLibvirtd(t *testing.T) {
	t.Parallel()
	d := testbed.Libvirt(t)
	serial := bootGuest(t, d, "web1", "")
	for name, end := range map[string]func(testing.TB){"Kill": d.Kill, "Stop": d.Stop} {
		t.Run(name, func(t *testing.T) {
			end(t)
			if out, err := d.TryVirsh(t.Context(), "list"); err == nil {
				t.Errorf("a libvirtd that is gone answers: %s", out)
			}
			beats := strings.Count(testbed.WaitForText(t, serial, "beat", patience), "beat")
			testbed.WaitForTexts(t, serial, "beat", beats+2, patience)
			d.Start(t)
			awaitState(t, d, "web1", "running")
		})
	}
	t.Run("Pause", func(t *testing.T) {
		d.Pause(t)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if out, err := d.TryVirsh(ctx, "list"); err == nil {
			t.Errorf("a paused libvirtd answers: %s", out)
		}
		d.Continue(t)
		awaitState(t, d, "web1", "running")
	})
}

func TestDialReachesAForwardedPort(t *testing.T) {
	t.Parallel()
	d := testbed.Libvirt(t)
	disk := d.File("disk.raw")
	if err := os.WriteFile(disk, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	arguments := ""
	for _, argument := range []string{
		"-netdev", "user,id=n0,hostfwd=tcp:127.0.0.1:8080-:80", "-device", "virtio-net-pci,netdev=n0,addr=0x8",
		"-drive", "if=none,id=d0,format=raw,file=" + disk, "-device", "virtio-blk-pci,drive=d0,addr=0x9",
	} {
		arguments += "<qemu:arg value='" + argument + "'/>"
	}
	serial := bootGuest(t, d, "web1", arguments, "vagoth.ip=10.0.2.15/24", "vagoth.gw=10.0.2.2", "vagoth.count=1")
	testbed.WaitForText(t, serial, "vagoth-guest: disk vda 1048576 bytes", patience)
	testbed.WaitForText(t, serial, "vagoth-guest: boots 1", patience)

	if conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", "127.0.0.1:8080"); err == nil {
		_ = conn.Close()
		t.Log("something of the machine's own listens on its port 8080; the next request tells whether the two are kept apart")
	}
	transport := &http.Transport{DialContext: d.Dial, DisableKeepAlives: true}
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:8080/id", nil)
	if err != nil {
		t.Fatal(err)
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if body, err := io.ReadAll(response.Body); err != nil || strings.TrimSpace(string(body)) != "web1" {
		t.Errorf("the guest's web server says %q, %v", body, err)
	}
	if content, err := os.ReadFile(disk); err != nil || !strings.HasPrefix(string(content), "boots 1\n") {
		t.Errorf("the guest did not write its disk: %v", err)
	}
	if out, err := d.Exec(t.Context(), "hostname"); err != nil || out != d.Name {
		t.Errorf("inside the host, hostname says %q, %v", out, err)
	}
}

func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	testbed.Need(t, "libvirt", "guest")
	t.Run("after a test", func(t *testing.T) {
		var dir string
		t.Run("it", func(t *testing.T) {
			d := testbed.Libvirt(t)
			dir = filepath.Dir(filepath.Dir(d.File("x")))
			startGuest(t, d, "web1", "")
			d.Pause(t) // a stopped process is not forgotten
			if len(traces(t, dir)) == 0 {
				t.Error("a running host has no traces, so this test cannot see any")
			}
		})
		if left := traces(t, dir); len(left) > 0 {
			t.Errorf("left behind: %q", left)
		}
	})
	t.Run("after a crash", func(t *testing.T) {
		program, err := os.Executable()
		if err != nil {
			t.Fatal(err)
		}
		command := exec.CommandContext(t.Context(), program, "-test.run=^TestCrash$", "-test.v")
		command.Env = append(os.Environ(), crashVariable+"=1")
		out, err := command.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := command.Start(); err != nil {
			t.Fatal(err)
		}
		dir := ""
		lines := bufio.NewScanner(out)
		for dir == "" && lines.Scan() {
			_, dir, _ = strings.Cut(lines.Text(), "crash here: ")
		}
		if dir == "" || len(traces(t, dir)) == 0 {
			t.Errorf("the other process has not started its host in %q", dir)
		}
		if err := command.Process.Kill(); err != nil {
			t.Error(err)
		}
		_ = command.Wait() // it was killed, and says so
		var left []string
		if !testbed.Eventually(t, patience, func() bool { left = traces(t, dir); return len(left) == 0 }) {
			t.Errorf("left behind: %q", left)
		}
	})
}

func TestCrash(t *testing.T) {
	if os.Getenv(crashVariable) != "1" {
		t.Skip("this is the part of TestNothingIsLeft that is killed")
	}
	d := testbed.Libvirt(t)
	startGuest(t, d, "web1", "")
	fmt.Println("crash here: " + filepath.Dir(filepath.Dir(d.File("x"))))
	<-t.Context().Done()
}

// traces finds the folder itself, and every process and mount that names it.
func traces(t *testing.T, dir string) (found []string) {
	t.Helper()
	if _, err := os.Stat(dir); err == nil {
		found = append(found, dir)
	}
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	environments, err := filepath.Glob("/proc/[0-9]*/environ")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range append(append(files, environments...), "/proc/self/mountinfo") {
		if content, err := os.ReadFile(file); err == nil && strings.Contains(string(content), dir) {
			found = append(found, file)
		}
	}
	return found
}

// recorder is a test that notes how it ended instead of ending the real one.
type recorder struct {
	testing.TB
	skipped, failed string
}

func (r *recorder) Helper() {}

func (r *recorder) Skipf(format string, arguments ...any) {
	r.skipped = fmt.Sprintf(format, arguments...)
	runtime.Goexit()
}

func (r *recorder) Fatalf(format string, arguments ...any) {
	r.failed = fmt.Sprintf(format, arguments...)
	runtime.Goexit()
}

func TestNeed(t *testing.T) {
	need := func(part string) *recorder {
		r := &recorder{TB: t}
		done := make(chan struct{})
		go func() { defer close(done); testbed.Need(r, part) }()
		<-done
		return r
	}
	t.Setenv("XDG_CACHE_HOME", t.TempDir()) // no guest in there
	t.Setenv(testbed.CIVariable, "")
	if r := need("guest"); r.failed != "" || !strings.Contains(r.skipped, "needs guest: the tiny guest is not built; run test/testbed/setup as root") {
		t.Errorf("a missing part skips with its reason, got %q and %q", r.skipped, r.failed)
	}
	t.Setenv(testbed.CIVariable, "1")
	if r := need("guest"); r.skipped != "" || !strings.Contains(r.failed, "the tiny guest is not built") {
		t.Errorf("with %s=1 a missing part fails, got %q and %q", testbed.CIVariable, r.skipped, r.failed)
	}
	if r := need("libvrt"); !strings.Contains(r.failed, `knows no part "libvrt"; it knows root, netns, loop, guest, zfs, etcd, docker, libvirt`) {
		t.Errorf("an unknown part is refused with the known ones, got %q", r.failed)
	}
}
