package template

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
)

// pools hands out addresses. It keeps no state: what is in use is what the
// registry's keys say.
type pools struct {
	byName map[string]*pool
	names  []string // ordered
	mac    []byte   // the first octets
}

// nic is one entry of a definition's nics, as the JSON object that it is.
type nic map[string]any

func (n nic) text(member string) string {
	s, _ := n[member].(string)
	return s
}

// nics returns the NICs of a definition; none if it has another form.
func nics(m map[string]any) []nic {
	list, _ := m["nics"].([]any)
	found := make([]nic, 0, len(list))
	for _, e := range list {
		n, ok := e.(map[string]any)
		if !ok {
			return nil
		}
		found = append(found, n)
	}
	return found
}

func nicsOf(doc registry.Document) []nic {
	if !strings.Contains(doc.String(), `"nics"`) {
		return nil
	}
	m, err := doc.Map()
	if err != nil {
		return nil
	}
	return nics(m)
}

// of is the pool of a NIC, or nil if its network is none of ours. A NIC on a
// bridge belongs to the network that joins it there.
func (p *pools) of(n nic) *pool {
	name := n.text("network")
	switch n.text("type") {
	case "", "network":
		if name == "" {
			name = "default"
		}
		return p.byName[name]
	case "bridge":
		if found := p.byName[name]; found != nil {
			return found
		}
		address, _ := netip.ParseAddr(n.text("address"))
		for _, name := range p.names {
			found := p.byName[name]
			if found.bridge != "" && found.bridge == n.text("network") && (!address.IsValid() || found.cidr.Contains(address)) {
				return found
			}
		}
	}
	return nil
}

// assignment is a definition with addresses.
type assignment struct {
	definition registry.Document
	picked     []string // the keys that were handed out, not asked for
	problems   []string
}

// assign gives every NIC on one of our networks the addresses that it lacks.
// What a NIC had on the same network in the old definition it keeps. r answers
// which keys are free; in a transaction it guards the answers for the keys that
// are handed out.
func (p *pools) assign(r registry.Reader, id string, definition, old registry.Document) (assignment, error) {
	a := assignment{definition: definition}
	if len(p.byName) == 0 || !strings.Contains(definition.String(), `"nics"`) {
		return a, nil
	}
	m, err := definition.Map()
	if err != nil {
		return a, err
	}
	before := nicsOf(old)
	taken := map[string]bool{} // by this node, which the registry does not know yet
	list := nics(m)
	for _, n := range list {
		for _, key := range []string{claimed("ip-", n.text("address")), claimed("mac-", n.text("mac"))} {
			taken[key] = true
		}
	}
	for i, n := range list {
		pool := p.of(n)
		if pool == nil {
			continue
		}
		if i < len(before) && p.of(before[i]) == pool {
			inherit(n, before[i], pool, taken)
		}
		if err := p.assignOne(r, id, i, n, pool, taken, &a); err != nil {
			return a, err
		}
		if pool.bridge != "" && n.text("type") != "bridge" {
			n["type"], n["network"] = "bridge", pool.bridge
		}
		if _, ok := n["vlans"]; !ok && pool.vlan != 0 {
			n["vlans"] = []int{pool.vlan}
		}
	}
	a.definition, err = registry.NewDocument(m)
	return a, err
}

// inherit keeps what a NIC had.
func inherit(n, before nic, pool *pool, taken map[string]bool) {
	if old, err := parseAddr(before.text("address")); err == nil && n.text("address") == "" && pool.refuses(old) == nil && !taken[addressKey(old)] {
		n["address"] = old.String()
		taken[addressKey(old)] = true
	}
	if key := claimed("mac-", before.text("mac")); n.text("mac") == "" && key != "" && !taken[key] {
		n["mac"] = before.text("mac")
		taken[key] = true
	}
}

func (p *pools) assignOne(r registry.Reader, id string, i int, n nic, pool *pool, taken map[string]bool, a *assignment) error {
	if n.text("address") == "" {
		addr, err := pool.pick(r, id, i, taken)
		if err != nil {
			return err
		}
		n["address"] = addr.String()
		taken[addressKey(addr)] = true
		a.picked = append(a.picked, addressKey(addr))
	} else if addr, err := parseAddr(n.text("address")); err == nil { // what is none is found when the definition is checked
		if err := pool.refuses(addr); err != nil {
			a.problems = append(a.problems, fmt.Sprintf("definition: nics[%d].address: %v", i, err))
		}
	}
	if n.text("netmask") == "" {
		n["netmask"] = pool.netmask()
	}
	if n.text("gateway") == "" && pool.gateway.IsValid() {
		n["gateway"] = pool.gateway.String()
	}
	if n.text("mac") == "" {
		mac, err := p.pickMAC(r, id, i, taken)
		if err != nil {
			return err
		}
		n["mac"] = mac
		taken["mac-"+mac] = true
		a.picked = append(a.picked, "mac-"+mac)
	}
	return nil
}

