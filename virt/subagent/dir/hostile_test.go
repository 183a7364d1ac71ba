package dir_test

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/dir"
	"github.com/vagoth/vagoth/virt/subagent/storetest"
)

func TestImagesThatAreNotTaken(t *testing.T) {
	b := newBench(t)
	in := func(name string) string { return filepath.Join(b.web, name) }
	secret := in("secret")
	if err := os.WriteFile(secret, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	b.image("good", "qcow2", 1, 'g')
	b.tool("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", secret, in("backing"))
	b.tool("qemu-img", "create", "-q", "-f", "qcow2", "-o", "data_file="+secret, in("datafile"), "1M")
	b.tool("qemu-img", "create", "-q", "-f", "qcow2", in("huge"), "17T")
	b.tool("qemu-img", "create", "-q", "-f", "vmdk", in("vmdk"), "1M")
	b.tool("qemu-img", "create", "-q", "-f", "vdi", in("vdi"), "1M")
	b.tool("qemu-img", "create", "-q", "-f", "vhdx", in("vhdx"), "1M")
	good, err := os.ReadFile(in("good"))
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func([]byte) []byte{
		"crypt":     func(d []byte) []byte { binary.BigEndian.PutUint32(d[32:], 1); return d },
		"version":   func(d []byte) []byte { binary.BigEndian.PutUint32(d[4:], 9); return d },
		"header":    func(d []byte) []byte { return d[:60] },
		"far":       func(d []byte) []byte { binary.BigEndian.PutUint64(d[8:], 1<<40); d[19] = 7; return d },
		"long":      func(d []byte) []byte { binary.BigEndian.PutUint64(d[8:], 200); d[16] = 0x7f; return d },
		"dataflag":  func(d []byte) []byte { d[79] |= 4; return d },
		"cut":       func(d []byte) []byte { return d[:len(d)/3] },
		"nonsense":  func(d []byte) []byte { copy(d[36:], strings.Repeat("\xff", 30)); return d },
		"text.vmdk": func([]byte) []byte { return []byte("# Disk DescriptorFile\nRW 2048 FLAT \"/etc/passwd\" 0\n") },
		"stream":    func([]byte) []byte { return append(make([]byte, 8), 0xac, 0xcb, 0xba, 0xf5, 0, 0, 0, 0) },
	} {
		if err := os.WriteFile(in(name), change(slices.Clone(good)), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	before := b.all()
	for _, name := range []string{"backing", "datafile", "huge", "vmdk", "vdi", "vhdx", "crypt", "version", "header", "far", "long", "dataflag", "cut", "nonsense", "text.vmdk", "stream"} {
		b.argvs = nil
		err := b.fetch("bad", name)
		if !errors.Is(err, virt.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
		if (name == "backing" || name == "datafile" || name == "dataflag" || name == "text.vmdk") && len(b.argvs) > 0 {
			t.Errorf("%s was shown to qemu-img: %q", name, b.argvs)
		}
		if now := b.all(); !slices.Equal(now, before) {
			t.Errorf("%s left %q", name, now)
		}
	}
	if err := b.fetch("good", "good"); err != nil {
		t.Error(err)
	}
	b.refused("another source of the same name", b.fetch("good", "huge"), virt.ErrConflict)
	b.refused("what is not there", b.fetch("none", "none"), virt.ErrNotFound)
	b.tidy()
}

func TestRawDiskWithAHeaderStaysRaw(t *testing.T) {
	b := newBench(t)
	g := b.create(b.guest(mistify.Disk{Size: 1, Format: "raw"}))
	b.image("inside", "qcow2", 1, 'g')
	content, err := os.ReadFile(filepath.Join(b.web, "inside"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(g.Disks[0].Source, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(content[:4096]); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	out, err := b.s.GetVolume(t.Context(), &mistify.VolumeRequest{ID: g.Disks[0].Volume})
	if err != nil || out.Volumes[0].Size != 1 || out.Volumes[0].Device != g.Disks[0].Source {
		t.Errorf("%+v, %v", out, err)
	}
	r := at(g, "", "")
	r.Dest = "x"
	_, err = b.s.CreateSnapshot(t.Context(), r)
	b.refused("a snapshot of a raw disk", err, virt.ErrUnsupported)
	for _, argv := range b.argvs {
		if !slices.Contains(argv, "-f") {
			t.Errorf("qemu-img may guess the format: %q", argv)
		}
	}
}

// TestNamesRunNothing has the names that the suite has: nothing is run for them.
func TestNamesRunNothing(t *testing.T) {
	b := newBench(t)
	for _, bad := range storetest.BadNames() {
		for what, call := range storetest.Calls(t.Context(), b.s, b.guest(), bad, b.url) {
			if err := call(); !errors.Is(err, virt.ErrInvalid) {
				t.Errorf("%s %.20q: %v", what, bad, err)
			}
		}
	}
	if len(b.argvs) > 0 {
		t.Errorf("qemu-img was run: %q", b.argvs)
	}
	for _, bad := range []string{"", filepath.Join(b.dir, "a,b"), filepath.Join(b.dir, "a\nb")} {
		if _, err := dir.Open(t.Context(), dir.Options{Dir: bad}); !errors.Is(err, virt.ErrInvalid) {
			t.Errorf("the directory %q: %v", bad, err)
		}
	}
}

func TestArguments(t *testing.T) {
	b := newBench(t)
	ctx, s := t.Context(), b.s
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	b.image("r", "raw", 1, 'r')
	b.image("q", "qcow2", 1, 'q')
	b.tool("qemu-img", "convert", "-c", "-f", "qcow2", "-O", "qcow2", "q", "packed")
	do(b.fetch("r", "r"))
	do(b.fetch("q", "q"))
	do(b.fetch("packed", "packed"))
	do(b.put("p", "q"))
	do(b.put("n", "packed"))
	do(b.put("m", "r"))
	b.create(b.guest(mistify.Disk{Image: "p", Take: true}))
	b.create(b.guest(mistify.Disk{Image: "n", Take: true, Size: 2}))
	b.create(b.guest(mistify.Disk{Image: "m", Take: true, Size: 2}))
	_, err := s.CreateVolume(ctx, &mistify.VolumeRequest{ID: "v", Size: 2})
	do(err)
	_, err = s.CloneImage(ctx, &mistify.ImageRequest{ID: "r", Dest: "c"})
	do(err)
	g := b.create(b.guest(mistify.Disk{Image: "q", Size: 3}, mistify.Disk{Size: 4, Format: "raw"}, mistify.Disk{Image: "q", Size: 5, Format: "raw"}))
	r := at(g, "0", "")
	r.Dest = "s"
	_, err = s.CreateSnapshot(ctx, r)
	do(err)
	_, err = s.RollbackSnapshot(ctx, at(g, "0", "s"))
	do(err)
	d, err := s.DownloadSnapshot(ctx, at(g, "0", "s"))
	do(err)
	do(d.Close())
	_, err = s.DeleteSnapshot(ctx, at(g, "0", "s"))
	do(err)

	var got []string
	for _, argv := range b.argvs {
		words := make([]string, len(argv))
		for i, word := range argv {
			word = strings.ReplaceAll(word, b.dir, "DIR")
			word = strings.ReplaceAll(word, g.ID, "GUEST")
			for _, folder := range []string{"DIR/half/", "DIR/incoming/.half-"} { // names that nobody knows before
				if rest, ok := strings.CutPrefix(word, folder); ok {
					_, below, _ := strings.Cut(rest, "/")
					word = strings.TrimSuffix(folder+"?/"+below, "/")
				}
			}
			words[i] = word
		}
		got = append(got, fmt.Sprintf("%q", words))
	}
	const disk, info = "DIR/guests/GUEST/disk-0.qcow2", "qemu-img info -U --output=json -f qcow2 -- "
	const inside = " -- driver=qcow2,file.driver=file,file.filename=" + disk
	var want []string
	for _, line := range []string{
		info + "DIR/incoming/.half-?",
		"qemu-img check -q -U -f qcow2 -- DIR/incoming/.half-?",
		info + "DIR/incoming/.half-?",
		"qemu-img check -q -U -f qcow2 -- DIR/incoming/.half-?",
		"qemu-img convert -q -f qcow2 -O qcow2 -- DIR/incoming/.half-? DIR/half/?/image.qcow2",
		info + "DIR/incoming/.half-?", // what was sent
		"qemu-img check -q -U -f qcow2 -- DIR/incoming/.half-?",
		info + "DIR/incoming/.half-?",
		"qemu-img check -q -U -f qcow2 -- DIR/incoming/.half-?",
		"qemu-img convert -q -f qcow2 -O qcow2 -- DIR/incoming/.half-? DIR/half/?/image.qcow2",
		"qemu-img resize -q -f qcow2 -- DIR/half/? 2097152", // what is taken, of the same format and not
		"qemu-img convert -q -f raw -O qcow2 -- DIR/half/?/image.raw DIR/half/?",
		"qemu-img resize -q -f qcow2 -- DIR/half/? 2097152",
		"qemu-img create -q -f qcow2 -- DIR/half/? 2097152",
		"qemu-img create -q -f qcow2 -F raw -b DIR/images/r/image.raw -- DIR/half/? 1048576",
		"qemu-img create -q -f qcow2 -F qcow2 -b DIR/images/q/image.qcow2 -- DIR/half/? 3145728",
		"qemu-img create -q -f raw -- DIR/half/? 4194304",
		"qemu-img convert -q -f qcow2 -O raw -- DIR/images/q/image.qcow2 DIR/half/?",
		"qemu-img resize -q -f raw -- DIR/half/? 5242880",
		info + disk, // what there is
		"qemu-img snapshot -q --image-opts -c snap-s" + inside,
		info + disk, // what there is then
		info + disk,
		"qemu-img snapshot -q --image-opts -a snap-s" + inside,
		info + disk,
		info + disk,
		info + disk, // whether it is still there
		"qemu-img snapshot -q --image-opts -d snap-s" + inside,
	} {
		want = append(want, fmt.Sprintf("%q", strings.Fields(line)))
	}
	if !slices.Equal(got, want) {
		t.Errorf("the runs are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	b.tidy()
}
