package qcow2

import (
	"encoding/binary"
	"fmt"
	"io"
	"math/bits"
	"sort"
	"sync"

	"github.com/vagoth/vagoth/virt"
)

// The clusters of the files that are made.
const (
	outBits  = 16
	outSize  = 1 << outBits
	perTable = outSize / 8 // entries of a table
	perBlock = outSize / 2 // reference counts in a cluster
)

// Image is the content of a disk as a qcow2 file that needs no other.
type Image struct {
	disk *Disk
	any  []uint64 // a bit for each cluster of the disk that holds something
	data []int64  // for each second table, the clusters with content before it; one more for all
	full []int64  // for each second table, the tables that are not empty before it; one more for all

	blocks, counts, first, second, content, end int64 // where each part begins, in clusters

	readers sync.Pool
}

// NewImage goes through the tables of a disk.
func NewImage(d *Disk) (*Image, error) {
	clusters := (d.size + outSize - 1) >> outBits
	i := &Image{disk: d, any: make([]uint64, (clusters+63)/64)}
	i.readers.New = func() any { return d.reader() }
	err := d.data(func(from, length int64) {
		for c := from >> outBits; c <= (from+length-1)>>outBits; c++ {
			i.any[c/64] |= 1 << (c % 64)
		}
	})
	if err != nil {
		return nil, err
	}
	tables := (clusters + perTable - 1) / perTable
	i.data, i.full = make([]int64, tables+1), make([]int64, tables+1)
	for t := range tables {
		n := int64(0)
		for w := t * perTable / 64; w < min((t+1)*perTable/64, int64(len(i.any))); w++ {
			n += int64(bits.OnesCount64(i.any[w]))
		}
		i.data[t+1], i.full[t+1] = i.data[t]+n, i.full[t]
		if n > 0 {
			i.full[t+1]++
		}
	}
	i.place(tables)
	return i, nil
}

// place lays the file out: header, reference counts, tables, content.
func (i *Image) place(tables int64) {
	first := (tables*8 + outSize - 1) >> outBits
	counts, blocks := int64(1), int64(1)
	for {
		i.counts = 1
		i.blocks = i.counts + counts
		i.first = i.blocks + blocks
		i.second = i.first + first
		i.content = i.second + i.full[tables]
		i.end = i.content + i.data[tables]
		needBlocks := (i.end + perBlock - 1) / perBlock
		needCounts := (needBlocks + perTable - 1) / perTable
		if needBlocks <= blocks && needCounts <= counts {
			return
		}
		counts, blocks = max(counts, needCounts), max(blocks, needBlocks)
	}
}

// Length is the bytes of the file.
func (i *Image) Length() int64 { return i.end << outBits }

// ReadAt implements io.ReaderAt.
func (i *Image) ReadAt(p []byte, at int64) (int, error) {
	if at < 0 {
		return 0, fmt.Errorf("%w: byte %d of a file", virt.ErrInvalid, at)
	}
	r, _ := i.readers.Get().(*reader)
	defer i.readers.Put(r)
	n := 0
	for n < len(p) {
		if at >= i.Length() {
			return n, io.EOF
		}
		m, err := i.part(r, p[n:], at)
		n, at = n+m, at+int64(m)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// part makes some bytes: of one cluster of tables, or of content that belongs
// together.
func (i *Image) part(r *reader, p []byte, at int64) (int, error) {
	c, in := at>>outBits, at&(outSize-1)
	if c >= i.content {
		return i.clusters(r, p, c-i.content, in)
	}
	b := make([]byte, outSize)
	put := func(k int64, v uint64) { binary.BigEndian.PutUint64(b[k*8:], v) }
	tables := int64(len(i.data) - 1)
	switch {
	case c == 0:
		i.header(b)
	case c < i.blocks:
		for k := range int64(perTable) {
			if block := (c-i.counts)*perTable + k; block < i.first-i.blocks {
				put(k, uint64(i.blocks+block)<<outBits)
			}
		}
	case c < i.first:
		for k := range int64(perBlock) {
			if (c-i.blocks)*perBlock+k < i.end {
				binary.BigEndian.PutUint16(b[k*2:], 1)
			}
		}
	case c < i.second:
		for k := range int64(perTable) {
			if t := (c-i.first)*perTable + k; t < tables && i.full[t+1] > i.full[t] {
				put(k, uint64(i.second+i.full[t])<<outBits|copied)
			}
		}
	default:
		t := int64(sort.Search(int(tables), func(t int) bool { return i.full[t+1] > c-i.second }))
		n := i.content + i.data[t]
		for k := range int64(perTable) {
			if i.has(t*perTable + k) {
				put(k, uint64(n)<<outBits|copied)
				n++
			}
		}
	}
	return copy(p, b[in:]), nil
}

func (i *Image) header(b []byte) {
	copy(b, "QFI\xfb")
	be := binary.BigEndian
	be.PutUint32(b[4:], 3)
	be.PutUint32(b[20:], outBits)
	be.PutUint64(b[24:], uint64(i.disk.size))
	be.PutUint32(b[36:], uint32(len(i.data)-1))
	be.PutUint64(b[40:], uint64(i.first)<<outBits)
	be.PutUint64(b[48:], uint64(i.counts)<<outBits)
	be.PutUint32(b[56:], uint32(i.blocks-i.counts))
	be.PutUint32(b[96:], 4) // 16 bits a count
	be.PutUint32(b[100:], headerSize)
}

func (i *Image) has(c int64) bool {
	return c/64 < int64(len(i.any)) && i.any[c/64]>>(c%64)&1 != 0
}

// clusters reads content from the n-th cluster that holds any: as much as stands
// beside each other on the disk.
func (i *Image) clusters(r *reader, p []byte, n, in int64) (int, error) {
	tables := len(i.data) - 1
	t := sort.Search(tables, func(t int) bool { return i.data[t+1] > n })
	c := i.nth(int64(t)*perTable, n-i.data[t])
	length := outSize - in
	for length < int64(len(p)) && i.has(c+(in+length)>>outBits) {
		length += outSize
	}
	length = min(length, int64(len(p)))
	return int(length), r.read(p[:length], c<<outBits+in)
}

// nth finds the n-th cluster with content from a cluster on.
func (i *Image) nth(from, n int64) int64 {
	for w := from / 64; ; w++ {
		word := i.any[w]
		if m := int64(bits.OnesCount64(word)); n >= m {
			n -= m
			continue
		}
		for ; n > 0; n-- {
			word &= word - 1
		}
		return w*64 + int64(bits.TrailingZeros64(word))
	}
}