// claimed is the key of an address as it is written, or "".
func claimed(prefix, text string) string {
	if prefix == "mac-" {
		if mac, err := net.ParseMAC(text); err == nil && len(mac) == 6 {
			return prefix + mac.String()
		}
		return ""
	}
	if a, err := parseAddr(text); err == nil {
		return addressKey(a)
	}
	return ""
}

// keys are what the NICs on our networks claim, for classes that do not derive
// them.
func (p *pools) keys(definition registry.Document) []string {
	var keys []string
	for _, n := range nicsOf(definition) {
		if p.of(n) == nil {
			continue
		}
		for _, key := range []string{claimed("ip-", n.text("address")), claimed("mac-", n.text("mac"))} {
			if key != "" {
				keys = append(keys, key)
			}
		}
	}
	return keys
}

// guesses is how many addresses are tried before the pool is looked through. In
// a pool that is nine tenths full they fail one time in thirty.
const guesses = 32

// pick finds a free address. It begins at a hash of the node and tries others
// that follow from it, so that nodes that come at once do not race for the same
// one; only when all of them are taken does it look for a gap.
func (p *pool) pick(r registry.Reader, id string, nic int, taken map[string]bool) (netip.Addr, error) {
	try := func(i uint64) (netip.Addr, bool, error) {
		a := p.address(i)
		if taken[addressKey(a)] {
			return a, false, nil
		}
		free, err := available(r, addressKey(a), id)
		return a, free, err
	}
	start := hash(id, p.name, nic, 0) % p.size
	for n := range guesses {
		a, free, err := try(hash(id, p.name, nic, n) % p.size)
		if free || err != nil {
			return a, err
		}
	}
	used, err := p.used(r, id, taken)
	if err != nil {
		return netip.Addr{}, err
	}
	for {
		if uint64(len(used)) >= p.size {
			return netip.Addr{}, &provisioner.ExhaustedError{Pool: "network " + p.name, Size: p.size, Used: uint64(len(used))}
		}
		i := gap(used, start, p.size)
		a, free, err := try(i)
		if free || err != nil {
			return a, err
		}
		// Somebody has it after all, such as a node with such a name.
		at, _ := slices.BinarySearch(used, i)
		used = slices.Insert(used, at, i)
	}
}

// used lists the addresses of the pool that have an owner, in order. The list
// is no promise: what is picked by it is asked for again.
func (p *pool) used(r registry.Reader, id string, taken map[string]bool) ([]uint64, error) {
	var used []uint64
	add := func(key string) {
		if a, err := netip.ParseAddr(strings.TrimPrefix(key, "ip-")); err == nil {
			if i, ok := p.index(a); ok {
				used = append(used, i)
			}
		}
	}
	for k, err := range r.Keys(p.prefix, p.prefix) {
		if err != nil {
			return nil, err
		}
		if k.Owner != id {
			add(k.Key)
		}
	}
	for key := range taken {
		if strings.HasPrefix(key, "ip-") {
			add(key)
		}
	}
	slices.Sort(used)
	return slices.Compact(used), nil
}

// gap is the first number from start on, below size and round again, that is
// not in used, which is ordered and shorter than size.
func gap(used []uint64, start, size uint64) uint64 {
	at, _ := slices.BinarySearch(used, start)
	i := start
	for at < len(used) && used[at] == i {
		i++
		at++
	}
	if i < size {
		return i
	}
	i = 0
	for i < uint64(len(used)) && used[i] == i {
		i++
	}
	return i
}

// pickMAC finds a free MAC address.
func (p *pools) pickMAC(r registry.Reader, id string, nic int, taken map[string]bool) (string, error) {
	space := uint64(1) << (8 * (6 - len(p.mac)))
	start := hash(id, "mac", nic, 0)
	const walk = 1 << 16
	for n := range uint64(guesses + walk) {
		number := start + n // after the guesses, one by one
		if n < guesses {
			number = hash(id, "mac", nic, int(n))
		}
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], number%space)
		mac := net.HardwareAddr(slices.Concat(p.mac, b[2+len(p.mac):])).String()
		if taken["mac-"+mac] {
			continue
		}
		free, err := available(r, "mac-"+mac, id)
		if free || err != nil {
			return mac, err
		}
	}
	return "", &provisioner.ExhaustedError{Pool: "the range of MAC addresses " + net.HardwareAddr(p.mac).String(), Size: space, Used: min(space, walk)}
}

// available reports whether nobody but id has the key, as a key, a name or an ID.
func available(r registry.Reader, key, id string) (bool, error) {
	n, err := registry.Find(r, key)
	if errors.Is(err, registry.ErrNotFound) {
		return true, nil
	}
	return err == nil && n.ID() == id, err
}

func hash(id, what string, nic, attempt int) uint64 {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%s\x00%d\x00%d", id, what, nic, attempt))
	return binary.BigEndian.Uint64(sum[:])
}
