package mistify

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
)

func TestNames(t *testing.T) {
	long := func(n int) string { return strings.Repeat("a", n) }
	guest := func(s string) error { _, err := ParseGuestID(s); return err }
	job := func(s string) error { _, err := ParseJobID(s); return err }
	snapshot := func(s string) error { _, err := ParseSnapshotID(s); return err }
	image := func(s string) error { return CheckImageID("", s) }
	container := func(s string) error { return CheckImageID(TypeContainer, s) }
	bad := []string{"", " ", "a b", "a\n", "../x", "..", ".", "-rf", "a;b", "$(x)", "a\x00", "ä", "a%2fb", "a\\b", "'", `"`, "a..b"}
	for _, x := range []struct {
		what  string
		check func(string) error
		good  []string
		bad   []string
	}{
		{"guest", guest, []string{guestID, strings.ToUpper(guestID)}, append(bad, "a", guestID[:35], guestID+"0", "{"+guestID+"}", "urn:uuid:"+guestID, strings.ReplaceAll(guestID, "-", "_"), "g"+guestID[1:])},
		{"job", job, []string{guestID}, bad},
		{"disk", CheckDiskID, []string{"0", "12", "vda", "disk_1-a", long(32)}, append(bad, long(33), "a/b", "a@b", "a.b")},
		{"snapshot name", CheckSnapshotName, []string{"a", "snap-1422940000", "2015-02-03T04:05:06", "a.b_c", long(128)}, append(bad, long(129), "a/b", "a@b")},
		{"image", image, []string{"289120e4-ed12-431d-8d18-48f8a94bb05a", "busybox:1.36", "sha256:ab", "a@b", long(255)}, append(bad, long(256), "a/b")},
		{"container image", container, []string{"library/busybox:1.36", "registry.example:5000/a/b@sha256:cd"}, append(bad, long(256), "a//b", "/a", "a/", "a/../b", "a/./b", "a/-b")},
		{"type", CheckType, []string{"", "vm", "container"}, append(bad[1:], long(33))},
		{"method", CheckMethod, []string{"Libvirt.Create", "A.b_1"}, append(bad, "A", "A.", ".b", "A.b.c", "A."+long(65))},
		{"path", CheckPath, []string{RPCPath, "/snapshots/download", "/a.b"}, append(bad, "/", "//a", "/a/", "/../a", "/a/./b", "/a?b", "/a#b", "/a%2fb", "/"+long(255))},
		{"metadata key", CheckMetadataKey, []string{"a", "user-data", "a b", "schlüssel", "a/b", long(256)}, []string{"", "a\n", "a\x00", "\xff", long(257)}},
		{"snapshot", snapshot, []string{"guests/" + guestID, "guests/" + guestID + "/disk-0", "guests/" + guestID + "@a", "guests/" + guestID + "/disk-vda@a"},
			append(bad, guestID, "guests/", "guests/x", "guests/"+guestID+"/", "guests/"+guestID+"/disk-", "guests/"+guestID+"@", "guests/"+guestID+"@a@b", "guests/"+guestID+"/disk-0/disk-1", "guests/"+guestID+"/../x")},
	} {
		for _, s := range x.good {
			if err := x.check(s); err != nil {
				t.Errorf("%s %q: %v", x.what, s, err)
			}
		}
		for _, s := range x.bad {
			var name *NameError
			if err := x.check(s); !errors.Is(err, virt.ErrInvalid) || !errors.As(err, &name) || len(err.Error()) > 1000 {
				t.Errorf("%s %q: error %v, want a NameError", x.what, s, err)
			}
		}
	}
	if id, _ := ParseGuestID(strings.ToUpper(guestID)); id != guestID {
		t.Errorf("two spellings are two guests: %s", id)
	}
}

