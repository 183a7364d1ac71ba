package testbed

import (
	"bufio"
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// ZFSVariable is the environment variable that is 1 inside of the guest with OpenZFS.
const ZFSVariable = "VAGOTH_ZFS_GUEST"

// Figure begins what a test says inside of the guest that is to be seen outside though it passed.
const Figure = "figure: "

// InZFS reports whether this is the guest with OpenZFS.
func InZFS() bool { return os.Getenv(ZFSVariable) == "1" }

// zfsPatience bounds the life of the guest: minutes at a tenth of the counts, in software emulation.
const zfsPatience = 30 * time.Minute

// ZFS runs this test inside a small guest with the real OpenZFS, and reports there what its subtests said:
//
//	func TestReal(t *testing.T) {
//		if !testbed.InZFS() {
//			testbed.ZFS(t)
//			return
//		}
//		t.Run("Snapshots", ...)
//	}
//
// The package's test program is built anew for it, without cgo. In the guest it is root, has a loopback, /tmp in memory, zfs, zpool and
// qemu-img, and no udev. None that ran, and one that was skipped there, is a failure.
func ZFS(t *testing.T) {
	t.Helper()
	pattern := "^" + t.Name() + "$"
	if f := flag.Lookup("test.run"); f != nil && strings.Contains(f.Value.String(), "/") {
		pattern = f.Value.String() // some of its subtests: go test -run TestReal/Snapshots
	}
	log := bootZFS(t, "-test.run="+pattern, "-test.v", "-test.timeout="+zfsTimeout(t).String())
	ran := 0
	for _, inner := range innerTests(log, t.Name()) {
		ran++
		t.Run(inner.name, func(t *testing.T) {
			t.Logf("inside of the guest it took %s", inner.took)
			for line := range strings.Lines(inner.said) {
				if _, figure, ok := strings.Cut(line, Figure); ok {
					t.Log(strings.TrimSpace(figure))
				}
			}
			if inner.verdict != "PASS" {
				t.Errorf("%s inside of the guest:\n%s", inner.verdict, inner.said)
			}
		})
	}
	if ran == 0 || !bytes.Contains(log, []byte("vagoth-zfs: exit 0")) {
		t.Errorf("%d tests ended inside of the guest, or its program did not end well; it began and said:\n%s\n%s", ran, outline(log), tail(log))
	}
}

// zfsTimeout leaves the time to tell what happened.
func zfsTimeout(t *testing.T) time.Duration {
	most := zfsPatience
	if os.Getenv("VAGOTH_LONG") == "1" {
		most *= 4
	}
	if deadline, ok := t.Deadline(); ok {
		most = min(most, time.Until(deadline)-time.Minute)
	}
	return most.Round(time.Second)
}

// bootZFS runs this package's test program in the guest and returns what it said.
func bootZFS(t testing.TB, arguments ...string) []byte {
	t.Helper()
	Need(t, "zfs")
	dir := t.TempDir()
	program, initrd, serial := filepath.Join(dir, "program"), filepath.Join(dir, "initrd"), filepath.Join(dir, "serial.log")
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-ldflags=-s -w", "-o", program, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cannot build the test program of this package: %v: %s", err, out)
	}
	environment := []string{ZFSVariable + "=1", CIVariable + "=1"}
	for _, name := range []string{"VAGOTH_LONG", "VAGOTH_SEED", "VAGOTH_BENCH"} {
		environment = append(environment, name+"="+os.Getenv(name))
	}
	if err := zfsInitrd(initrd, program, arguments, environment); err != nil {
		t.Fatalf("cannot make the guest's initramfs: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*zfsPatience)
	defer cancel()
	qemu := exec.CommandContext(ctx, "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
		"-machine", "pc,accel=kvm:tcg", "-m", "2048", "-smp", "1", "-kernel", zfsFiles()[0], "-initrd", initrd, "-serial", "file:"+serial,
		"-append", zfsCmdline)
	// The kernel ends it when this thread ends, however this process ends: nothing is left behind.
	qemu.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	runtime.LockOSThread()
	out, err := qemu.CombinedOutput()
	runtime.UnlockOSThread()
	log, _ := os.ReadFile(serial) // if there is none, what QEMU says tells why
	if err != nil {
		t.Fatalf("QEMU did not end well: %v: %s\nThe guest said:\n%s", err, out, tail(log))
	}
	return bytes.ReplaceAll(log, []byte("\r\n"), []byte("\n"))
}

// zfsCmdline makes the guest cheap to emulate, half of what it costs without: programs stand where they stood before, so that QEMU need not
// translate them again for each run of zfs; memory is not zeroed more often than asked for; and 112, the word for processors on which "rep movs"
// is fast, is not this one's. One processor costs half of two, which keep each other waiting.
const zfsCmdline = "console=ttyS0 quiet panic=-1 mitigations=off norandmaps init_on_alloc=0 tsc=reliable clearcpuid=112"

// zfsFiles are the kernel and the initramfs that test/testbed/setup-zfs built.
func zfsFiles() []string {
	folder := filepath.Join(filepath.Dir(guestFiles()[0]), "zfs")
	return []string{filepath.Join(folder, "vmlinuz"), filepath.Join(folder, "initrd")}
}

// zfsInitrd writes the guest's initramfs with a second one behind it: the kernel unpacks them one after the other.
func zfsInitrd(path, program string, arguments, environment []string) error {
	base, err := os.Open(zfsFiles()[1])
	if err != nil {
		return err
	}
	defer func() { _ = base.Close() }()
	content, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	out := bufio.NewWriterSize(file, 1<<20)
	if _, err := io.Copy(out, base); err != nil {
		return err
	}
	lines := func(list []string) []byte { return []byte(strings.Join(list, "\n") + "\n") }
	for _, entry := range []struct {
		name string
		mode uint32
		data []byte
	}{
		{"test", syscall.S_IFDIR | 0o755, nil},
		{"test/program", syscall.S_IFREG | 0o755, content},
		{"test/args", syscall.S_IFREG | 0o644, lines(arguments)},
		{"test/env", syscall.S_IFREG | 0o644, lines(environment)},
		{"TRAILER!!!", 0, nil},
	} {
		cpioEntry(out, entry.name, entry.mode, entry.data)
	}
	if err := out.Flush(); err != nil {
		return err
	}
	return file.Close()
}

// cpioEntry writes one file as cpio's newc has it. The writer keeps its error.
func cpioEntry(out *bufio.Writer, name string, mode uint32, data []byte) {
	pad := func(n int) { _, _ = out.Write(make([]byte, (4-n%4)%4)) }
	header := fmt.Sprintf("070701%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x%08x", 0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name)+1, 0)
	_, _ = out.WriteString(header + name + "\x00")
	pad(len(header) + len(name) + 1)
	_, _ = out.Write(data)
	pad(len(data))
}

