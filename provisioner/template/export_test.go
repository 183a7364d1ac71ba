package template

import (
	"net/netip"
	"testing"
)

// PoolOf gives the size of a network's pool, its addresses and their places.
func PoolOf(t testing.TB, n Network) (size uint64, at func(uint64) (netip.Addr, uint64)) {
	p, err := newPool("x", n)
	if err != nil {
		t.Fatal(err)
	}
	return p.size, func(i uint64) (netip.Addr, uint64) {
		a := p.address(i)
		back, _ := p.index(a)
		return a, back
	}
}
