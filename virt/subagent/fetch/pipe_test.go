package fetch

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"
)

type endless struct{}

func (endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = 'x'
	}
	return len(p), nil
}

// TestWriteFails has a file that cannot be written: what comes is not waited for.
func TestWriteFails(t *testing.T) {
	name := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(name, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := writeSparse(f, io.LimitReader(endless{}, 1<<40), 1<<41, true); err == nil {
		t.Error("a file that only is read was written")
	}
}

// TestSparse writes pieces of content between holes, each somewhere in a block.
func TestSparse(t *testing.T) {
	data := make([]byte, 3<<20+123)
	for _, at := range []int{0, 64 << 10, 200 << 10, 256<<10 - 1, 700 << 10, 1<<20 + 130<<10, 2 << 20, 3<<20 + 122} {
		data[at] = byte(at>>10) | 1
	}
	for _, early := range []bool{true, false} {
		f, err := os.Create(filepath.Join(t.TempDir(), "file"))
		if err != nil {
			t.Fatal(err)
		}
		n, err := writeSparse(f, bytes.NewReader(data), 1<<30, early)
		if err != nil || n != int64(len(data)) {
			t.Fatalf("%d bytes (%v)", n, err)
		}
		if got, err := os.ReadFile(f.Name()); err != nil || !bytes.Equal(got, data) {
			t.Errorf("early %v: it is not what came (%v)", early, err)
		}
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
}
