package scratch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"strings"
)

const (
	magic     = "vagoth-scratch 1 "
	frameHead = 8

	// MaxRecord is how many bytes a record has at most.
	MaxRecord = 64 << 20
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Log is an open log. Its methods are not for several goroutines at once.
type Log struct {
	path string
	boot string

	f    *os.File // nil until something is written
	size int64
	sum  uint32 // of all frames
	buf  []byte
	dead error // what is in the file is not known any more
}

// Held is what a file held when it was opened.
type Held struct {
	Records [][]byte
	// Lost is true if the machine has gone down since the file was written, so that
	// records may be missing. Records are then what can be read, for a message.
	Lost bool
	// Sealed is true if the file was closed in order: it holds exactly what it held then.
	Sealed bool
	Size   int64 // of the file; 0 if there is none
}

// CorruptError says that a file which must be whole is not.
type CorruptError struct {
	Path   string
	Offset int64
	Reason string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("%s is damaged at byte %d: %s: move it away to go on without what it holds", e.Path, e.Offset, e.Reason)
}

// Boot names the machine's boot: it is another one after each start of the machine. It
// is empty where the system does not tell.
func Boot() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// Open reads the log at path, which need not be there. In the boot of the machine that
// is given what was written stays whole; if it is empty, only what was closed in order
// does.
func Open(path, boot string) (*Log, Held, error) {
	if strings.ContainsAny(boot, " \n") {
		return nil, Held{}, fmt.Errorf("cannot open %s: the name of the boot is %q", path, boot)
	}
	l := &Log{path: path, boot: boot}
	if err := os.Remove(l.spare()); err != nil && !errors.Is(err, fs.ErrNotExist) { // of one that was killed while it wrote it
		return nil, Held{}, err
	}
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return l, Held{}, nil
	}
	if err != nil {
		return nil, Held{}, err
	}
	c, damage := parse(data)
	held := Held{Records: c.records, Size: int64(len(data))}
	switch {
	case damage == nil && c.sealed: // it is written anew when something is added
		l.size, held.Sealed = held.Size, true
		return l, held, nil
	case c.boot != boot || boot == "":
		held.Lost = true
		return l, held, nil
	case damage != nil:
		damage.Path = path
		return nil, Held{}, damage
	}
	if l.f, err = os.OpenFile(path, os.O_RDWR, 0); err != nil {
		return nil, Held{}, err
	}
	l.size, l.sum = c.end, c.sum
	if err := l.f.Truncate(l.size); err != nil { // what the kernel had not taken whole was never answered
		return nil, Held{}, errors.Join(err, l.f.Close())
	}
	return l, held, nil
}

// content is what a file holds.
type content struct {
	boot    string
	records [][]byte
	end     int64 // of the last whole frame
	sum     uint32
	sealed  bool
}

// parse reads as far as all is in order. A frame that breaks off at the end is no damage:
// its writer was killed.
func parse(data []byte) (c content, damage *CorruptError) {
	line, _, ok := strings.Cut(string(data[:min(len(data), 256)]), "\n")
	boot, ours := strings.CutPrefix(line, magic)
	if !ok || !ours {
		return c, &CorruptError{Reason: "it does not begin as files of this kind do"}
	}
	c.boot, c.end = boot, int64(len(line)+1)
	for {
		rest := data[c.end:]
		if len(rest) == 0 {
			return c, nil
		}
		if c.sealed {
			return c, &CorruptError{Offset: c.end, Reason: "there is more behind its end"}
		}
		if len(rest) < frameHead {
			return c, nil
		}
		n, sum := binary.BigEndian.Uint32(rest), binary.BigEndian.Uint32(rest[4:])
		switch {
		case n == 0 && sum == ^c.sum:
			c.sealed = true
			c.end += frameHead
			continue
		case n == 0 || n > MaxRecord:
			return c, &CorruptError{Offset: c.end, Reason: fmt.Sprintf("a record of %d bytes", n)}
		case int64(len(rest)) < frameHead+int64(n):
			return c, nil
		}
		record := rest[frameHead : frameHead+n]
		if crc32.Checksum(record, castagnoli) != sum {
			return c, &CorruptError{Offset: c.end, Reason: "the checksum of a record is wrong"}
		}
		c.records = append(c.records, record)
		c.sum = crc32.Update(c.sum, castagnoli, rest[:frameHead+n])
		c.end += frameHead + int64(n)
	}
}

