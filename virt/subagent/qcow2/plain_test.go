package qcow2_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/subagent/qcow2"
)

// TestPlain changes the header of a plain file a little: whatever could mean
// something to QEMU makes it one that is not plain.
func TestPlain(t *testing.T) {
	d := newDisks(t)
	d.run("qemu-img", "create", "-q", "-f", "qcow2", "plain", "1M")
	d.run("qemu-io", "-f", "qcow2", "-c", "write -q -P 7 64k 64k", "plain")
	plain, err := os.ReadFile(filepath.Join(d.dir, "plain"))
	if err != nil {
		t.Fatal(err)
	}
	if err := qcow2.Plain(bytesFile{bytes.NewReader(plain)}); err != nil {
		t.Fatalf("a plain file: %v", err)
	}
	at := binary.BigEndian.Uint32(plain[100:])
	if binary.BigEndian.Uint32(plain[at:]) != 0x6803f857 {
		t.Fatal("qemu-img writes no names of features any more, and this test needs another beginning")
	}
	l2 := binary.BigEndian.Uint64(plain[binary.BigEndian.Uint64(plain[40:]):]) & 0x00fffffffffffe00
	for name, change := range map[string]struct {
		at   int
		bits byte
	}{
		"a backing file": {15, 1 << 7}, "encryption": {35, 1}, "a snapshot": {63, 1}, "a size within a sector": {31, 1},
		"dirty": {79, 1}, "data in another file": {79, 4}, "a feature of tomorrow": {72, 1},
		"a compatible feature of tomorrow": {87, 2}, "bitmaps": {95, 1}, "raw data outside": {95, 2}, "a short header": {103, 1 << 3},
		"an unknown extension": {int(at), 1}, "a compressed cluster": {int(l2) + 8, 1 << 6}, "a cluster behind the end": {int(l2) + 9, 1},
	} {
		changed := bytes.Clone(plain)
		changed[change.at] ^= change.bits
		err := qcow2.Plain(bytesFile{bytes.NewReader(changed)})
		if !errors.Is(err, virt.ErrUnsupported) && !errors.Is(err, virt.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, end := range []int{0, 71, 103, int(at) + 4, 4096} {
		if err := qcow2.Plain(bytesFile{bytes.NewReader(plain[:end])}); err == nil {
			t.Errorf("one that was cut at %d is plain", end)
		}
	}
}
