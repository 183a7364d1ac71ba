package libvirtdir_test

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vagoth/vagoth/test/testbed"
)

const (
	at   = 4096 // where texts are
	room = 512
)

// mark writes a text into a disk, which a guest may have open.
func mark(t *testing.T, daemon *testbed.Daemon, guest, file, format, text string) {
	t.Helper()
	sector := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(sector, append([]byte(text), make([]byte, room-len(text))...), 0o600); err != nil {
		t.Fatal(err)
	}
	order := "write -s " + sector + " 4096 512"
	if device := openIn(t, daemon, guest, file); device != "" {
		// What qemu-io prints goes into QEMU's own log; here is only what went wrong.
		if out := daemon.Virsh(t, "qemu-monitor-command", guest, "--hmp", "qemu-io -d "+device+` "`+order+`"`); out != "" {
			t.Fatalf("QEMU does not write into %s: %s", file, out)
		}
		return
	}
	if out, err := exec.Command("qemu-io", "-f", format, "-c", order, file).CombinedOutput(); err != nil || !bytes.Contains(out, []byte("wrote 512/512")) {
		t.Fatalf("qemu-io: %v: %s", err, out)
	}
}

// openIn is the device of a guest that has a file open; "" if none has.
func openIn(t *testing.T, daemon *testbed.Daemon, guest, file string) string {
	t.Helper()
	if guest == "" {
		return ""
	}
	out, err := daemon.TryVirsh(t.Context(), "qemu-monitor-command", guest, `{"execute":"query-block"}`)
	if err != nil {
		return "" // it does not run, or is not there
	}
	var said struct {
		Return []struct {
			Device   string `json:"qdev"`
			Inserted struct {
				File string `json:"file"`
			} `json:"inserted"`
		} `json:"return"`
	}
	if err := json.Unmarshal([]byte(out), &said); err != nil {
		t.Fatalf("QEMU says %s: %v", out, err)
	}
	for _, b := range said.Return {
		if b.Inserted.File == file {
			return b.Device
		}
	}
	return ""
}

// read returns the text in a disk that nobody writes, and whether it is there.
func read(t *testing.T, file, format string) (string, bool) {
	t.Helper()
	if _, err := os.Stat(file); os.IsNotExist(err) {
		return "", false
	}
	plain := filepath.Join(t.TempDir(), "plain")
	if out, err := exec.Command("qemu-img", "convert", "-U", "-f", format, "-O", "raw", file, plain).CombinedOutput(); err != nil {
		t.Fatalf("qemu-img: %v: %s", err, out)
	}
	data, err := os.ReadFile(plain)
	if err != nil || len(data) < at+room {
		t.Fatalf("%d bytes of %s (%v)", len(data), file, err)
	}
	text, _, _ := strings.Cut(string(data[at:at+room]), "\x00")
	return text, true
}
