package powercut_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/vagoth/vagoth/internal/powercut"
)

// TestCut checks the method itself: what was synced survives, what was not is gone.
func TestCut(t *testing.T) {
	disk := powercut.New(t, 16)
	write := func(name string, sync bool) {
		f, err := os.Create(filepath.Join(disk.Dir(), name))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString("content of " + name); err != nil {
			t.Fatal(err)
		}
		if sync {
			if err := f.Sync(); err != nil {
				t.Fatal(err)
			}
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	for round := range 2 {
		write("synced", true)
		write("unsynced", false)
		disk.Cut()
		if err := os.WriteFile(filepath.Join(disk.Dir(), "late"), nil, 0o600); err == nil {
			t.Errorf("round %d: a disk without power takes a file", round)
		}
		disk.Remount()
		if b, err := os.ReadFile(filepath.Join(disk.Dir(), "synced")); err != nil || string(b) != "content of synced" {
			t.Errorf("round %d: synced: %q, %v", round, b, err)
		}
		if b, err := os.ReadFile(filepath.Join(disk.Dir(), "unsynced")); err == nil && len(b) > 0 {
			t.Errorf("round %d: what was not synced survived: %q", round, b)
		}
	}
}
