package virt

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/vagoth/vagoth/registry"
)

func node(t testing.TB, d registry.Draft) *registry.Node {
	t.Helper()
	if d.Name == "" {
		d.Name = d.ID
	}
	if err := d.Validate(); err != nil {
		t.Fatal(err)
	}
	return registry.NewNode(d, registry.Stamp{})
}

func TestUUIDOf(t *testing.T) {
	const u = "6f2b3c4d-0000-4000-8000-000000000001"
	for _, c := range []struct{ id, defined, want string }{
		{"web1", strings.ToUpper(u), u},
		{strings.ToUpper(u), "", u},
		{"web1", "", "5c263d8a-2d07-5da5-9c4b-6d4bf0d3e7d2"},
	} {
		got := UUIDOf(c.id, Definition{UUID: c.defined})
		if c.defined == "" && c.id == "web1" {
			if got != UUIDOf("web1", Definition{}) || got == UUIDOf("web2", Definition{}) || len(got) != 36 {
				t.Errorf("the UUID of web1 is %s", got)
			}
			continue
		}
		if got != c.want {
			t.Errorf("UUIDOf(%s, %s) = %s, want %s", c.id, c.defined, got, c.want)
		}
	}
}

func TestFilled(t *testing.T) {
	d := Definition{CPU: 1, Memory: 1,
		Disks: []Disk{{Size: 1}, {Size: 1, Device: "vda", Volume: "web1-disk-0"}, {Bus: "sata", Source: "/x"}},
		NICs:  []NIC{{}, {MAC: "52-54-00-AA-00-01"}, {Type: "user", Forward: []Forward{{Port: 1, To: 2}}}}}
	before := Filled("web1", d)
	f := Filled("web1", d)
	if !reflect.DeepEqual(f, before) {
		t.Fatal("two calls differ")
	}
	if d.Disks[0].Device != "" || d.NICs[2].Forward[0].Protocol != "" {
		t.Fatal("it writes into what it was given")
	}
	devices := []string{f.Disks[0].Device, f.Disks[1].Device, f.Disks[2].Device}
	if want := []string{"vdb", "vda", "sda"}; !slices.Equal(devices, want) {
		t.Errorf("devices %v, want %v", devices, want)
	}
	if f.Disks[0].Volume == "web1-disk-0" || f.Disks[0].Volume == "" || f.Disks[2].Volume != "" || f.Disks[2].Format != "raw" {
		t.Errorf("disks %+v", f.Disks)
	}
	if f.NICs[0].MAC == derivedMAC(f.UUID, 1) || !strings.HasPrefix(f.NICs[0].MAC, "52:") || f.NICs[1].MAC != "52:54:00:aa:00:01" {
		t.Errorf("NICs %+v", f.NICs)
	}
	if f.NICs[2].Network != "" || f.NICs[2].Forward[0].Address != "127.0.0.1" {
		t.Errorf("user-mode NIC %+v", f.NICs[2])
	}
	if letters(25) != "z" || letters(26) != "aa" || letters(63) != "bl" {
		t.Error(letters(25), letters(26), letters(63))
	}
}

func TestReadNodes(t *testing.T) {
	n := node(t, registry.Draft{ID: "web1", Type: TypeVM, Parent: "h1",
		Definition: doc(t, `{"cpu":2,"memory":512,"disks":[{"size":100},{"size":7,"source":"/x"},{"size":11}],"placement":{"require":["ssd","zone=a"],"apart":["app"]}}`),
		Metadata:   doc(t, `{"disks_on":"h1","uuid":"6f2b3c4d-0000-4000-8000-000000000001","evidence":{"at":"2026-01-01T00:00:00Z","host":"h1"}}`)})
	g, err := GuestOf(n)
	if err != nil || g.UUID != "6f2b3c4d-0000-4000-8000-000000000001" || NodeUUID(n) != g.UUID || g.Definition.UUID != g.UUID {
		t.Fatal(g, err)
	}
	req, err := RequestOf(n)
	if err != nil {
		t.Fatal(err)
	}
	if req.Need.CPU != 2 || req.Need.Memory != 512 || req.Need.Disk != 111 || req.Type != "vm" {
		t.Errorf("need %+v", req)
	}
	if c := req.Constraints; !slices.Equal(c.Hosts, []string{"h1"}) || c.Require["ssd"] != nil || *c.Require["zone"] != "a" || len(c.Require) != 2 || c.Apart[0] != "app" {
		t.Errorf("constraints %+v", c)
	}
	if e, ok := EvidenceOf(n); !ok || e.Host != "h1" || e.At.IsZero() {
		t.Error(e, ok)
	}
	h := node(t, registry.Draft{ID: "h1", Type: TypeHypervisor, State: "up", Definition: doc(t, `{"driver":"d","cpu":4}`),
		Metadata: doc(t, `{"capacity_seen":{"cpu":9,"memory":77},"maintenance":{"since":"2026-01-01T00:00:00Z"}}`)})
	if a, ok := AllocatorHost(h); !ok || a.Capacity.CPU != 4 || a.Capacity.Memory != 77 || !a.Maintenance || a.State != "up" || a.Types[0] != "vm" {
		t.Errorf("%+v %v", a, ok)
	}
	if _, ok := AllocatorHost(n); ok {
		t.Error("a VM is a host")
	}
}

func TestVMClassKeys(t *testing.T) {
	c := VMClass()
	keys, err := c.Keys("web1", doc(t, `{"cpu":1,"memory":1,"disks":[{"size":1},{"size":1,"volume":"Data"}],
		"nics":[{"mac":"52-54-00-AA-BB-CC","address":"2001:DB8:0::7"},{"type":"user"}]}`))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"uuid-" + UUIDOf("web1", Definition{}), "mac-52:54:00:aa:bb:cc", "ip-2001:db8::7", "disk-Data"}
	if !slices.Equal(keys, want) {
		t.Errorf("keys %v, want %v", keys, want)
	}
	if _, err := c.Keys("web1", doc(t, `{"cpu":1,"memory":1,"nics":[`+strings.Repeat("{},", 39)+`{}]}`)); !errors.Is(err, ErrInvalid) {
		t.Error("forty keys were accepted:", err)
	}
	busy := node(t, registry.Draft{ID: "web1", Type: TypeVM, Metadata: doc(t, `{"disks_on":"h1"}`)})
	if err := c.Busy(busy); err == nil || !strings.Contains(err.Error(), "h1") || !strings.Contains(err.Error(), "vagoth deprovision web1") {
		t.Error(err)
	}
	for _, col := range append(c.Columns, HypervisorClass().Columns...) {
		if col.Value(busy) == "" {
			t.Errorf("column %s is empty", col.Name)
		}
	}
}

func BenchmarkNeed(b *testing.B) {
	n := node(b, registry.Draft{ID: "web1", Type: TypeVM, Definition: doc(b, `{"cpu":2,"memory":512,"disks":[{"size":100},{"size":11}],"nics":[{"network":"lan"}]}`)})
	for b.Loop() {
		if _, err := Need(n); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkGuestOf(b *testing.B) {
	n := node(b, registry.Draft{ID: "web1", Type: TypeVM, Definition: doc(b, `{"cpu":2,"memory":512,"disks":[{"size":100},{"size":11}],"nics":[{"network":"lan"}]}`)})
	for b.Loop() {
		if _, err := GuestOf(n); err != nil {
			b.Fatal(err)
		}
	}
}