func TestActions(t *testing.T) {
	seen := map[string]Action{}
	for _, a := range Actions() {
		if _, twice := seen[a.Name]; twice || a.Help == "" || a.Base == "" {
			t.Errorf("%+v stands twice, or is not whole", a)
		}
		seen[a.Name] = a
		if got, err := ParseAction(a.Name); err != nil || got != a {
			t.Errorf("%s is looked up as %+v, %v", a.Name, got, err)
		}
		kind := ""
		if a.Container {
			kind = TypeContainer
		}
		if got := ActionFor(kind, a.Base); got != a.Name {
			t.Errorf("%s of a %q is %s, not %s", a.Base, kind, got, a.Name)
		}
	}
	// The whole of Mistify's table, and the additions.
	for text, kind := range map[string]ActionType{
		"create containerCreate delete containerDelete containerStart reboot containerReboot restart containerRestart poweroff containerPoweroff " +
			"shutdown containerShutdown run deleteImage containerDeleteImage fetchImage containerFetchImage createSnapshot deleteSnapshot rollbackSnapshot": Async,
		"cpuMetrics nicMetrics diskMetrics listImages containerListImages getImage containerGetImage listSnapshots getSnapshot": Info,
		"downloadSnapshot console":                     Stream,
		"define undefine resume start suspend migrate": Async,
		"status typeConsole":                           Info,
		"putImage":                                     Upload,
	} {
		for _, name := range strings.Fields(text) {
			a := seen[name]
			if a.Type != kind {
				t.Errorf("%s is %q, want %q", name, a.Type, kind)
			}
			if want := slices.Contains([]string{"define", "undefine", "resume", "start", "suspend", "migrate", "status", "console", "typeConsole", "putImage"}, name); a.Addition != want {
				t.Errorf("%s: addition %v", name, a.Addition)
			}
		}
	}
	for given, want := range map[string]string{
		"cpuMetric": `did you mean "cpuMetrics"?`, "Create": `did you mean "create"?`, "pullContainerImage": "there is no action",
		"": "there is no action", strings.Repeat("x", 1<<20): "there is no action", "containercreate": `did you mean "containerCreate"?`,
	} {
		if _, err := ParseAction(given); !errors.Is(err, virt.ErrInvalid) || !strings.Contains(err.Error(), want) || len(err.Error()) > 200 {
			t.Errorf("%.40q: %v, want %q", given, err, want)
		}
	}
	// What is done to a container never becomes what is done to a VM, nor the other way.
	for _, a := range Actions() {
		if name := ActionFor(TypeContainer, a.Name); seen[name].Name == "" {
			t.Errorf("%s of a container is %s, which there is not", a.Name, name)
		}
		for _, kind := range []string{"", "vm", "zone"} {
			if ActionFor(kind, a.Name) != a.Name {
				t.Errorf("%s of a %q is %s", a.Name, kind, ActionFor(kind, a.Name))
			}
		}
		if !a.Container && a.On == OnGuest && !seen[ActionFor(TypeContainer, a.Name)].Container {
			t.Errorf("%s of a container is no container's action", a.Name)
		}
	}
}

func TestErrorKinds(t *testing.T) {
	for _, k := range kinds() {
		if KindOf(fmt.Errorf("x: %w", k.err)) != k.kind || k.kind.Err() != k.err || k.kind.Status() != k.status { //nolint:errorlint // the very one
			t.Errorf("%s is not the same there and back", k.kind)
		}
	}
	if KindOf(errors.New("x")) != "" || ErrorKind("x").Err() != nil || ErrorKind("").Status() != 500 {
		t.Error("an error of no kind has one")
	}
}

// Every trail that may be is the same when it arrives.
func TestTrail(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.StringOfN(rapid.RuneFrom([]rune("aZ9 %/ä\u00a0😀\"'+&=?#\\")), 0, 40, -1)
		want := trail.Trail{
			Transaction: text.Draw(t, "transaction"), Source: text.Draw(t, "source"), Reason: text.Draw(t, "reason"), Job: rapid.StringMatching(`[a-z0-9-]{0,40}`).Draw(t, "job"),
			Attempt: rapid.IntRange(0, 1<<30).Draw(t, "attempt"),
			Token:   trail.Token{Epoch: rapid.Uint64().Draw(t, "epoch"), Number: rapid.Uint64().Draw(t, "number")},
		}
		h := http.Header{}
		SetTrail(h, want)
		if got, err := TrailOf(h); err != nil || got != want {
			t.Fatalf("%+v became %+v, %v", want, got, err)
		}
		for name := range h {
			if http.CanonicalHeaderKey(name) != name {
				t.Fatalf("the header %s is not written as net/http writes it", name)
			}
		}
	})
	for _, x := range []string{"", "1", "1.", ".1", "1.2.3", "-1.2", "1.-2", "a.b", "1 .2", "99999999999999999999.1", "1." + strings.Repeat("0", 100) + "1"} {
		if _, err := ParseToken(x); err == nil {
			t.Errorf("%q is a token", x)
		}
	}
}

