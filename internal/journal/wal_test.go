package journal

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/zap"
)

// TestGuard makes errors of what would end the process.
func TestGuard(t *testing.T) {
	for name, fn := range map[string]func() error{
		"a panic":            func() error { panic("oh") },
		"the log's panic":    func() error { walLogger().Panic("oh", zap.String("path", "x")); return nil },
		"the log's exit":     func() error { walLogger().Fatal("oh", zap.Int("n", 1)); return nil },
		"a nil that is used": func() error { var p *position; p.last++; return nil }, //nolint:govet // on purpose
	} {
		if err := guard(fn); err == nil {
			t.Errorf("%s gives no error", name)
		}
	}
	if err := guard(func() error { return nil }); err != nil {
		t.Error(err)
	}
}

// TestLeftovers opens a journal with what a crash leaves behind.
func TestLeftovers(t *testing.T) {
	dir := memoryDir(t)
	j, _ := mustOpen(t, dir)
	want := [][]byte{record(1, 100)}
	if _, err := j.Append(t.Context(), want[0]); err != nil {
		t.Fatal(err)
	}
	mustClose(t, j)
	junk := bytes.Repeat([]byte("junk"), 5000)
	put(t, dir, map[string][]byte{"log/0.tmp": junk, "log/1.tmp": junk, "snap-0000000000000001.tmp": junk, "mark.tmp": junk, "log.tmp/0.wal": junk})
	j, m := mustOpen(t, dir)
	wantRecords(t, m.records, want)
	for i := range 12 { // uses both segments that are made in advance
		want = append(want, record(i, 1<<20))
		if _, err := j.Append(t.Context(), want[len(want)-1]); err != nil {
			t.Fatal(err)
		}
	}
	mustClose(t, j)
	for name := range files(t, dir) {
		if strings.HasSuffix(name, tmpSuffix) {
			t.Errorf("%s is still there", name)
		}
	}
	_, m = mustOpen(t, dir)
	wantRecords(t, m.records, want)
}

// TestUnfinishedCreation opens what a crash left of making a journal.
func TestUnfinishedCreation(t *testing.T) {
	src := memoryDir(t)
	j, _ := mustOpen(t, src)
	mustClose(t, j)
	sane := files(t, src)
	for what, drop := range map[string]func(name string) bool{
		"only the lock": func(n string) bool { return n != lockName },
		"no mark yet":   func(n string) bool { return n == markName },
		"nothing":       func(string) bool { return true },
	} {
		dir := memoryDir(t)
		for name, b := range sane {
			if !drop(name) {
				put(t, dir, map[string][]byte{name: b})
			}
		}
		if err := os.MkdirAll(filepath.Join(dir, logName), 0o700); err != nil {
			t.Fatal(err)
		}
		j, _ := mustOpen(t, dir)
		if _, err := j.Append(t.Context(), []byte(what)); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		mustClose(t, j)
		_, m := mustOpen(t, dir)
		wantRecords(t, m.records, [][]byte{[]byte(what)})
	}
}

// memoryDir is a directory in memory where there is one, for tests to which syncs are only
// lost time.
func memoryDir(t testing.TB) string {
	t.Helper()
	const shm = "/dev/shm"
	if fi, err := os.Stat(shm); err != nil || !fi.IsDir() {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(shm, "vagoth-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}
