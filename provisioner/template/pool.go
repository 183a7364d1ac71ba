package template

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/vagoth/vagoth/manager/component"
)

// pool is a network ready to hand out addresses. It never changes: what is
// handed out is what the registry says.
type pool struct {
	name    string
	cidr    netip.Prefix
	gateway netip.Addr // invalid if there is none
	vlan    int
	bridge  string
	never   []span // reserved, the gateway, the network's own addresses
	free    []span // what can be handed out, in order, apart
	size    uint64 // how many that are; at most maxPool are counted
	prefix  string // with which the keys of all its addresses begin
}

// maxPool is more addresses than anybody hands out.
const maxPool = 1 << 62

func newPool(name string, n Network) (*pool, error) {
	var errs []error
	fault := func(key, format string, args ...any) {
		errs = append(errs, &component.KeyError{Key: key, Reason: fmt.Sprintf(format, args...)})
	}
	p := &pool{name: name, vlan: n.VLAN, bridge: n.Bridge}
	var err error
	if p.cidr, err = netip.ParsePrefix(n.CIDR); err != nil || p.cidr.Addr().Is4In6() {
		fault("cidr", "%.64q is not a network such as 192.0.2.0/24 or 2001:db8::/64", n.CIDR)
		return nil, errors.Join(errs...)
	}
	if p.cidr.Masked() != p.cidr {
		fault("cidr", "%s is an address in the network %s: write the network", p.cidr, p.cidr.Masked())
		return nil, errors.Join(errs...)
	}
	all := span{p.cidr.Addr(), lastOf(p.cidr)}
	if host := p.cidr.Addr().BitLen() - p.cidr.Bits(); host > 1 {
		p.never = append(p.never, span{all.first, all.first})
		if p.cidr.Addr().Is4() {
			p.never = append(p.never, span{all.last, all.last})
		}
	}
	inside := func(key, text string) (span, bool) {
		s, err := parseSpan(text)
		switch {
		case err != nil:
			fault(key, "%v", err)
		case !p.cidr.Contains(s.first) || !p.cidr.Contains(s.last):
			fault(key, "%.80q is not inside of %s", text, p.cidr)
		default:
			return s, true
		}
		return span{}, false
	}
	if n.Gateway != "" {
		if s, ok := inside("gateway", n.Gateway); ok {
			if s.first != s.last {
				fault("gateway", "%.80q is not one address", n.Gateway)
			}
			p.gateway = s.first
			p.never = append(p.never, s)
		}
	}
	for _, r := range n.Reserved {
		if s, ok := inside("reserved", r); ok {
			p.never = append(p.never, s)
		}
	}
	var ranges []span
	for _, r := range n.Range {
		s, ok := inside("range", r)
		if !ok {
			continue
		}
		for _, other := range ranges {
			if !s.last.Less(other.first) && !other.last.Less(s.first) {
				fault("range", "%.80q overlaps %s-%s", r, other.first, other.last)
			}
		}
		ranges = append(ranges, s)
	}
	if n.Range == nil {
		ranges = []span{all}
	}
	p.free = without(ranges, p.never)
	for _, s := range p.free {
		p.size = min(p.size+s.len(), maxPool)
	}
	if len(errs) == 0 && p.size == 0 {
		fault("range", "nothing is left to hand out of it")
	}
	p.prefix = keyPrefix(all)
	return p, errors.Join(errs...)
}

// without takes the holes out of the spans and orders what is left.
func without(spans, holes []span) []span {
	for _, h := range holes {
		var left []span
		for _, s := range spans {
			if s.last.Less(h.first) || h.last.Less(s.first) {
				left = append(left, s)
				continue
			}
			if s.first.Less(h.first) {
				left = append(left, span{s.first, h.first.Prev()})
			}
			if h.last.Less(s.last) {
				left = append(left, span{h.last.Next(), s.last})
			}
		}
		spans = left
	}
	slices.SortFunc(spans, func(a, b span) int { return a.first.Compare(b.first) })
	return spans
}

// number splits an address in the halves of 128 bits.
func number(a netip.Addr) (high, low uint64) {
	b := a.As16()
	return binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
}

// distance is b-a, at most maxPool.
func distance(a, b netip.Addr) uint64 {
	ah, al := number(a)
	bh, bl := number(b)
	if bl >= al && bh == ah || bl < al && bh == ah+1 {
		return min(bl-al, maxPool)
	}
	return maxPool
}

func (s span) len() uint64 { return min(distance(s.first, s.last)+1, maxPool) }

// at is the address n behind a.
func at(a netip.Addr, n uint64) netip.Addr {
	b := a.As16()
	high, low := number(a)
	if low > math.MaxUint64-n {
		high++
	}
	binary.BigEndian.PutUint64(b[:8], high)
	binary.BigEndian.PutUint64(b[8:], low+n)
	sum := netip.AddrFrom16(b)
	if a.Is4() {
		return sum.Unmap()
	}
	return sum
}

// address is the i-th that can be handed out, counting from 0.
func (p *pool) address(i uint64) netip.Addr {
	for _, s := range p.free {
		if n := s.len(); i >= n {
			i -= n
			continue
		}
		return at(s.first, i)
	}
	return netip.Addr{}
}

// index is the place of an address among those that can be handed out.
func (p *pool) index(a netip.Addr) (uint64, bool) {
	before := uint64(0)
	for _, s := range p.free {
		if a.Compare(s.first) >= 0 && a.Compare(s.last) <= 0 {
			i := before + distance(s.first, a)
			return i, i < p.size
		}
		before += s.len()
	}
	return 0, false
}

// refuses returns why somebody cannot have the address that he asks for.
func (p *pool) refuses(a netip.Addr) error {
	if !p.cidr.Contains(a) {
		return fmt.Errorf("%s is not in the network %s, which is %s", a, p.name, p.cidr)
	}
	if a == p.gateway {
		return fmt.Errorf("%s is the gateway of the network %s", a, p.name)
	}
	for _, s := range p.never {
		if a.Compare(s.first) >= 0 && a.Compare(s.last) <= 0 {
			return fmt.Errorf("%s is reserved in the network %s", a, p.name)
		}
	}
	return nil
}

func (p *pool) netmask() string {
	mask := net.CIDRMask(p.cidr.Bits(), p.cidr.Addr().BitLen())
	a, _ := netip.AddrFromSlice(mask)
	return a.String()
}

func addressKey(a netip.Addr) string { return "ip-" + a.String() }

// keyPrefix is what the keys of all addresses of a span have in common, as far
// as it can be told before an IPv6 address is shortened.
func keyPrefix(s span) string {
	var b strings.Builder
	b.WriteString("ip-")
	first, last := s.first.AsSlice(), s.last.AsSlice()
	if s.first.Is4() {
		for i := range 3 {
			if first[i] != last[i] {
				break
			}
			b.WriteString(strconv.Itoa(int(first[i])) + ".")
		}
		return b.String()
	}
	for i := 0; i < 14; i += 2 {
		f, l := binary.BigEndian.Uint16(first[i:]), binary.BigEndian.Uint16(last[i:])
		if f != l || f == 0 {
			break
		}
		b.WriteString(strconv.FormatUint(uint64(f), 16) + ":")
	}
	return b.String()
}
