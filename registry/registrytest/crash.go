package registrytest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vagoth/vagoth/internal/powercut"
	"github.com/vagoth/vagoth/internal/testlong"
	"github.com/vagoth/vagoth/registry"
)

// childEnv is set in the process that is going to be killed: the store to write.
const childEnv = "VAGOTH_REGISTRYTEST_CHILD"

// Main is for TestMain: it runs the package's tests, or, in the process that the
// tests start to kill it, the writers.
func Main(m *testing.M, d Durable) {
	if dir := os.Getenv(childEnv); dir != "" {
		if err := child(d, dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const (
	crashWriters = 6
	crashKept    = 4 // nodes that a writer leaves standing
)

// child writes until it is killed, and says what was acknowledged.
func child(d Durable, dir string) error {
	ctx := context.Background()
	r, err := d.Open(ctx, dir)
	if err != nil {
		return err
	}
	var wg sync.WaitGroup
	failed := make(chan error, crashWriters)
	for w := range crashWriters {
		wg.Go(func() {
			n, err := written(ctx, r, w)
			for err == nil {
				n++
				if err = crashWrite(ctx, r, w, n); err == nil {
					_, err = fmt.Fprintf(os.Stdout, "%d %d\n", w, n) // one write each
				}
			}
			failed <- err
		})
	}
	wg.Wait()
	return <-failed
}

func crashID(w, n int) string { return fmt.Sprintf("w%d-%d", w, n) }

// crashWrite is the n-th Update of a writer: a counter goes up, a key moves on, a
// node comes with a blob, another goes.
func crashWrite(ctx context.Context, r registry.Registry, w, n int) error {
	self := fmt.Sprint("w", w)
	return r.Update(ctx, func(tx registry.Tx) error {
		if n == 1 {
			if _, err := tx.Create(registry.Draft{ID: self, Name: self, Type: "hv"}); err != nil {
				return err
			}
		}
		if _, err := registry.ModifyIn(tx, self, func(d *registry.Draft) error {
			d.State, d.Keys = fmt.Sprint("s", n), []string{fmt.Sprintf("key-%d-%d", w, n)}
			return nil
		}); err != nil {
			return err
		}
		id := crashID(w, n)
		doc, err := registry.NewDocument(map[string]string{"text": strings.Repeat(id, n%50)})
		if err != nil {
			return err
		}
		if _, err := tx.Create(registry.Draft{ID: id, Name: id, Type: "vm", Tags: map[string]string{"of": self}, Definition: doc}); err != nil {
			return err
		}
		if err := tx.PutBlob(id, "b", []byte(strings.Repeat(id, n%100))); err != nil {
			return err
		}
		if n > crashKept {
			return tx.Delete(crashID(w, n-crashKept))
		}
		return nil
	})
}

// written is how far a writer had got, 0 if it had not begun.
func written(ctx context.Context, r registry.Registry, w int) (n int, err error) {
	self, err := registry.Get(ctx, r, fmt.Sprint("w", w))
	if errors.Is(err, registry.ErrNotFound) {
		return 0, nil
	}
	if err == nil {
		_, err = fmt.Sscanf(self.State(), "s%d", &n)
	}
	return n, err
}

// crashCheck compares what is there with what was acknowledged.
func crashCheck(t *testing.T, r registry.Registry, acked []int) {
	t.Helper()
	v := view(t, r)
	expected := 0
	for w := range crashWriters {
		n, err := written(t.Context(), r, w)
		if err != nil {
			t.Fatal(err)
		}
		if n < acked[w] || n > acked[w]+1 {
			t.Fatalf("writer %d: write %d is the last, %d was acknowledged and at most one was under way", w, n, acked[w])
		}
		if n == 0 {
			continue
		}
		self, err := v.ByKey(fmt.Sprintf("key-%d-%d", w, n))
		if err != nil || self.ID() != fmt.Sprint("w", w) || self.NumKeys() != 1 {
			t.Fatalf("writer %d: its key is held by %v, %v", w, self, err)
		}
		expected++
		for k := max(1, n-crashKept+1); k <= n; k++ {
			expected++
			id := crashID(w, k)
			node, err := v.Get(id)
			if err != nil || !strings.Contains(node.Definition().String(), strings.Repeat(id, k%50)) {
				t.Fatalf("node %s is %v, %v", id, node, err)
			}
			if b, err := v.Blob(id, "b"); err != nil || string(b) != strings.Repeat(id, k%100) {
				t.Fatalf("the blob of %s is %q, %v", id, b, err)
			}
		}
	}
	audit, err := registry.Audit(v)
	if err != nil || audit.Nodes != expected || len(audit.Problems) > 0 {
		t.Fatalf("%d nodes, want %d; %v, %v", audit.Nodes, expected, audit.Problems, err)
	}
}

// crash runs a child in dir until end is called on it, and returns what it
// acknowledged, over what acked holds.
func crash(t *testing.T, dir string, acked []int, end func(*exec.Cmd)) {
	t.Helper()
	cmd := exec.Command(os.Args[0]) //nolint:gosec // this very program
	cmd.Env = append(os.Environ(), childEnv+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var complaints strings.Builder
	cmd.Stderr = &complaints
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	begun := make(chan struct{})
	var once sync.Once
	var reading sync.WaitGroup
	reading.Go(func() {
		for s := bufio.NewScanner(out); s.Scan(); {
			once.Do(func() { close(begun) })
			var w, n int
			if _, err := fmt.Sscan(s.Text(), &w, &n); err == nil && w < len(acked) {
				acked[w] = max(acked[w], n)
			}
		}
		once.Do(func() { close(begun) })
	})
	select {
	case <-begun:
	case <-time.After(patience):
	}
	end(cmd)
	reading.Wait()
	_ = cmd.Wait() // it was killed
	if complaints.Len() > 0 {
		t.Logf("the child said: %s", complaints.String())
	}
}

// recount is what a store holds of each writer: what came through unacknowledged
// counts from here on.
func recount(t *testing.T, r registry.Registry, acked []int) {
	t.Helper()
	for w := range acked {
		n, err := written(t.Context(), r, w)
		if err != nil {
			t.Fatal(err)
		}
		acked[w] = n
	}
}

func testKill(t *testing.T, d Durable) {
	rnd := rand.New(rand.NewSource(testlong.Seed(t))) //nolint:gosec // a test's choices
	dir := filepath.Join(t.TempDir(), "store")
	acked := make([]int, crashWriters)
	for range testlong.Count(t, 200) {
		delay := time.Duration(rnd.Int63n(int64(120 * time.Millisecond)))
		crash(t, dir, acked, func(cmd *exec.Cmd) {
			time.Sleep(delay) // the random moment itself, nothing is waited for
			if err := cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
		})
		r := d.open(t, dir)
		crashCheck(t, r, acked)
		recount(t, r, acked)
		closeOf(t, r)
	}
	t.Logf("acknowledged in the end: %v", acked)
	if acked[0] == 0 {
		t.Fatal("nothing was ever acknowledged")
	}
}

func testPowerCut(t *testing.T, d Durable) {
	disk := powercut.New(t, 128)
	rnd := rand.New(rand.NewSource(testlong.Seed(t))) //nolint:gosec // a test's choices
	dir := filepath.Join(disk.Dir(), "store")
	acked := make([]int, crashWriters)
	for range testlong.Count(t, 50) {
		delay := time.Duration(rnd.Int63n(int64(150 * time.Millisecond)))
		crash(t, dir, acked, func(cmd *exec.Cmd) {
			time.Sleep(delay) // the random moment itself, nothing is waited for
			disk.Cut()
			_ = cmd.Process.Kill() // it may have ended by its errors
		})
		disk.Remount()
		r := d.open(t, dir)
		crashCheck(t, r, acked)
		recount(t, r, acked)
		closeOf(t, r)
	}
	t.Logf("acknowledged in the end: %v", acked)
	if acked[0] == 0 {
		t.Fatal("nothing was ever acknowledged")
	}
}
