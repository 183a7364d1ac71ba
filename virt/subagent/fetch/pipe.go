package fetch

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
)

// A download is read, summed and written side by side, in blocks of which each
// has a few under way. What ends early waits for the others.
const (
	blockSize  = 256 << 10
	blocks     = 4
	hole       = 64 << 10 // what is zero is left out in pieces of this size
	backBehind = 8 << 20  // how much is written before its way to the disk begins
)

// newBlocks are the places of some blocks: one is made when it is first needed, as
// most downloads that are refused need none.
func newBlocks() chan []byte {
	free := make(chan []byte, blocks)
	for range blocks {
		free <- nil
	}
	return free
}

func made(block []byte) []byte {
	if block == nil {
		return make([]byte, blockSize)
	}
	return block
}

// summing is the sha256 of what is written to it. It has a goroutine until it is
// closed.
type summing struct {
	sum   hash.Hash
	free  chan []byte
	full  chan []byte
	begun []byte // not yet summed
	ended sync.WaitGroup
	close func()
}

func newSumming() *summing {
	s := &summing{sum: sha256.New(), free: newBlocks(), full: make(chan []byte, blocks)}
	s.close = sync.OnceFunc(func() {
		close(s.full)
		s.ended.Wait()
	})
	s.ended.Go(func() {
		for b := range s.full {
			s.sum.Write(b)
			s.free <- b[:blockSize]
		}
	})
	return s
}

func (s *summing) add(p []byte) {
	for len(p) > 0 {
		if s.begun == nil {
			s.begun = made(<-s.free)[:0]
		}
		n := min(len(p), blockSize-len(s.begun))
		s.begun, p = append(s.begun, p[:n]...), p[n:]
		if len(s.begun) == blockSize {
			s.full <- s.begun
			s.begun = nil
		}
	}
}

// hex ends it.
func (s *summing) hex() string {
	s.close()
	s.sum.Write(s.begun)
	s.begun = nil
	return hex.EncodeToString(s.sum.Sum(nil))
}

// writing writes blocks to a new file and leaves holes where they are zero. It has
// a goroutine until it is closed.
type writing struct {
	file   *os.File
	early  bool // begins to put on disk what was written
	free   chan []byte
	full   chan placed
	err    error
	failed chan struct{} // closed once err is
	ended  sync.WaitGroup
	close  func() error
}

type placed struct {
	data []byte
	at   int64
}

func newWriting(file *os.File, early bool) *writing {
	w := &writing{file: file, early: early, free: newBlocks(), full: make(chan placed, blocks), failed: make(chan struct{})}
	w.close = sync.OnceValue(func() error {
		close(w.full)
		w.ended.Wait()
		return w.err
	})
	w.ended.Go(w.run)
	return w
}

func (w *writing) run() {
	zero := make([]byte, hole)
	var end, behind int64
	for p := range w.full {
		if w.err == nil {
			if err := w.write(p, zero); err != nil {
				w.err = fmt.Errorf("cannot write it: %w", err)
				close(w.failed)
			}
		}
		end = p.at + int64(len(p.data))
		w.free <- p.data[:blockSize]
		if w.early && w.err == nil && end-behind >= backBehind {
			// Only begun here: whoever keeps the file syncs it, and is told then what went wrong.
			_ = unix.SyncFileRange(int(w.file.Fd()), behind, end-behind, unix.SYNC_FILE_RANGE_WRITE)
			behind = end
		}
	}
}

// write writes a block, in runs of pieces that are not zero.
func (w *writing) write(p placed, zero []byte) error {
	begun := -1
	for at := 0; ; at += hole {
		piece := p.data[min(at, len(p.data)):min(at+hole, len(p.data))]
		empty := bytes.Equal(piece, zero[:len(piece)])
		if !empty && begun < 0 {
			begun = at
		}
		if empty && begun >= 0 {
			if _, err := w.file.WriteAt(p.data[begun:min(at, len(p.data))], p.at+int64(begun)); err != nil {
				return err
			}
			begun = -1
		}
		if len(piece) == 0 {
			return nil
		}
	}
}

// block is one to be filled. There is none once something could not be written.
func (w *writing) block() ([]byte, error) {
	select {
	case <-w.failed:
		return nil, w.err
	case b := <-w.free:
		return made(b), nil
	}
}

// writeSparse copies in to a new file and leaves holes where it is zero.
func writeSparse(file *os.File, in io.Reader, most int64, early bool) (size int64, err error) {
	w := newWriting(file, early)
	defer func() { _ = w.close() }() // it says the same again
	for {
		block, err := w.block()
		if err != nil {
			return size, err
		}
		n := 0
		for err = nil; n < len(block) && err == nil; { // not io.ReadFull, which makes one error of a cut and of an end
			var m int
			m, err = in.Read(block[n:])
			n += m
		}
		if err != nil && err != io.EOF { //nolint:errorlint // a cut can wrap it, and is no end
			return size, err
		}
		if size+int64(n) > most {
			return size, &TooLargeError{Most: most, Unpacked: true}
		}
		w.full <- placed{block[:n], size}
		size += int64(n)
		if err == nil {
			continue
		}
		if err := w.close(); err != nil {
			return size, err
		}
		return size, file.Truncate(size)
	}
}
