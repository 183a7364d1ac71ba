package testbed

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// CIVariable is the environment variable that `make test` sets to 1 when it runs as root: from then on a missing part fails its test,
// so that nothing real is left out unseen.
const CIVariable = "VAGOTH_CI"

// Need skips the test, with the reason in one line, unless the parts are there; where [CIVariable] is 1 it fails it. The parts:
//
//	root      the test runs as root
//	netns     network and mount namespaces can be made
//	loop      loop devices with ext4, for the power-cut method
//	guest     the kernel and initramfs of the tiny guest
//	zfs       the guest with the real OpenZFS, and QEMU
//	etcd      Debian's etcd
//	docker    dockerd and a registry, in namespaces of their own
//	libvirt   libvirtd, virtlogd, virsh and QEMU, in namespaces of their own
func Need(t testing.TB, parts ...string) {
	t.Helper()
	for _, part := range parts {
		if err := available(t.Context(), part); err != nil {
			if os.Getenv(CIVariable) == "1" {
				t.Fatalf("this run may leave nothing out (%s=1), and it needs %s: %v", CIVariable, part, err)
			}
			t.Skipf("needs %s: %v", part, err)
		}
	}
}

func available(ctx context.Context, part string) error {
	switch part {
	case "root":
		if os.Geteuid() != 0 {
			return fmt.Errorf("not root; run it as root after test/testbed/setup")
		}
		return nil
	case "netns":
		if err := firstError(available(ctx, "root"), programs("unshare", "nsenter", "ip", "bash")); err != nil {
			return err
		}
		return namespaces(ctx)
	case "loop":
		if err := firstError(available(ctx, "root"), programs("losetup", "mkfs.ext4", "mount", "umount")); err != nil {
			return err
		}
		if _, err := os.Stat("/dev/loop-control"); err != nil {
			return fmt.Errorf("this machine has no loop devices: %w", err)
		}
		return nil
	case "guest":
		for _, file := range guestFiles() {
			if _, err := os.Stat(file); err != nil {
				return fmt.Errorf("the tiny guest is not built; run test/testbed/setup as root: %w", err)
			}
		}
		return nil
	case "zfs":
		for _, file := range zfsFiles() {
			if _, err := os.Stat(file); err != nil {
				return fmt.Errorf("the guest with OpenZFS is not built; run test/testbed/setup as root: %w", err)
			}
		}
		return programs("qemu-system-x86_64", "go")
	case "etcd":
		return programs("etcd")
	case "docker":
		return firstError(available(ctx, "netns"), available(ctx, "loop"), programs("dockerd", "containerd", "runc", "docker-registry", "iptables", "busybox", "findmnt"))
	case "libvirt":
		return firstError(available(ctx, "netns"), programs("libvirtd", "virtlogd", "virsh", "qemu-system-x86_64", "qemu-img"))
	}
	known := []string{"root", "netns", "loop", "guest", "zfs", "etcd", "docker", "libvirt"}
	return fmt.Errorf("testbed knows no part %q; it knows %s", part, strings.Join(known, ", "))
}

func firstError(errs ...error) error {
	if at := slices.IndexFunc(errs, func(err error) bool { return err != nil }); at >= 0 {
		return errs[at]
	}
	return nil
}

func programs(names ...string) error {
	for _, name := range names {
		if _, err := program(name); err != nil {
			return fmt.Errorf("%s is not installed; run test/testbed/setup as root", name)
		}
	}
	return nil
}

// program finds an executable in the path, and in the system folders that a plain user's path often lacks.
func program(name string) (string, error) {
	path, err := exec.LookPath(name)
	if err == nil {
		return path, nil
	}
	for _, folder := range []string{"/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(folder, name)); err == nil {
			return path, nil
		}
	}
	return "", err
}

// namespaces tells whether this root may make namespaces and mount: in a container it often may not.
func namespaces(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	arguments := append(slices.Clone(unshareFlags), "mount", "-t", "proc", "proc", "/proc")
	if out, err := exec.CommandContext(ctx, "unshare", arguments...).CombinedOutput(); err != nil {
		return fmt.Errorf("this root cannot make namespaces (a container without CAP_SYS_ADMIN?): %w: %s", err, strings.TrimSpace(string(out)))
	}
	return nil
}
