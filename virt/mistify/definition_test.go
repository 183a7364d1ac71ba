package mistify

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"slices"
	"testing"

	"github.com/google/uuid"
	"pgregory.net/rapid"

	"github.com/vagoth/vagoth/virt"
)

// fill gives every field of a struct a value of its own, so that one that is
// forgotten on the way is missed.
func fill(t *testing.T, v reflect.Value, n *int) {
	t.Helper()
	*n++
	switch v.Kind() {
	case reflect.String:
		v.SetString("text-" + string(rune('a'+*n%26)) + string(rune('a'+*n/26)))
	case reflect.Int, reflect.Int64:
		v.SetInt(int64(*n))
	case reflect.Bool:
		v.SetBool(true)
	case reflect.Slice:
		v.Set(reflect.MakeSlice(v.Type(), 2, 2))
		for i := range v.Len() {
			fill(t, v.Index(i), n)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			fill(t, v.Field(i), n)
		}
	default:
		t.Fatalf("a definition has a %s: teach the test", v.Type())
	}
}

func TestEveryFieldOfADefinitionIsOnTheWire(t *testing.T) {
	var d virt.Definition
	n := 0
	fill(t, reflect.ValueOf(&d).Elem(), &n)
	d.UUID, d.Type, d.Placement = uuid.NewString(), "vm", virt.Placement{}
	for i := range d.NICs {
		d.NICs[i].MAC, d.NICs[i].Address = "52:00:00:00:00:0"+string(rune('1'+i)), "10.0.0."+string(rune('1'+i))
	}
	want := virt.Guest{ID: "web1", UUID: d.UUID, Name: "web", Tenant: "acme", Definition: d}
	if got := there(t, want); !reflect.DeepEqual(got, want) {
		t.Errorf("there and back it is\n%+v, it was\n%+v", got, want)
	}
	// The placement alone stays at home, and makes no difference to the host.
	placed := want
	placed.Definition.Placement.Require = []string{"ssd"}
	if got := there(t, placed); !reflect.DeepEqual(got, want) {
		t.Errorf("with a placement it is\n%+v, want\n%+v", got, want)
	}
}

// there writes a guest to JSON of the wire and reads it again.
func there(t interface{ Fatal(...any) }, v virt.Guest) virt.Guest {
	g, err := GuestFrom(v)
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	var back Guest
	if err := Decode(data, &back); err != nil {
		t.Fatal(err)
	}
	got, err := back.Virt()
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestDefinitionsRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`[a-z][a-z0-9]{0,7}`)
		d := virt.Definition{CPU: rapid.IntRange(1, 1024).Draw(t, "cpu"), Memory: rapid.IntRange(1, 1<<26).Draw(t, "memory"),
			Type: rapid.SampledFrom([]string{"vm", "container"}).Draw(t, "type"), Image: rapid.SampledFrom([]string{"", "debian"}).Draw(t, "image")}
		for i := range rapid.IntRange(0, 4).Draw(t, "disks") {
			disk := virt.Disk{Bus: rapid.SampledFrom([]string{"", "virtio", "scsi", "ide"}).Draw(t, "bus"), Size: rapid.Int64Range(1, 1<<40).Draw(t, "size")}
			if rapid.Bool().Draw(t, "source") {
				disk.Source = "/srv/" + word.Draw(t, "path") + string(rune('a'+i))
			}
			d.Disks = append(d.Disks, disk)
		}
		for range rapid.IntRange(0, 3).Draw(t, "nics") {
			nic := virt.NIC{Type: rapid.SampledFrom([]string{"", "bridge", "user"}).Draw(t, "nic")}
			if nic.Type == "user" {
				nic.Forward = []virt.Forward{{Port: rapid.IntRange(1, 65535).Draw(t, "port"), To: 22}}
			}
			d.NICs = append(d.NICs, nic)
		}
		id := word.Draw(t, "id")
		d = virt.Filled(id, d)
		want := virt.Guest{ID: id, UUID: d.UUID, Name: word.Draw(t, "name"), Tenant: word.Draw(t, "tenant"), Definition: d}
		if got := there(t, want); !reflect.DeepEqual(got, want) {
			t.Fatalf("there and back it is\n%+v, it was\n%+v", got, want)
		}
	})
}

