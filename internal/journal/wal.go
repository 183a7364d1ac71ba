package journal

import (
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"go.etcd.io/etcd/server/v3/storage/wal"
	"go.etcd.io/etcd/server/v3/storage/wal/walpb"
	"go.etcd.io/raft/v3/raftpb"
)

// walPanic is what etcd's code ends with where it would end the process.
type walPanic struct{ reason string }

// guard calls into etcd's log and turns its panics into errors.
func guard(fn func() error) (err error) {
	defer func() {
		if p := recover(); p != nil {
			if w, ok := p.(walPanic); ok {
				err = errors.New(w.reason)
				return
			}
			err = fmt.Errorf("the write-ahead log panicked: %v", p)
		}
	}()
	return fn()
}

type panicHook struct{}

// OnWrite implements zapcore.CheckWriteHook.
func (panicHook) OnWrite(ce *zapcore.CheckedEntry, fields []zapcore.Field) {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(enc)
	}
	panic(walPanic{fmt.Sprintf("%s %v", ce.Message, enc.Fields)})
}

// walLogger drops what etcd says, as errors come back as errors. Even a logger that drops
// everything would panic and exit when told so, hence the hooks.
func walLogger() *zap.Logger {
	return zap.New(zapcore.NewNopCore(), zap.WithPanicHook(panicHook{}), zap.WithFatalHook(panicHook{}))
}

// closeLog closes w. When its last sync fails, etcd's Close keeps the files open and locked,
// so it is called again without one: what could not be synced was not acknowledged.
func closeLog(w *wal.WAL) error {
	err := guard(w.Close)
	if err == nil {
		return nil
	}
	w.SetUnsafeNoFsync()
	if again := guard(w.Close); again != nil || !isFull(err) {
		return errors.Join(err, again)
	}
	return nil
}

// createLog makes an empty log.
func createLog(dir string, id journalID) error {
	path := filepath.Join(dir, logName)
	var w *wal.WAL
	err := guard(func() (err error) {
		w, err = wal.Create(walLogger(), path, append([]byte(logMetadata), id[:]...))
		return err
	})
	if err != nil {
		return err
	}
	return errors.Join(closeLog(w), syncDir(path))
}

// openLog opens the log's last segment for writing after the record last, which it ends with.
func openLog(dir string, last uint64) (*wal.WAL, error) {
	w, err := tryOpenLog(dir, last)
	if isFull(err) {
		// etcd gives the space after the end back and takes it again, which another
		// may have taken meanwhile. The second time there is none to take.
		w, err = tryOpenLog(dir, last)
	}
	return w, err
}

func tryOpenLog(dir string, last uint64) (w *wal.WAL, err error) {
	// No segment begins after last+1, and the last one not before it, or its own end.
	from := &walpb.Snapshot{Index: new(last + 1), Term: new(uint64(0))}
	err = guard(func() (err error) {
		w, err = wal.Open(walLogger(), filepath.Join(dir, logName), from)
		return err
	})
	if err != nil {
		return nil, err
	}
	err = guard(func() error {
		_, _, _, err := w.ReadAll()
		return err
	})
	if err != nil {
		return nil, errors.Join(err, closeLog(w))
	}
	return w, nil
}

// save writes and syncs records that follow last. It builds them in b, which it returns.
func save(w *wal.WAL, id journalID, last uint64, records [][]byte, b []byte) ([]byte, error) {
	size := 0
	for _, r := range records {
		size += envelopeSize + len(r)
	}
	b = slices.Grow(b, size)
	room, entries := make([]raftpb.Entry, len(records)), make([]*raftpb.Entry, len(records))
	indexes := make([]uint64, len(records))
	for i, r := range records {
		e := envelope{index: last + 1 + uint64(i), base: last, record: r}
		start := len(b)
		b = e.append(b, id)
		indexes[i] = e.index
		room[i].Index, room[i].Data = &indexes[i], b[start:len(b):len(b)]
		entries[i] = &room[i]
	}
	return b, guard(func() error { return w.Save(&raftpb.HardState{}, entries) })
}
