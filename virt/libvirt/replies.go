package libvirt

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// errMalformed is a peer that does not keep to the protocol.
var errMalformed = errors.New("it sent a malformed reply")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", errMalformed, fmt.Sprintf(format, args...))
}

// limits bound what a reply may hold.
type limits struct {
	domains int // of one listing
}

const (
	maxErrorFrame  = 64 << 10
	maxSmall       = 64 << 10
	maxDocument    = 4<<20 + 4096 // libvirt's own bound of a string, and room for the frame
	maxName        = 4096
	maxStats       = 4096 // of one domain
	statsPerDomain = 64   // on average, over a listing
)

// reply is what the answer to a procedure looks like.
type reply struct {
	frame uint32 // bytes of the whole frame, at most
	check func(*reader)
	most  int // elements of the list that it begins with; 0 if it begins with none
}

// The procedures of libvirt's remote_protocol.x that this package calls.
const (
	procConnectOpen                  = 1
	procNodeGetInfo                  = 6
	procDomainGetXMLDesc             = 14
	procDomainGetInfo                = 16
	procDomainLookupByName           = 23
	procDomainLookupByUUID           = 24
	procDomainReboot                 = 27
	procDomainResume                 = 28
	procDomainSuspend                = 34
	procNetworkLookupByName          = 46
	procNetworkGetXMLDesc            = 43
	procAuthList                     = 66
	procAuthPolkit                   = 70
	procStoragePoolDefineXML         = 77
	procStoragePoolCreate            = 78
	procStoragePoolBuild             = 79
	procStoragePoolRefresh           = 83
	procStoragePoolLookupByName      = 84
	procStoragePoolGetInfo           = 87
	procStoragePoolGetXMLDesc        = 88
	procStoragePoolSetAutostart      = 90
	procStorageVolCreateXML          = 93
	procStorageVolDelete             = 94
	procStorageVolLookupByName       = 95
	procStorageVolGetXMLDesc         = 99
	procConnectGetLibVersion         = 157
	procDomainAttachDeviceFlags      = 160
	procDomainDetachDeviceFlags      = 161
	procDomainAbortJob               = 164
	procDomainCreateWithFlags        = 196
	procDomainGetState               = 212
	procDomainUndefineFlags          = 231
	procDomainDestroyFlags           = 234
	procDomainShutdownFlags          = 258
	procDomainSetMetadata            = 264
	procConnectListAllDomains        = 273
	procDomainGetJobStats            = 298
	procDomainMigratePerform3Params  = 305
	procConnectGetDomainCapabilities = 342
	procConnectGetAllDomainStats     = 344
	procDomainDefineXMLFlags         = 350
	procStoragePoolLookupByPath      = 391

	// Of qemuProgram.
	procQEMUMonitorCommand = 1
)

// replyOf returns what the reply to a procedure of a program looks like.
func (l limits) replyOf(of, procedure uint32) (reply, bool) {
	switch {
	case of == program:
		return l.reply(procedure)
	case of == qemuProgram && procedure == procQEMUMonitorCommand:
		return reply{frame: maxDocument, check: func(r *reader) { r.text(4 << 20) }}, true
	}
	return reply{}, false
}

// reply returns what the reply to a procedure looks like.
func (l limits) reply(procedure uint32) (reply, bool) {
	switch procedure {
	case procConnectOpen, procDomainReboot, procDomainResume, procDomainSuspend, procStoragePoolCreate, procStoragePoolBuild,
		procStoragePoolRefresh, procStoragePoolSetAutostart, procStorageVolDelete, procDomainUndefineFlags, procDomainDestroyFlags,
		procDomainShutdownFlags, procDomainAttachDeviceFlags, procDomainDetachDeviceFlags, procDomainSetMetadata, procDomainAbortJob:
		return reply{frame: maxSmall, check: func(*reader) {}}, true
	case procAuthList:
		return reply{frame: maxSmall, check: func(r *reader) { r.skip(4 * r.count(20, 4)) }}, true
	case procAuthPolkit:
		return reply{frame: maxSmall, check: func(r *reader) { r.skip(4) }}, true
	case procConnectGetLibVersion:
		return reply{frame: maxSmall, check: func(r *reader) { r.skip(8) }}, true
	case procDomainGetState:
		return reply{frame: maxSmall, check: func(r *reader) { r.skip(8) }}, true
	case procDomainGetInfo:
		return reply{frame: maxSmall, check: func(r *reader) { r.skip(4 + 8 + 8 + 4 + 8) }}, true
	case procConnectListAllDomains:
		return reply{frame: maxDocument, check: func(r *reader) {
			for range r.count(r.limits.domains, 4+16+4) {
				r.domain()
			}
			r.skip(4)
		}}, true
	case procNodeGetInfo:
		return reply{frame: maxSmall, check: func(r *reader) { r.skip(32*4 + 8 + 6*4) }}, true
	case procStoragePoolGetInfo:
		return reply{frame: maxSmall, check: func(r *reader) { r.skip(4 + 3*8) }}, true
	case procDomainLookupByName, procDomainLookupByUUID, procDomainCreateWithFlags, procDomainDefineXMLFlags:
		return reply{frame: maxSmall, check: (*reader).domain}, true
	case procStoragePoolDefineXML, procStoragePoolLookupByName, procStoragePoolLookupByPath, procNetworkLookupByName:
		return reply{frame: maxSmall, check: func(r *reader) { r.text(maxName); r.skip(16) }}, true
	case procStorageVolCreateXML, procStorageVolLookupByName:
		return reply{frame: maxSmall, check: func(r *reader) { r.text(maxName); r.text(maxName); r.text(maxName) }}, true
	case procDomainGetXMLDesc, procNetworkGetXMLDesc, procStoragePoolGetXMLDesc, procStorageVolGetXMLDesc, procConnectGetDomainCapabilities,
		procDomainMigratePerform3Params:
		return reply{frame: maxDocument, check: func(r *reader) { r.text(4 << 20) }}, true
	case procDomainGetJobStats:
		return reply{frame: maxDocument, check: func(r *reader) { r.skip(4); r.params(r.count(maxStats, 4+4+4)) }}, true
	case procConnectGetAllDomainStats:
		return reply{frame: maxFrame, check: (*reader).stats, most: l.domains}, true
	}
	return reply{}, false
}