// outline is what began, what ended, and what was said about it.
func outline(log []byte) string {
	var b strings.Builder
	for line := range strings.Lines(string(log)) {
		if text := strings.TrimSpace(line); strings.HasPrefix(text, "=== RUN") || strings.HasPrefix(text, "--- ") || strings.Contains(text, ".go:") && !strings.Contains(text, "+0x") {
			b.WriteString(line)
		}
	}
	return b.String()
}

type innerTest struct{ name, verdict, took, said string }

// innerTests reads what a test program with -test.v said: the subtests of a test, of one level.
func innerTests(log []byte, of string) (found []innerTest) {
	end := regexp.MustCompile(`^\s*--- (PASS|FAIL|SKIP): ` + of + `/([^/\s]+) \((.*)\)$`)
	begin := regexp.MustCompile(`^=== (RUN|NAME)\s+` + of + `/([^/\s]+)`)
	said, current := map[string]*strings.Builder{}, ""
	for line := range strings.Lines(string(log)) {
		line = strings.TrimRight(line, "\n")
		if m := begin.FindStringSubmatch(line); m != nil {
			current = m[2]
		}
		if said[current] == nil {
			said[current] = &strings.Builder{}
		}
		said[current].WriteString(line + "\n")
		if m := end.FindStringSubmatch(line); m != nil {
			found = append(found, innerTest{name: m[2], verdict: m[1], took: m[3]})
		}
	}
	for i := range found {
		if b := said[found[i].name]; b != nil {
			found[i].said = b.String()
		}
	}
	return found
}
