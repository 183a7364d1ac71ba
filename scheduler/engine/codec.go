package engine

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// enc appends values to a buffer.
type enc struct{ b []byte }

func (e *enc) u(v uint64)  { e.b = binary.AppendUvarint(e.b, v) }
func (e *enc) i(v int64)   { e.b = binary.AppendVarint(e.b, v) }
func (e *enc) byte(v byte) { e.b = append(e.b, v) }
func (e *enc) s(v string) {
	e.u(uint64(len(v)))
	e.b = append(e.b, v...)
}

func (e *enc) f(v float64) { e.b = binary.LittleEndian.AppendUint64(e.b, math.Float64bits(v)) }

func (e *enc) bool(v bool) {
	if v {
		e.byte(1)
	} else {
		e.byte(0)
	}
}

// dec reads what enc wrote. After the first mistake every value is zero and
// err says what was wrong.
type dec struct {
	b   []byte
	err error
	// name gives the one copy of a string that occurs often; nil makes a new one
	// each time.
	name func([]byte) string
}

var errShort = errors.New("it ends too early")

func (d *dec) fail(err error) {
	if d.err == nil {
		d.err = err
	}
	d.b = nil
}

func (d *dec) u() uint64 {
	v, n := binary.Uvarint(d.b)
	if n <= 0 {
		d.fail(errShort)
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *dec) i() int64 {
	v, n := binary.Varint(d.b)
	if n <= 0 {
		d.fail(errShort)
		return 0
	}
	d.b = d.b[n:]
	return v
}

func (d *dec) byte() byte {
	if len(d.b) == 0 {
		d.fail(errShort)
		return 0
	}
	v := d.b[0]
	d.b = d.b[1:]
	return v
}

func (d *dec) bool() bool {
	switch d.byte() {
	case 0:
		return false
	case 1:
		return true
	}
	d.fail(errors.New("a truth value is neither 0 nor 1"))
	return false
}

func (d *dec) f() float64 {
	if len(d.b) < 8 {
		d.fail(errShort)
		return 0
	}
	v := math.Float64frombits(binary.LittleEndian.Uint64(d.b))
	d.b = d.b[8:]
	return v
}

func (d *dec) bytes() []byte {
	n := d.u()
	if n > uint64(len(d.b)) {
		d.fail(errShort)
		return nil
	}
	v := d.b[:n]
	d.b = d.b[n:]
	return v
}

func (d *dec) s() string { return string(d.bytes()) }

// word is a string that occurs often, such as a queue's name.
func (d *dec) word() string {
	b := d.bytes()
	if d.name == nil {
		return string(b)
	}
	return d.name(b)
}

// count reads how many entries follow, each of which has at least one byte.
func (d *dec) count() int {
	n := d.u()
	if n > uint64(len(d.b)) {
		d.fail(errShort)
		return 0
	}
	return int(n)
}

func (d *dec) small(most uint64, what string) uint64 {
	v := d.u()
	if v > most {
		d.fail(fmt.Errorf("%s %d is too large", what, v))
		return 0
	}
	return v
}

// more reports whether something follows.
func (d *dec) more() bool { return d.err == nil && len(d.b) > 0 }

// end is the mistake, if there was one, also of bytes that are left over.
func (d *dec) end() error {
	if d.err == nil && len(d.b) > 0 {
		d.err = fmt.Errorf("%d bytes are left over", len(d.b))
	}
	return d.err
}
