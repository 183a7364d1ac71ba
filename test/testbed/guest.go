package testbed

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// Lines that the tiny guest prints on its serial console; see guest-init for all of them and for the kernel parameters it knows.
const (
	// GuestUp says that it is up and listens to its power button.
	GuestUp = "vagoth-guest: up"
	// GuestDown says that its power button was pressed and it goes down.
	GuestDown = "vagoth-guest: power button, going down"
)

// GuestID is the line that a guest booted with the kernel parameter vagoth.id=id prints just before [GuestUp].
func GuestID(id string) string { return "vagoth-guest: id " + id }

// Guest gives the kernel and the initramfs of the tiny guest that test/testbed/setup built: 128 MB of memory and console=ttyS0 are enough
// for it, and vagoth.id=NAME makes it say its name.
func Guest(t testing.TB) (kernel, initrd string) {
	t.Helper()
	Need(t, "guest")
	files := guestFiles()
	return files[0], files[1]
}

func guestFiles() []string {
	cache := os.Getenv("XDG_CACHE_HOME")
	if cache == "" {
		cache = filepath.Join(os.Getenv("HOME"), ".cache")
	}
	return []string{filepath.Join(cache, "vagoth-testbed", "vmlinuz"), filepath.Join(cache, "vagoth-testbed", "initrd.gz")}
}

// WaitForText waits until the file contains text and returns its content then. A file that is not there yet is waited for. At the
// deadline the test fails with the end of what the file holds.
func WaitForText(t testing.TB, file, text string, patience time.Duration) string {
	t.Helper()
	return WaitForTexts(t, file, text, 1, patience)
}

// WaitForTexts waits until the file contains text at least count times: a guest that reboots says it is up once more.
func WaitForTexts(t testing.TB, file, text string, count int, patience time.Duration) string {
	t.Helper()
	var content []byte
	var failure error
	if Eventually(t, patience, func() bool {
		content, failure = os.ReadFile(file)
		return failure == nil && bytes.Count(content, []byte(text)) >= count
	}) {
		return string(content)
	}
	if failure != nil {
		t.Fatalf("cannot read %s: %v", file, failure)
	}
	t.Fatalf("%s holds %q %d times after %s, expected %d; its end:\n%s",
		file, text, bytes.Count(content, []byte(text)), patience, count, tail(content))
	return ""
}

// Eventually asks until the answer is yes, and tells whether it was before patience ran out or the test was cancelled.
func Eventually(t testing.TB, patience time.Duration, ask func() bool) bool {
	t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		if ask() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
		select {
		case <-tick.C:
		case <-t.Context().Done():
			return false
		}
	}
}

func tail(content []byte) string {
	const most = 4000
	if len(content) > most {
		return fmt.Sprintf("... (%d bytes before)\n%s", len(content)-most, content[len(content)-most:])
	}
	return string(content)
}
