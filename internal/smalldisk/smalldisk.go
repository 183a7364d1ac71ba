// Package smalldisk gives tests a disk that is soon full.
package smalldisk

import (
	"errors"
	"os"
	"syscall"
	"testing"

	"github.com/vagoth/vagoth/internal/testlong"
)

// New mounts a file system of 16 MiB in memory until the test ends. It needs root.
func New(t testing.TB) (dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		testlong.Missing(t, "a disk that is full needs root to mount one")
	}
	dir = t.TempDir()
	if err := syscall.Mount("vagoth-test", dir, "tmpfs", 0, "size=16m"); err != nil {
		testlong.Missing(t, "cannot mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// Fill writes a file that takes all the space there is. Removing it gives the
// space back.
func Fill(t testing.TB, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, size := range []int{1 << 20, 1 << 12, 1} {
		block := make([]byte, size)
		for err = nil; err == nil; {
			_, err = f.Write(block)
		}
		if !errors.Is(err, syscall.ENOSPC) {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}
