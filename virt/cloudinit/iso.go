package cloudinit

import (
	"encoding/binary"
	"strings"
	"unicode/utf16"
)

// file is one in the root of the image.
type file struct {
	name string // letters and hyphens
	data []byte
}

const sector = 2048 // bytes

// The sectors of an image. Behind them stand the files.
const (
	atPrimary = 16 + iota
	atJoliet
	atEnd
	atTable // paths, little and big endian, of the primary volume and of Joliet
	_
	_
	_
	atRoot
	atJolietRoot
	atFiles
)

// image writes an ISO 9660 of files ordered by name, with the names of Rock Ridge
// and Joliet. A folder of them fits a sector.
func image(files []file) []byte {
	places := make([]int, len(files))
	end := atFiles
	for i, f := range files {
		places[i] = end
		end += (len(f.data) + sector - 1) / sector
	}
	out := make([]byte, end*sector)
	at := func(n int) []byte { return out[n*sector : (n+1)*sector] }

	describe(at(atPrimary), 1, end, atRoot, atTable, func(s string, n int) []byte { return padded([]byte(s), []byte(" "), n) })
	describe(at(atJoliet), 2, end, atJolietRoot, atTable+2, func(s string, n int) []byte { return padded(wide(s), wide(" "), n) })
	copy(at(atJoliet)[88:], "%/E")
	copy(at(atEnd), "\xffCD001\x01")
	for i, root := range []int{atRoot, atJolietRoot} {
		for j, order := range []binary.ByteOrder{binary.LittleEndian, binary.BigEndian} {
			table := at(atTable + 2*i + j)
			table[0] = 1
			order.PutUint32(table[2:], uint32(root))
			order.PutUint16(table[6:], 1)
		}
	}
	root, joliet := at(atRoot)[:0], at(atJolietRoot)[:0]
	self := join([]byte("SP\x07\x01\xbe\xef\x00"), mode(0o040555, 2), []byte("ER\x12\x01\x0a\x00\x00\x01RRIP_1991A"))
	root = entry(root, "\x00", atRoot, sector, 2, self)
	root = entry(root, "\x01", atRoot, sector, 2, mode(0o040555, 2))
	joliet = entry(joliet, "\x00", atJolietRoot, sector, 2, nil)
	joliet = entry(joliet, "\x01", atJolietRoot, sector, 2, nil)
	for i, f := range files {
		copy(out[places[i]*sector:], f.data)
		name := append([]byte{'N', 'M', byte(5 + len(f.name)), 1, 0}, f.name...)
		root = entry(root, strings.ToUpper(f.name)+".;1", places[i], len(f.data), 0, join(name, mode(0o100444, 1)))
		joliet = entry(joliet, string(wide(f.name)), places[i], len(f.data), 0, nil)
	}
	return out
}

// describe writes a volume descriptor.
func describe(b []byte, kind byte, sectors, root, table int, text func(string, int) []byte) {
	b[0] = kind
	copy(b[1:], "CD001\x01")
	copy(b[8:], text("", 32))
	copy(b[40:], text(Label, 32))
	copy(b[80:], both32(sectors))
	copy(b[120:], both16(1))
	copy(b[124:], both16(1))
	copy(b[128:], both16(sector))
	copy(b[132:], both32(10)) // bytes of a table of paths
	binary.LittleEndian.PutUint32(b[140:], uint32(table))
	binary.BigEndian.PutUint32(b[148:], uint32(table+1))
	entry(b[156:156], "\x00", root, sector, 2, nil)
	copy(b[190:], text("", 623)) // who made it, which nobody did
	for i := range 4 {
		copy(b[813+17*i:], "0000000000000000\x00") // no time
	}
	b[881] = 1
}

// entry appends one of a folder.
func entry(b []byte, name string, place, size int, flags byte, more []byte) []byte {
	odd := (len(name) + 1) % 2
	length := 33 + len(name) + odd + len(more)
	length += length % 2
	e := make([]byte, length)
	e[0] = byte(length)
	copy(e[2:], both32(place))
	copy(e[10:], both32(size))
	copy(e[18:], "\x78\x01\x01") // the first of January 2020
	e[25] = flags
	copy(e[28:], both16(1))
	e[32] = byte(len(name))
	copy(e[33:], name)
	copy(e[33+len(name)+odd:], more)
	return append(b, e...)
}

// mode is what Rock Ridge says of who may do what.
func mode(bits, links int) []byte {
	return join([]byte("PX\x24\x01"), both32(bits), both32(links), both32(0), both32(0))
}

func both32(n int) []byte {
	return binary.BigEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, uint32(n)), uint32(n))
}

func both16(n int) []byte {
	return binary.BigEndian.AppendUint16(binary.LittleEndian.AppendUint16(nil, uint16(n)), uint16(n))
}

func join(parts ...[]byte) (all []byte) {
	for _, p := range parts {
		all = append(all, p...)
	}
	return all
}

func padded(b, with []byte, n int) []byte {
	for len(b)+len(with) <= n {
		b = append(b, with...)
	}
	return b
}

// wide is text as Joliet has it.
func wide(s string) (b []byte) {
	for _, u := range utf16.Encode([]rune(s)) {
		b = binary.BigEndian.AppendUint16(b, u)
	}
	return b
}
