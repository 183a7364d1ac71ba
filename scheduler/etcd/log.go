package etcd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"iter"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/vagoth/vagoth/internal/etcdclient"
	"github.com/vagoth/vagoth/internal/journal"
	"github.com/vagoth/vagoth/scheduler"
)

// partSize is how many bytes one key holds at most. etcd takes requests of 1.5 MiB.
const partSize = 1 << 20

// maxParts is how many parts a commit has at most: etcd takes 128 operations in a
// transaction.
const maxParts = 100

// etcdLog is the log of one term of office: every write of it is a transaction
// that etcd commits only while its writer leads.
type etcdLog struct {
	st    store
	keys  layout
	term  int64 // the revision that made the leader's key
	lease clientv3.LeaseID
	alive context.Context // ends with the session

	mu    sync.Mutex
	stats journal.Stats
	dead  error
}

// How a commit is kept, the first byte behind the format.
const (
	isWhole  = 'W' // the term and the records follow
	isParted = 'P' // the term, the number of parts, their bytes and sum follow
)

// leads is true in etcd as long as this term lasts.
func (l *etcdLog) leads() clientv3.Cmp {
	return clientv3.Compare(clientv3.CreateRevision(l.keys.leader()), "=", l.term)
}

// AppendBatch implements engine.Log. Its index counts commits.
func (l *etcdLog) AppendBatch(ctx context.Context, records [][]byte) (last uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.dead != nil {
		return 0, l.dead
	}
	for first := true; len(records) > 0; first = false {
		n, size := 0, 0
		for n < len(records) && (n == 0 || size+len(records[n])+binary.MaxVarintLen64 <= partSize*maxParts) {
			size += len(records[n]) + binary.MaxVarintLen64
			n++
		}
		if err := l.append(ctx, frame(records[:n])); err != nil {
			if !first && l.dead == nil { // half of it is there
				l.dead = fmt.Errorf("%w: %w", journal.ErrFailed, err)
				return 0, l.dead
			}
			return 0, err
		}
		l.stats.Records += uint64(n)
		records = records[n:]
	}
	return l.stats.LastIndex, nil
}

// frame puts records together.
func frame(records [][]byte) []byte {
	size := 0
	for _, r := range records {
		size += len(r) + binary.MaxVarintLen64
	}
	b := make([]byte, 0, size)
	for _, r := range records {
		b = append(binary.AppendUvarint(b, uint64(len(r))), r...)
	}
	return b
}

// append writes one commit.
func (l *etcdLog) append(ctx context.Context, body []byte) error {
	n := l.stats.LastIndex + 1
	head := binary.BigEndian.AppendUint64([]byte{format, isWhole}, uint64(l.term))
	var ops []clientv3.Op
	if len(body) <= partSize {
		head = append(head, body...)
	} else {
		parts := (len(body) + partSize - 1) / partSize
		if parts > maxParts {
			return fmt.Errorf("%w: it needs %d bytes in etcd, at most %d are taken at once: submit it in parts", scheduler.ErrInvalid, len(body), partSize*maxParts)
		}
		head[1] = isParted
		head = binary.BigEndian.AppendUint32(head, uint32(parts))
		head = binary.BigEndian.AppendUint64(head, uint64(len(body)))
		for i := range parts {
			part := body[i*partSize : min((i+1)*partSize, len(body))]
			// Until the commit it vanishes with the session.
			put := clientv3.OpPut(l.keys.part(n, i), string(part), clientv3.WithLease(l.lease))
			if err := l.write(ctx, nil, []clientv3.Op{put}, nil); err != nil {
				return err
			}
			ops = append(ops, clientv3.OpPut(l.keys.part(n, i), "", clientv3.WithIgnoreValue())) // without the lease
		}
	}
	head = binary.BigEndian.AppendUint32(head, crc32.Checksum(body, castagnoli()))
	key := l.keys.commit(n)
	ops = append(ops, clientv3.OpPut(key, string(head)))
	unused := clientv3.Compare(clientv3.CreateRevision(key), "=", 0)
	if err := l.write(ctx, []clientv3.Cmp{unused}, ops, func(r *clientv3.TxnResponse) bool {
		kvs := r.Responses[0].GetResponseRange().Kvs
		return len(kvs) == 1 && bytes.Equal(kvs[0].Value, head)
	}, clientv3.OpGet(key)); err != nil {
		return err
	}
	l.stats.LastIndex = n
	l.stats.Syncs++
	l.stats.Bytes += uint64(len(body))
	l.stats.BytesSinceSnapshot += int64(len(body))
	return nil
}

