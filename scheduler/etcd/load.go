package etcd

import (
	"bufio"
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"iter"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/vagoth/vagoth/internal/journal"
)

// atOnce is how many keys are read at once, each of at most about partSize.
const atOnce = 16

// load reads what is stored. Nobody writes meanwhile: the term has begun.
func (l *etcdLog) load(ctx context.Context, to journal.Loader) error {
	kvs, err := l.read(ctx, clientv3.OpGet(l.keys.snapshot()))
	if err != nil {
		return err
	}
	if len(kvs) == 0 {
		return l.write(ctx, nil, []clientv3.Op{clientv3.OpPut(l.keys.snapshot(), snapshotHead{Format: format}.String())}, nil)
	}
	h, err := parseHead([]byte(kvs[0]))
	if err != nil {
		return err
	}
	if h.Place != "" {
		if err := l.restore(ctx, h, to); err != nil {
			return err
		}
	}
	return l.replay(ctx, h.Index, to)
}

// read gives the values of keys in their order.
func (l *etcdLog) read(ctx context.Context, ops ...clientv3.Op) ([]string, error) {
	r, err := l.st.Txn(ctx, nil, ops, nil)
	if err != nil {
		return nil, err
	}
	var values []string
	for _, one := range r.Responses {
		for _, kv := range one.GetResponseRange().Kvs {
			values = append(values, string(kv.Value))
		}
	}
	return values, nil
}

func (l *etcdLog) restore(ctx context.Context, h snapshotHead, to journal.Loader) error {
	r, w := io.Pipe()
	failed := make(chan error, 1)
	go func() {
		err := l.parts(ctx, h.Parts, func(i int) string { return l.keys.snap(h.Place, i) }, func(b []byte) error {
			_, err := w.Write(b)
			return err
		}, h.Bytes, h.Sum)
		_ = w.CloseWithError(err) // never fails
		failed <- err
	}()
	err := to.Restore(h.Index, records(r))
	_ = r.Close() // never fails
	if read := <-failed; err == nil || read != nil && !errors.Is(read, io.ErrClosedPipe) {
		err = read
	}
	if err != nil {
		return fmt.Errorf("the snapshot of commit %d: %w", h.Index, err)
	}
	l.stats.LastIndex, l.stats.SnapshotIndex, l.stats.SnapshotBytes = h.Index, h.Index, h.Bytes
	return nil
}

// parts reads n keys, a few at a time, and compares their length and sum.
func (l *etcdLog) parts(ctx context.Context, n int, key func(int) string, take func([]byte) error, size int64, sum uint32) error {
	var got int64
	var is uint32
	for i := 0; i < n; i += atOnce {
		var ops []clientv3.Op
		for k := i; k < min(i+atOnce, n); k++ {
			ops = append(ops, clientv3.OpGet(key(k)))
		}
		values, err := l.read(ctx, ops...)
		if err != nil {
			return err
		}
		if len(values) != len(ops) {
			return fmt.Errorf("of its parts %d to %d some are missing", i, i+len(ops)-1)
		}
		for _, v := range values {
			got += int64(len(v))
			is = crc32.Update(is, castagnoli(), []byte(v))
			if err := take([]byte(v)); err != nil {
				return err
			}
		}
	}
	if got != size || is != sum {
		return fmt.Errorf("its parts have %d bytes and the sum %08x, written were %d and %08x: etcd holds something else than was written", got, is, size, sum)
	}
	return nil
}

// records takes apart what frame has put together.
func records(from io.Reader) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		r := bufio.NewReader(from)
		for {
			n, err := binary.ReadUvarint(r)
			if errors.Is(err, io.EOF) {
				return
			}
			var b []byte
			if err == nil && n > journal.MaxRecord+64 {
				err = fmt.Errorf("a record of %d bytes", n)
			}
			if err == nil {
				b = make([]byte, n)
				_, err = io.ReadFull(r, b)
			}
			if !yield(b, err) || err != nil {
				return
			}
		}
	}
}

// replay gives the commits after the first so many.
func (l *etcdLog) replay(ctx context.Context, after uint64, to journal.Loader) error {
	l.stats.LastIndex = after
	for {
		next := l.stats.LastIndex + 1
		r, err := l.st.Txn(ctx, nil, []clientv3.Op{clientv3.OpGet(l.keys.commit(next), clientv3.WithRange(end(l.keys.commits())), clientv3.WithLimit(atOnce))}, nil)
		if err != nil {
			return err
		}
		kvs := r.Responses[0].GetResponseRange().Kvs
		for _, kv := range kvs {
			n := l.stats.LastIndex + 1
			if string(kv.Key) != l.keys.commit(n) {
				return fmt.Errorf("commit %d is missing, the next is %s: etcd holds something else than was written", n, kv.Key)
			}
			body, err := l.body(ctx, n, kv.Value)
			if err != nil {
				return fmt.Errorf("commit %d: %w", n, err)
			}
			for rec, err := range records(body) {
				if err == nil {
					err = to.Replay(n, rec)
				}
				if err != nil {
					return fmt.Errorf("commit %d: %w", n, err)
				}
			}
			l.stats.LastIndex = n
			l.stats.BytesSinceSnapshot += int64(len(kv.Value))
		}
		if len(kvs) < atOnce {
			return nil
		}
	}
}

var errCommit = errors.New("it holds something else than was written")

// body is what a commit holds.
func (l *etcdLog) body(ctx context.Context, n uint64, v []byte) (io.Reader, error) {
	const headSize, partedSize, sumSize = 10, 12, 4
	if len(v) < headSize+sumSize {
		return nil, errCommit
	}
	if v[0] != format {
		return nil, fmt.Errorf("its format is %d, this program reads %d: a newer program has written it", v[0], format)
	}
	kind, sum, v := v[1], binary.BigEndian.Uint32(v[len(v)-sumSize:]), v[headSize:len(v)-sumSize]
	switch {
	case kind == isWhole && crc32.Checksum(v, castagnoli()) == sum:
		return bytes.NewReader(v), nil
	case kind != isParted || len(v) != partedSize:
		return nil, errCommit
	}
	parts, size := binary.BigEndian.Uint32(v), binary.BigEndian.Uint64(v[4:])
	if parts > maxParts || size > partSize*maxParts {
		return nil, errCommit
	}
	var all []byte
	err := l.parts(ctx, int(parts), func(i int) string { return l.keys.part(n, i) }, func(b []byte) error {
		all = append(all, b...)
		return nil
	}, int64(size), sum)
	return bytes.NewReader(all), err
}