// Size is how many bytes the file has.
func (l *Log) Size() int64 { return l.size }

// Begun reports whether records can be added. If not, Rewrite comes first.
func (l *Log) Begun() bool { return l.f != nil && l.dead == nil }

func frame(b, record []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(record)))
	b = binary.BigEndian.AppendUint32(b, crc32.Checksum(record, castagnoli))
	return append(b, record...)
}

func fits(record []byte) error {
	if len(record) == 0 || len(record) > MaxRecord {
		return fmt.Errorf("a record of %d bytes: there may be 1 to %d", len(record), MaxRecord)
	}
	return nil
}

// keptBuffer is how large a buffer is kept.
const keptBuffer = 1 << 20

// Append adds records, all or none. They are there if the process is killed after it.
func (l *Log) Append(records ...[]byte) error {
	if !l.Begun() {
		return errors.Join(errors.New("the log was not begun"), l.dead)
	}
	b := l.buf[:0]
	for _, r := range records {
		if err := fits(r); err != nil {
			return err
		}
		b = frame(b, r)
	}
	if l.buf = b; cap(b) > keptBuffer {
		l.buf = nil
	}
	if _, err := l.f.WriteAt(b, l.size); err != nil {
		if cut := l.f.Truncate(l.size); cut != nil {
			l.dead = errors.Join(err, cut)
		}
		return err
	}
	l.size += int64(len(b))
	l.sum = crc32.Update(l.sum, castagnoli, b)
	return nil
}

func (l *Log) spare() string { return l.path + ".new" }

// Rewrite makes a file that holds these records and nothing else, on disk, in the place
// of the one that there is. After an error the old one is as it was.
func (l *Log) Rewrite(records iter.Seq[[]byte]) error {
	f, err := os.OpenFile(l.spare(), os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	next := Log{path: l.path, boot: l.boot, f: f}
	if err := errors.Join(next.fill(records), f.Sync()); err != nil {
		return errors.Join(err, f.Close(), os.Remove(l.spare()))
	}
	if err := os.Rename(l.spare(), l.path); err != nil {
		return errors.Join(err, f.Close(), os.Remove(l.spare()))
	}
	if l.f != nil {
		_ = l.f.Close() // nothing of it is needed
	}
	*l = next
	if err := syncDir(filepath.Dir(l.path)); err != nil {
		l.dead = err
		return err
	}
	return nil
}

func (l *Log) fill(records iter.Seq[[]byte]) error {
	b := append(append([]byte(magic), l.boot...), '\n')
	flush := func(from int) error {
		_, err := l.f.WriteAt(b, l.size)
		l.size += int64(len(b))
		l.sum = crc32.Update(l.sum, castagnoli, b[from:])
		b = b[:0]
		return err
	}
	if err := flush(len(b)); err != nil { // the line is not in the sum
		return err
	}
	for r := range records {
		if err := fits(r); err != nil {
			return err
		}
		if b = frame(b, r); len(b) > keptBuffer {
			if err := flush(0); err != nil {
				return err
			}
		}
	}
	return flush(0)
}

// Leave ends the use of the log as if the process were killed.
func (l *Log) Leave() error {
	if l.f == nil {
		return nil
	}
	defer func() { l.f = nil }()
	return l.f.Close()
}

// Close syncs the log and marks that it was closed in order; if it is empty, as its
// owner says, it is removed, and Size is 0.
func (l *Log) Close(empty bool) error {
	if l.f == nil {
		if empty {
			return l.remove() // one that was read, or that is lost
		}
		return nil
	}
	defer func() { l.f = nil }()
	switch {
	case empty:
		return errors.Join(l.f.Close(), l.remove())
	case l.dead != nil:
		return errors.Join(l.dead, l.f.Close())
	}
	if err := l.f.Sync(); err != nil { // all is there before anything says so
		return errors.Join(err, l.f.Close())
	}
	end := binary.BigEndian.AppendUint32(make([]byte, 4, frameHead), ^l.sum)
	_, err := l.f.WriteAt(end, l.size)
	l.size += int64(len(end))
	return errors.Join(err, l.f.Sync(), l.f.Close())
}

func (l *Log) remove() error {
	l.size = 0
	err := os.Remove(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return errors.Join(err, syncDir(filepath.Dir(l.path)))
}

// syncDir makes changes of names in a directory durable.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
