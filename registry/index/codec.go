package index

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"strings"
	"time"
	"unique"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/trail"
)

// format is the first byte of every record. A later format keeps reading this.
const format = 1

// The kinds of record, its second byte.
const (
	recHeader = 'H' // store id, revision, number of nodes, edges and blobs: first in a new journal and in a snapshot
	recCommit = 'C' // revision, then operations: one Update
	recNode   = 'N' // a node of a snapshot
	recEdge   = 'E' // an edge revision of a snapshot
	recBlob   = 'B' // a blob of a snapshot
	recEnd    = 'Z' // the end of a snapshot
)

// The operations in a commit.
const (
	opPut        = 'P' // length, node
	opDelete     = 'D' // its ID; its blobs go with it
	opPutBlob    = 'b' // ID, key, data
	opDeleteBlob = 'x' // ID, key
	opEdge       = 'e' // ID of a parent whose edge revision becomes the commit's
)

// header is what a recHeader says.
type header struct {
	store               string
	rev                 uint64
	nodes, edges, blobs uint64
}

func appendHeader(b []byte, h header) []byte {
	b = append(b, format, recHeader)
	b = appendString(b, h.store)
	for _, v := range []uint64{h.rev, h.nodes, h.edges, h.blobs} {
		b = binary.AppendUvarint(b, v)
	}
	return b
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

func appendTime(b []byte, t time.Time) []byte {
	b = binary.AppendVarint(b, t.Unix())
	return binary.AppendUvarint(b, uint64(t.Nanosecond()))
}

// appendNode encodes a node without format and kind.
func appendNode(b []byte, n *registry.Node, blobs []registry.BlobInfo) ([]byte, error) {
	for _, s := range []string{n.ID(), n.Name(), n.Type(), n.Tenant(), n.Parent(), n.State()} {
		b = appendString(b, s)
	}
	for _, d := range []registry.Document{n.Definition(), n.Metadata()} {
		if d.IsEmpty() {
			b = append(b, 0)
		} else {
			b = appendString(b, d.String())
		}
	}
	b = binary.AppendUvarint(b, uint64(n.NumTags()))
	for i := range n.NumTags() {
		t := n.TagAt(i)
		b = appendString(appendString(b, t.Key), t.Value)
	}
	b = binary.AppendUvarint(b, uint64(n.NumKeys()))
	for i := range n.NumKeys() {
		b = appendString(b, n.KeyAt(i))
	}
	b = binary.AppendUvarint(b, n.Revision())
	b = appendTime(appendTime(b, n.CreatedAt()), n.UpdatedAt())
	if t := n.Changed(); t == (trail.Trail{}) {
		b = append(b, 0)
	} else {
		b = append(b, 1)
		for _, s := range []string{t.Transaction, t.Source, t.Reason, t.Job} {
			b = appendString(b, s)
		}
		b = binary.AppendVarint(b, int64(t.Attempt))
		b = binary.AppendUvarint(binary.AppendUvarint(b, t.Token.Epoch), t.Token.Number)
	}
	b = binary.AppendUvarint(b, uint64(len(blobs)))
	for _, i := range blobs {
		sum, err := hex.DecodeString(i.SHA256)
		if err != nil || len(sum) != 32 {
			return nil, fmt.Errorf("node %s: blob %s: %q is no SHA-256 sum", n.ID(), i.Key, i.SHA256)
		}
		b = appendString(b, i.Key)
		b = append(binary.AppendUvarint(b, uint64(i.Size)), sum...)
	}
	return b, nil
}

// errRecord says that a record is not one of this format's. Its bytes have
// passed the journal's checksum, so that it means a bug or a newer program.
var errRecord = errors.New("not a record of this format: was it written by a newer version?")

// decoder reads a record. The strings it returns are parts of the record's. The
// first failure sticks; what is read after it is empty.
type decoder struct {
	s     string
	bad   bool
	words *words // nil if it reads little
}

func (d *decoder) uint() uint64 {
	var v uint64
	for i := 0; i < len(d.s) && i < binary.MaxVarintLen64; i++ {
		c := d.s[i]
		if i == binary.MaxVarintLen64-1 && c > 1 {
			break
		}
		v |= uint64(c&0x7f) << (7 * i)
		if c < 0x80 {
			d.s = d.s[i+1:]
			return v
		}
	}
	d.fail()
	return 0
}

func (d *decoder) int() int64 {
	u := d.uint()
	return int64(u>>1) ^ -int64(u&1)
}

func (d *decoder) fail() { d.bad, d.s = true, "" }

func (d *decoder) bytes(n uint64) string {
	if n > uint64(len(d.s)) {
		d.fail()
		return ""
	}
	s := d.s[:n]
	d.s = d.s[n:]
	return s
}

func (d *decoder) string() string { return d.bytes(d.uint()) }

func (d *decoder) byte() byte {
	if s := d.bytes(1); s != "" {
		return s[0]
	}
	return 0
}

// count reads a number of things, each of at least one byte.
func (d *decoder) count(limit int) int {
	n := d.uint()
	if n > uint64(limit) || n > uint64(len(d.s)) {
		d.fail()
		return 0
	}
	return int(n)
}

func (d *decoder) time() time.Time {
	sec, nsec := d.int(), d.uint()
	if sec < minTime || sec > maxTime || nsec >= uint64(time.Second) {
		d.fail()
		return time.Time{}
	}
	return time.Unix(sec, int64(nsec)).UTC()
}

// The times that can be stored: the years 0 to 9999, which JSON can show.
const (
	minTime = -62167219200
	maxTime = 253402300799
)

// storable returns t as it will be read back.
func storable(t time.Time) time.Time {
	return time.Unix(min(max(t.Unix(), minTime), maxTime), int64(t.Nanosecond())).UTC()
}

// shared reads a string that equal values share.
func (d *decoder) shared() string {
	s := d.string()
	switch {
	case s == "":
		return ""
	case d.words == nil:
		return unique.Make(s).Value()
	}
	return d.words.shared(s)
}

// words remembers shared strings, so that one that comes again and again is found
// for less. It is used by one goroutine at a time.
type words struct {
	seed  maphash.Seed
	known [1 << 10]string
}

func newWords() *words { return &words{seed: maphash.MakeSeed()} }

func (w *words) shared(s string) string {
	at := &w.known[maphash.String(w.seed, s)%uint64(len(w.known))]
	if *at != s {
		*at = unique.Make(s).Value()
	}
	return *at
}

// node reads what appendNode wrote.
func (d *decoder) node() *registry.Node {
	p := registry.Parts{ID: d.string(), Name: d.string(), Type: d.shared(), Tenant: d.shared(), Parent: d.shared(), State: d.shared()}
	p.Definition = registry.TrustedDocument(d.string())
	p.Metadata = registry.TrustedDocument(d.string())
	if n := d.count(registry.MaxTags); n > 0 {
		p.Tags = make([]registry.Tag, n)
		for i := range p.Tags {
			p.Tags[i] = registry.Tag{Key: d.shared(), Value: d.shared()}
			d.bad = d.bad || i > 0 && p.Tags[i].Key <= p.Tags[i-1].Key
		}
	}
	if n := d.count(registry.MaxKeys); n > 0 {
		p.Keys = make([]string, n)
		for i := range p.Keys {
			p.Keys[i] = d.string()
			d.bad = d.bad || i > 0 && p.Keys[i] <= p.Keys[i-1]
		}
	}
	p.Stamp.Revision = d.uint()
	p.Stamp.CreatedAt, p.Stamp.UpdatedAt = d.time(), d.time()
	switch d.byte() {
	case 0:
	case 1:
		t := &p.Stamp.Changed
		t.Transaction, t.Source, t.Reason, t.Job = d.string(), d.shared(), d.string(), d.string()
		attempt := d.int()
		d.bad = d.bad || attempt < math.MinInt32 || attempt > math.MaxInt32
		t.Attempt = int(attempt)
		t.Token.Epoch, t.Token.Number = d.uint(), d.uint()
	default:
		d.fail()
	}
	if n := d.count(registry.MaxBlobs); n > 0 {
		p.Stamp.Blobs = make([]registry.BlobInfo, n)
		for i := range p.Stamp.Blobs {
			b := registry.BlobInfo{Key: d.string(), Size: d.size(registry.MaxBlob), SHA256: hex.EncodeToString([]byte(d.bytes(32)))}
			d.bad = d.bad || i > 0 && b.Key <= p.Stamp.Blobs[i-1].Key
			p.Stamp.Blobs[i] = b
		}
	}
	if p.ID == "" || p.Name == "" || p.Type == "" {
		d.fail()
	}
	return registry.MakeNode(p)
}

// size reads a number that is not one of things in the record.
func (d *decoder) size(limit int) int {
	n := d.uint()
	if n > uint64(limit) {
		d.fail()
		return 0
	}
	return int(n)
}

// record begins a record and returns its kind.
func record(s string) (*decoder, byte) {
	d := &decoder{s: s}
	if d.byte() != format {
		d.fail()
	}
	return d, d.byte()
}

// end reports whether the record was well-formed and has been read to its end.
func (d *decoder) end() error {
	if d.bad || d.s != "" {
		return errRecord
	}
	return nil
}

func (d *decoder) header() header {
	return header{store: d.string(), rev: d.uint(), nodes: d.uint(), edges: d.uint(), blobs: d.uint()}
}

// operation is one step of a commit.
type operation struct {
	op   byte
	node *registry.Node // opPut
	id   string         // the others
	key  string
	data string
}

func (d *decoder) operation() operation {
	o := operation{op: d.byte()}
	switch o.op {
	case opPut:
		// A copy, so that the node does not pin what else the commit wrote.
		part := &decoder{s: strings.Clone(d.string()), words: d.words}
		o.node = part.node()
		o.id = o.node.ID()
		d.bad = d.bad || part.end() != nil
	case opDelete, opEdge:
		o.id = d.string()
	case opPutBlob:
		o.id, o.key, o.data = d.string(), d.string(), d.string()
	case opDeleteBlob:
		o.id, o.key = d.string(), d.string()
	default:
		d.fail()
	}
	return o
}

// commit reads the rest of a recCommit.
func (d *decoder) commit() (rev uint64, ops []operation) {
	rev = d.uint()
	for d.s != "" && !d.bad {
		ops = append(ops, d.operation())
	}
	return rev, ops
}