func TestDigest(t *testing.T) {
	a := virt.Guest{ID: "a", UUID: uuid.NewString(), Name: "a", Definition: virt.Definition{CPU: 1, Memory: 1}}
	b := a
	b.Definition.Memory++
	da, errA := Digest(a)
	db, errB := Digest(b)
	again, errC := Digest(a)
	if err := errors.Join(errA, errB, errC); err != nil {
		t.Fatal(err)
	}
	if da == db || da != again {
		t.Errorf("digests %s and %s, again %s", da, db, again)
	}
	a.Definition.Placement.Require = []string{"ssd"}
	if placed, err := Digest(a); err != nil || placed != da {
		t.Errorf("with a placement the digest is %s (%v), want %s", placed, err, da)
	}
}

func TestWhatTheWireCannotSay(t *testing.T) {
	ok := virt.Guest{ID: "a", UUID: uuid.NewString(), Name: "a", Definition: virt.Definition{CPU: 1, Memory: 1}}
	for name, c := range map[string]struct {
		change func(*virt.Guest)
		want   error
	}{
		"too many disks":    {func(g *virt.Guest) { g.Definition.Disks = make([]virt.Disk, MaxDisks+1) }, virt.ErrUnsupported},
		"too many nics":     {func(g *virt.Guest) { g.Definition.NICs = make([]virt.NIC, MaxNICs+1) }, virt.ErrUnsupported},
		"negative memory":   {func(g *virt.Guest) { g.Definition.Memory = -1 }, virt.ErrInvalid},
		"negative size":     {func(g *virt.Guest) { g.Definition.Disks = []virt.Disk{{Size: -1}} }, virt.ErrInvalid},
		"no uuid":           {func(g *virt.Guest) { g.UUID = "../x" }, virt.ErrInvalid},
		"a line in a name":  {func(g *virt.Guest) { g.Name = "a\nb" }, virt.ErrInvalid},
		"a line in a cmd":   {func(g *virt.Guest) { g.Definition.Boot.Cmdline = "a\nb" }, virt.ErrInvalid},
		"a type of its own": {func(g *virt.Guest) { g.Definition.Type = "../x" }, virt.ErrInvalid},
	} {
		t.Run(name, func(t *testing.T) {
			g := ok
			c.change(&g)
			if _, err := GuestFrom(g); !errors.Is(err, c.want) {
				t.Errorf("got error %v, want one that is %q", err, c.want)
			}
		})
	}
	for name, g := range map[string]Guest{
		"cpu":    {ID: ok.UUID, CPU: math.MaxUint},
		"memory": {ID: ok.UUID, Memory: math.MaxUint},
		"size":   {ID: ok.UUID, Disks: []Disk{{Size: math.MaxUint64}}},
		"id":     {ID: "x"},
	} {
		if _, err := g.Virt(); !errors.Is(err, virt.ErrInvalid) {
			t.Errorf("a guest with a huge %s: got error %v, want one that is ErrInvalid", name, err)
		}
	}
	// One of a plain Mistify client has neither names nor devices.
	v, err := (&Guest{ID: ok.UUID, Type: "kvm", CPU: 1, Memory: 64, Disks: []Disk{{Size: 1}, {Size: 2}}}).Virt()
	if err != nil || v.ID != ok.UUID || v.Name != ok.UUID || v.Definition.Type != "vm" {
		t.Fatalf("a plain guest is %+v (%v)", v, err)
	}
	var volumes []string
	for _, d := range v.Definition.Disks {
		volumes = append(volumes, d.Volume)
	}
	if want := []string{ok.UUID + "-disk-0", ok.UUID + "-disk-1"}; !slices.Equal(volumes, want) {
		t.Errorf("its volumes are %v, want %v", volumes, want)
	}
}
