package journal

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"path/filepath"
)

const (
	markName  = "mark"
	markMagic = "vgmark1\n"
	markLen   = 8 + 16 + 8 + 8 + 4
	markSlot  = 4096 // slots do not share a block
)

// mark holds the index up to which the log has been synced: never more than that. It has
// two slots written in turn, so that a slot torn by a power loss leaves the one before.
type mark struct {
	f     *os.File
	id    journalID
	gen   uint64
	index uint64
	dirty bool // written since it was synced
}

func (m *mark) encode() []byte {
	b := append(make([]byte, 0, markLen), markMagic...)
	b = append(b, m.id[:]...)
	b = binary.LittleEndian.AppendUint64(b, m.gen)
	b = binary.LittleEndian.AppendUint64(b, m.index)
	return binary.LittleEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeMark(b []byte) (m mark, ok bool) {
	if len(b) < markLen || string(b[:8]) != markMagic {
		return mark{}, false
	}
	if crc32.Checksum(b[:markLen-4], castagnoli) != binary.LittleEndian.Uint32(b[markLen-4:]) {
		return mark{}, false
	}
	m = mark{gen: binary.LittleEndian.Uint64(b[24:]), index: binary.LittleEndian.Uint64(b[32:])}
	copy(m.id[:], b[8:])
	return m, true
}

// createMark makes the mark's file, with both slots, and syncs it.
func createMark(dir string, id journalID, index uint64) (*mark, error) {
	path := filepath.Join(dir, markName)
	f, err := os.OpenFile(path+tmpSuffix, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return nil, err
	}
	m := &mark{f: f, id: id, index: index}
	_, err = f.Write(make([]byte, 2*markSlot))
	if err == nil {
		err = errors.Join(m.set(index), m.set(index), f.Sync())
	}
	if err == nil {
		err = os.Rename(path+tmpSuffix, path)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	m.dirty = false
	return m, nil
}

// openMark reads the mark. There being none is fs.ErrNotExist.
func openMark(dir string) (*mark, error) {
	path := filepath.Join(dir, markName)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.NewSectionReader(f, 0, 2*markSlot))
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	var found *mark
	for at := 0; at < len(b); at += markSlot {
		if m, ok := decodeMark(b[at:min(at+markSlot, len(b))]); ok && (found == nil || m.gen > found.gen) {
			found = &m
		}
	}
	if found == nil {
		_ = f.Close()
		return nil, &CorruptError{File: path, Reason: "neither of its two slots can be read (remove the file to take the log as it stands)"}
	}
	found.f = f
	return found, nil
}

// set says that the log has been synced up to index. It is not synced itself.
func (m *mark) set(index uint64) error {
	next := mark{id: m.id, gen: m.gen + 1, index: index}
	if _, err := m.f.WriteAt(next.encode(), int64(next.gen%2)*markSlot); err != nil {
		return fmt.Errorf("cannot note what was synced: %w", err)
	}
	m.gen, m.index, m.dirty = next.gen, index, true
	return nil
}

func (m *mark) sync() error {
	if !m.dirty {
		return nil
	}
	if err := m.f.Sync(); err != nil {
		return err
	}
	m.dirty = false
	return nil
}

func (m *mark) close() error {
	return errors.Join(m.sync(), m.f.Close())
}