func TestMetadata(t *testing.T) {
	a, empty := "a", ""
	old := map[string]string{"keep": "1", "drop": "2", "null": "3"}
	got, err := MetadataPatch{"drop": &empty, "null": nil, "new": &a, "none": nil}.Apply(old)
	if err != nil || fmt.Sprint(got) != "map[keep:1 new:a]" || len(old) != 3 {
		t.Errorf("%v, %v; it was %v", got, err, old)
	}
	if got, err := (MetadataPatch{"x": &a}).Apply(nil); err != nil || got["x"] != "a" {
		t.Errorf("of a guest without metadata: %v, %v", got, err)
	}
	many, huge, total := MetadataPatch{}, strings.Repeat("x", MaxMetadataValue+1), strings.Repeat("x", MaxMetadataValue)
	all := MetadataPatch{}
	for i := range MaxMetadata + 1 {
		many[fmt.Sprint(i)] = &a
		if i < 10 {
			all[fmt.Sprint(i)] = &total
		}
	}
	bad := "\xff"
	for name, p := range map[string]MetadataPatch{"many": many, "long": {"a": &huge}, "total": all, "key": {"a\n": &a}, "no text": {"a": &bad}} {
		if _, err := p.Apply(nil); !errors.Is(err, virt.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestGuestValidate(t *testing.T) {
	if err := fullGuest().Validate(); err != nil {
		t.Error(err)
	}
	text := strings.Repeat("x", 5000)
	for want, spoil := range map[string]func(*Guest){
		"guest's id": func(g *Guest) { g.ID = "x" },
		"type":       func(g *Guest) { g.Type = "a b" },
		"disks: 65":  func(g *Guest) { g.Disks = make([]Disk, 65) },
		"nics: 65":   func(g *Guest) { g.NICs = make([]NIC, 65) },
		"disks[0]":   func(g *Guest) { g.Disks[0].Source = "/a\x00b" },
		"nics[0]":    func(g *Guest) { g.NICs[0].Device = text },
		"vlans":      func(g *Guest) { g.NICs[0].VLANs = make([]int, 5000) },
		"forward":    func(g *Guest) { g.NICs[0].Forward = make([]virt.Forward, 300) },
		"cmdline":    func(g *Guest) { g.Boot.Cmdline = text },
		"name":       func(g *Guest) { g.Name = "a\nb" },
		"vnc":        func(g *Guest) { g.VNC = 70000 },
		"metadata":   func(g *Guest) { g.Metadata[""] = "x" },
		"image":      func(g *Guest) { g.Image = "\xff" },
	} {
		g := fullGuest()
		spoil(g)
		if err := g.Validate(); !errors.Is(err, virt.ErrInvalid) || !strings.Contains(err.Error(), want) || len(err.Error()) > 500 {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// What a sub-agent that knows none of our additions answers loses none of them.
func TestCarry(t *testing.T) {
	g := fullGuest()
	old := g.Clone()
	old.Name, old.CDROM, old.Boot, old.Console, old.CloudInit = "", "", virt.Boot{}, virt.Console{}, virt.CloudInit{}
	old.Disks[0].Format, old.NICs[0].Type, old.NICs[0].Forward = "", "", nil
	old.State = "stopped"
	old.Disks = append(old.Disks, Disk{})
	old.Carry(g)
	if old.Name != g.Name || old.CDROM != g.CDROM || old.Boot != g.Boot || old.Console != g.Console || old.CloudInit != g.CloudInit || old.Disks[0] != g.Disks[0] || old.NICs[0].Type != "user" || len(old.NICs[0].Forward) != 1 {
		t.Errorf("it lost something: %+v", old)
	}
	if old.State != "stopped" || len(old.Disks) != 2 {
		t.Errorf("what it said is gone: %+v", old)
	}
	old.NICs[0].Forward[0].Port, old.NICs[0].VLANs[0], old.Metadata["foo"] = 1, 99, "x"
	if g.NICs[0].Forward[0].Port == 1 || g.NICs[0].VLANs[0] == 99 || g.Metadata["foo"] == "x" {
		t.Error("they share something")
	}
	old.Carry(nil)
	if (*Guest)(nil).Clone() != nil {
		t.Error("a copy of nothing is something")
	}
}
