package journal

import (
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ahead fills the log with zeros before it is written. A segment's space is reserved when
// it is made, but a file system notes in its own journal when such space is written for the
// first time, and a sync waits for that too. Over zeros it waits for the records alone.
//
// It changes nothing that can be read, since reserved space reads as zeros, and nothing
// depends on it: what goes wrong here is left to the next append to find.
type ahead struct {
	zeros []byte
	path  string // of the segment that is being written
	end   int64  // it has been filled up to here
	at    int64  // about where the log ends
	since int64  // bytes that were appended since the last look
}

const (
	aheadLook  = 64 << 10  // appended bytes between two looks: a log that hardly grows is let be
	aheadStep  = 512 << 10 // what is filled at once
	frameBytes = 48        // about what the log adds to a record
)

// appended is called after n bytes have been appended and synced, and before more are.
func (a *ahead) appended(dir string, n int64) {
	a.at += n
	if a.since += n; a.since < aheadLook {
		return
	}
	a.since = 0
	segs, err := listSegments(filepath.Join(dir, logName))
	if err != nil || len(segs) == 0 {
		return
	}
	if tail := segs[len(segs)-1].path; tail != a.path {
		a.path, a.end, a.at = tail, 0, 0
	}
	if a.end == 0 || a.end-a.at < aheadStep/2 {
		a.fill()
	}
}

// fill writes zeros where the file has nothing yet.
func (a *ahead) fill() {
	f, err := os.OpenFile(a.path, os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return
	}
	// Behind everything that was written, be it records or zeros.
	from, err := f.Seek(a.end, unix.SEEK_HOLE)
	if err != nil || from >= fi.Size() {
		a.end = fi.Size()
		return
	}
	if a.end == 0 {
		a.at = from
	}
	if a.zeros == nil {
		a.zeros = make([]byte, aheadStep)
	}
	if _, err := f.Seek(from, io.SeekStart); err != nil {
		return
	}
	n, _ := f.Write(a.zeros[:min(aheadStep, fi.Size()-from)])
	_ = unix.Fdatasync(int(f.Fd())) // else the next append would pay for it
	a.end = from + int64(n)
}