func castagnoli() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) }

// write commits ops on condition that this manager leads. A lost answer is asked for
// again, until it is known what became of it: done looks at what else gave, and says
// whether an earlier try was committed. When the term is over the log is dead.
func (l *etcdLog) write(ctx context.Context, cmps []clientv3.Cmp, ops []clientv3.Op, done func(*clientv3.TxnResponse) bool, otherwise ...clientv3.Op) error {
	cmps = append([]clientv3.Cmp{l.leads()}, cmps...)
	wait := 20 * time.Millisecond
	for first := true; ; first = false {
		r, err := l.st.Txn(l.alive, cmps, ops, otherwise)
		switch {
		case err == nil && (r.Succeeded || done != nil && done(r)):
			return nil
		case err == nil:
			return l.die(errDeposed)
		case l.alive.Err() != nil:
			return l.die(context.Cause(l.alive))
		}
		if known := etcdclient.Refused(err); known != nil && first {
			return known // nothing of it was written
		}
		pause := time.NewTimer(wait)
		select {
		case <-pause.C:
		case <-l.alive.Done():
		}
		pause.Stop()
		wait = min(2*wait, time.Second)
	}
}

var errDeposed = errors.New("another manager leads")

// die ends the log. The caller holds l.mu, or is a snapshot.
func (l *etcdLog) die(why error) error {
	return fmt.Errorf("%w: %w", journal.ErrFailed, why)
}

// WriteSnapshot implements engine.Log.
func (l *etcdLog) WriteSnapshot(ctx context.Context, index uint64, records iter.Seq2[[]byte, error]) error {
	l.mu.Lock()
	before := l.stats.BytesSinceSnapshot
	l.mu.Unlock()
	h := snapshotHead{Format: format, Place: fmt.Sprintf("%020d-%020d", index, l.term), Index: index}
	buf := make([]byte, 0, partSize)
	flush := func() error {
		h.Sum = crc32.Update(h.Sum, castagnoli(), buf)
		h.Bytes += int64(len(buf))
		err := l.write(ctx, nil, []clientv3.Op{clientv3.OpPut(l.keys.snap(h.Place, h.Parts), string(buf))}, nil)
		h.Parts++
		buf = buf[:0]
		return err
	}
	for r, err := range records {
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		for rest := append(binary.AppendUvarint(nil, uint64(len(r))), r...); len(rest) > 0; {
			n := min(partSize-len(buf), len(rest))
			buf = append(buf, rest[:n]...)
			if rest = rest[n:]; len(buf) == partSize {
				if err := flush(); err != nil {
					return err
				}
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	all := l.keys.root + "s/"
	if err := l.write(ctx, nil, []clientv3.Op{
		clientv3.OpPut(l.keys.snapshot(), h.String()),
		clientv3.OpDelete(l.keys.commit(0), clientv3.WithRange(l.keys.commit(index+1))),
		clientv3.OpDelete(l.keys.parts(0), clientv3.WithRange(l.keys.parts(index+1))),
		clientv3.OpDelete(all, clientv3.WithRange(l.keys.place(h.Place))),
		clientv3.OpDelete(end(l.keys.place(h.Place)), clientv3.WithRange(end(all))),
	}, nil); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stats.SnapshotIndex, l.stats.SnapshotBytes = index, h.Bytes
	l.stats.BytesSinceSnapshot -= before
	return nil
}

// Stats implements engine.Log.
func (l *etcdLog) Stats() journal.Stats {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stats
}

// Close implements engine.Log: it has nothing of its own.
func (l *etcdLog) Close() error { return nil }