// reader walks over XDR without decoding it: it finds the lengths in it that do
// not hold.
type reader struct {
	b      []byte
	limits limits
	err    error
}

func (r *reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = malformed(format, args...)
	}
	r.b = nil
}

func (r *reader) skip(n int) {
	if n > len(r.b) {
		r.fail("it ends too early")
		return
	}
	r.b = r.b[n:]
}

func (r *reader) word() uint32 {
	if len(r.b) < 4 {
		r.fail("it ends too early")
		return 0
	}
	w := binary.BigEndian.Uint32(r.b)
	r.b = r.b[4:]
	return w
}

// count reads the length of an array whose elements have at least size bytes.
func (r *reader) count(limit, size int) int {
	n := r.word()
	if uint64(n) > uint64(limit) {
		r.fail("a list of %d, where at most %d are allowed", n, limit)
		return 0
	}
	if uint64(n)*uint64(size) > uint64(len(r.b)) {
		r.fail("a list of %d in %d bytes", n, len(r.b))
		return 0
	}
	return int(n)
}

// text reads a string or opaque bytes, padded to a multiple of four.
func (r *reader) text(limit int) []byte {
	n := r.count(limit, 1)
	if n > len(r.b) {
		return nil
	}
	s := r.b[:n]
	r.skip((n + 3) &^ 3)
	return s
}

func (r *reader) domain() {
	r.text(maxName)
	r.skip(16 + 4)
}

// stats reads a list of domains with their typed parameters.
func (r *reader) stats() {
	domains := r.count(r.limits.domains, 4+16+4+4)
	budget := max(domains, 64) * statsPerDomain
	for range domains {
		r.domain()
		params := r.count(maxStats, 4+4+4)
		if budget -= params; budget < 0 {
			r.fail("more than %d values for %d domains", max(domains, 64)*statsPerDomain, domains)
		}
		if r.params(params); r.err != nil {
			return
		}
	}
}

// params reads typed parameters.
func (r *reader) params(n int) {
	for range n {
		r.text(256)
		switch kind := r.word(); kind {
		case 1, 2, 6:
			r.skip(4)
		case 3, 4, 5:
			r.skip(8)
		case 7:
			r.text(maxName)
		default:
			r.fail("a value of type %d", kind)
		}
		if r.err != nil {
			return
		}
	}
}

// end is the verdict.
func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		r.fail("%d bytes more than it should have", len(r.b))
	}
	return r.err
}

// cleanError rebuilds an error so that go-libvirt reads it as it is: with a
// message (it does not look whether there is one), bounded and printable, and
// a code that is not zero (which it takes for success).
func cleanError(b []byte) ([]byte, error) {
	r := &reader{b: b}
	code, domain, text := r.word(), r.word(), []byte(nil)
	if r.word() == 1 {
		text = r.text(maxErrorFrame)
	}
	if r.err != nil {
		return nil, r.err
	}
	if code == 0 {
		code = 1
	}
	message := clean(string(text), maxMessage)
	if message == "" {
		message = "it gave no reason"
	}
	out := make([]byte, 0, 4*5+len(message)+3)
	for _, w := range []uint32{code, domain, 1, uint32(len(message))} {
		out = binary.BigEndian.AppendUint32(out, w)
	}
	out = append(out, message...)
	for len(out)%4 != 0 {
		out = append(out, 0)
	}
	return binary.BigEndian.AppendUint32(out, 2), nil
}

const maxMessage = 512

// clean makes a text of a host fit to be shown: printable, on one line, at most
// limit bytes.
func clean(s string, limit int) string {
	var out strings.Builder
	for _, c := range s {
		if c == utf8.RuneError || !unicode.IsPrint(c) {
			c = '?'
		}
		if out.Len()+utf8.RuneLen(c) > limit-len("…") {
			out.WriteString("…")
			break
		}
		out.WriteRune(c)
	}
	return out.String()
}
