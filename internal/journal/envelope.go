package journal

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// An entry of the log is an envelope: what etcd's chained checksum cannot say about a
// record found behind damage, the record says itself.
//
//	magic 4 | crc32c 4 | index 8 | base 8 | length 4 | record
//
// The checksum covers what follows it, and starts from the journal's id: nobody can put a
// valid envelope into a record from outside, and a segment of another journal is refused.
const (
	envelopeMagic = "\xf7vR1"
	envelopeSize  = 28
)

// MaxRecord is the largest record that any journal takes.
const MaxRecord = 64 << 20

var (
	castagnoli  = crc32.MakeTable(crc32.Castagnoli)
	errEnvelope = errors.New("not a record of this journal")
)

// journalID names a journal: chosen at random when it is made, in every file of it.
type journalID [16]byte

func (id journalID) seed() uint32 { return crc32.Checksum(id[:], castagnoli) }

// envelope is one record with its place. Base is the last index that had been synced
// before the record was written.
type envelope struct {
	index, base uint64
	record      []byte
}

func (e envelope) append(b []byte, id journalID) []byte {
	start := len(b)
	b = append(b, envelopeMagic...)
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, e.index)
	b = binary.LittleEndian.AppendUint64(b, e.base)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(e.record)))
	b = append(b, e.record...)
	binary.LittleEndian.PutUint32(b[start+4:], crc32.Update(id.seed(), castagnoli, b[start+8:]))
	return b
}

// decodeEnvelope reads the envelope that b begins with, and says how long it is.
func decodeEnvelope(b []byte, id journalID) (envelope, int, error) {
	if len(b) < envelopeSize || string(b[:4]) != envelopeMagic {
		return envelope{}, 0, errEnvelope
	}
	n := int64(binary.LittleEndian.Uint32(b[24:]))
	if n > MaxRecord || n > int64(len(b)-envelopeSize) {
		return envelope{}, 0, errEnvelope
	}
	end := envelopeSize + int(n)
	if crc32.Update(id.seed(), castagnoli, b[8:end]) != binary.LittleEndian.Uint32(b[4:]) {
		return envelope{}, 0, errEnvelope
	}
	e := envelope{
		index: binary.LittleEndian.Uint64(b[8:]), base: binary.LittleEndian.Uint64(b[16:]),
		record: b[envelopeSize:end:end],
	}
	if e.base >= e.index {
		return envelope{}, 0, errEnvelope
	}
	return e, end, nil
}

// vouched looks in bytes that cannot be read as log for the record that vouches for most:
// all up to that index had been synced.
func vouched(b []byte, id journalID) (base uint64) {
	for {
		i := bytes.Index(b, []byte(envelopeMagic))
		if i < 0 {
			return base
		}
		b = b[i:]
		if e, n, err := decodeEnvelope(b, id); err == nil {
			base, b = max(base, e.base), b[n:]
		} else {
			b = b[1:]
		}
	}
}
