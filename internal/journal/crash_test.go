package journal

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/vagoth/vagoth/internal/testlong"
)

const childEnv = "VAGOTH_TEST_JOURNAL_CHILD"

// crashRecord makes the record that says its own place, of a size that the place decides,
// so that no list of them needs to be kept.
func crashRecord(n uint64) []byte {
	size := 8 + (n*7919)%3000
	if n%97 == 0 {
		size += 200_000
	}
	b := binary.LittleEndian.AppendUint64(make([]byte, 0, size), n)
	for len(b) < int(size) {
		b = append(b, byte(n), byte(len(b)))
	}
	return b[:size]
}

// counting checks each record and remembers only how many there were.
type counting struct{ n uint64 }

func (c *counting) Restore(index uint64, records iter.Seq2[[]byte, error]) error {
	for r, err := range records {
		if err != nil {
			return err
		}
		if len(r) != 8 || binary.LittleEndian.Uint64(r) != index {
			return fmt.Errorf("snapshot of %d holds %x", index, r)
		}
	}
	c.n = index
	return nil
}

func (c *counting) Replay(index uint64, r []byte) error {
	if c.n++; index != c.n || !bytes.Equal(r, crashRecord(index)) {
		return fmt.Errorf("record %d is not what was written as %d", index, c.n)
	}
	return nil
}

// appendUntilKilled is the child: it says which index has been acknowledged, line by line.
func appendUntilKilled(dir string) {
	c := &counting{}
	j, err := Open(context.Background(), Options{Dir: dir, SnapshotEvery: 600_000}, c)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println(c.n)
	var mu sync.Mutex
	next := c.n
	var acknowledged atomic.Uint64
	acknowledged.Store(c.n)
	snapshots := make(chan uint64, 1)
	go func() {
		for at := range snapshots {
			err := j.WriteSnapshot(context.Background(), at, all([][]byte{binary.LittleEndian.AppendUint64(nil, at)}))
			if err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
		}
	}()
	r := rand.New(rand.NewPCG(uint64(os.Getpid()), 1))
	for {
		mu.Lock()
		batch := make([][]byte, 1+r.IntN(6))
		for i := range batch {
			next++
			batch[i] = crashRecord(next)
		}
		last, err := j.AppendBatch(context.Background(), batch)
		mu.Unlock()
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		acknowledged.Store(last)
		fmt.Println(last)
		if j.NeedsSnapshot() {
			select {
			case snapshots <- last:
			default:
			}
		}
	}
}

// TestKill kills a process that appends, at a random moment, and looks for everything that
// it said was acknowledged.
func TestKill(t *testing.T) {
	dir := t.TempDir()
	r := rand.New(rand.NewPCG(uint64(testlong.Seed(t)), 2))
	var acknowledged uint64
	for round := range testlong.Count(t, 200) {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childEnv+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for range 1 + r.IntN(150) {
			if !lines.Scan() {
				break
			}
			if _, err := fmt.Sscan(lines.Text(), &acknowledged); err != nil {
				t.Fatalf("round %d: the child says %q", round, lines.Text())
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // what it had said before it died
			var n uint64
			if _, err := fmt.Sscan(lines.Text(), &n); err == nil && bytes.HasSuffix([]byte(lines.Text()), []byte(fmt.Sprint(n))) {
				acknowledged = max(acknowledged, n)
			}
		}
		_ = cmd.Wait()

		c := &counting{}
		j, err := Open(t.Context(), Options{Dir: dir}, c)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		if c.n < acknowledged {
			t.Fatalf("round %d: record %d was acknowledged, the journal ends with %d", round, acknowledged, c.n)
		}
		mustClose(t, j)
		acknowledged = c.n
	}
	t.Logf("%d records survived", acknowledged)
}
