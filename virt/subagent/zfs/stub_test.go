package zfs_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/storetest"
	"github.com/vagoth/vagoth/virt/subagent/zfs"
)

// stub stands for zfs and zpool in the path: it writes down its arguments and
// says what the files of the test say. It is no test of ZFS, which TestReal is.
const stub = `#!/bin/sh
{ printf '%s' "${0##*/}"; for a in "$@"; do printf ' [%s]' "$a"; done; echo; } >>"$STUB/runs"
case "$1 $*" in
*"send -nvt"*) cat "$STUB/token" ;;
send*) printf stream ;;
list*" -o clones "*) echo - ;;
list*@*) [ -e "$STUB/image" ] && cat "$STUB/image" || { echo "cannot open: dataset does not exist" >&2; exit 1; } ;;
list*" -o name --"*) echo tank/vagoth ;;
list*" -r -- tank/vagoth") cat "$STUB/parents" ;;
list*guests/*) [ -e "$STUB/guest" ] && cat "$STUB/guest" || { echo "cannot open: dataset does not exist" >&2; exit 1; } ;;
list*volumes/*) echo "cannot open: dataset does not exist" >&2; exit 1 ;;
esac
[ ! -e "$STUB/fail" ] || { cat "$STUB/fail" >&2; exit 1; }
`

const zpoolStub = `#!/bin/sh
{ printf '%s' "${0##*/}"; for a in "$@"; do printf ' [%s]' "$a"; done; echo; } >>"$STUB/runs"
if [ -e "$STUB/health" ]; then cat "$STUB/health" >&2; exit 1; fi
printf 'tank\thealth\tONLINE\t-\n'
`

type stubbed struct {
	*testing.T
	dir string
	s   *zfs.Store
}

func row(name, kind, size, origin, txg, disks string) string {
	return strings.Join([]string{"tank/vagoth" + name, kind, size, origin, txg, "-", "-", "-", disks, "-", "-"}, "\t") + "\n"
}

func newStub(t *testing.T) *stubbed {
	t.Helper()
	b := &stubbed{T: t, dir: t.TempDir()}
	bin := t.TempDir()
	for name, text := range map[string]string{"zfs": strings.ReplaceAll(stub, "$STUB", b.dir), "zpool": strings.ReplaceAll(zpoolStub, "$STUB", b.dir)} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte(text), 0o700); err != nil { //nolint:gosec // a program
			t.Fatal(err)
		}
	}
	t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
	b.say("parents", row("", "filesystem", "-", "-", "1", "-")+row("/images", "filesystem", "-", "-", "2", "-")+row("/half", "filesystem", "-", "-", "2", "-"))
	return b
}

func (b *stubbed) say(name, text string) {
	b.Helper()
	if err := os.WriteFile(filepath.Join(b.dir, name), []byte(text), 0o600); err != nil {
		b.Fatal(err)
	}
}

func (b *stubbed) options() zfs.Options {
	return zfs.Options{
		Dir: filepath.Join(b.dir, "store"), Pool: "tank",
		Device: func(_ context.Context, volume string) (string, error) { return "/dev/zvol/" + volume, nil },
	}
}

func (b *stubbed) open() {
	b.Helper()
	s, err := zfs.Open(b.Context(), b.options())
	if err != nil {
		b.Fatal(err)
	}
	b.s = s
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
}

// runs are the runs since the last call.
func (b *stubbed) runs() (list []string) {
	b.Helper()
	data, err := os.ReadFile(filepath.Join(b.dir, "runs"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		b.Fatal(err)
	}
	_ = os.Remove(filepath.Join(b.dir, "runs")) // there may have been none
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSuffix(line, "\n")
		if at := strings.Index(line, "/half/"); at >= 0 { // a name that nobody knows before
			line = line[:at] + "/half/?" + strings.TrimLeft(line[at+len("/half/"):], "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
		}
		line = strings.ReplaceAll(line, "[name,type,volsize,origin,createtxg,vagoth:source,vagoth:sha256,vagoth:sent,vagoth:disks,vagoth:pending,vagoth:job]", "[columns]")
		list = append(list, line)
	}
	return list
}

func TestArguments(t *testing.T) {
	b := newStub(t)
	b.open()
	ctx := t.Context()
	const id = "0f8fad5b-d9cb-469f-a165-70867728950e"
	g := &mistify.Guest{ID: id, Disks: []mistify.Disk{{Image: "i", Size: 9}, {Size: 2}}}
	at := func(disk, name string) *mistify.SnapshotRequest { return storetest.At(g, disk, name) }
	there := row("/guests/"+id, "filesystem", "-", "-", "5", "-") + row("/guests/"+id+"/disk-0", "volume", "9437184", "-", "5", "-") + row("/guests/"+id+"/disk-1", "volume", "2097152", "-", "5", "-")
	taken := there + row("/guests/"+id+"@s", "snapshot", "-", "-", "7", "0,1") + row("/guests/"+id+"/disk-0@s", "snapshot", "9437184", "-", "7", "0,1") + row("/guests/"+id+"/disk-1@s", "snapshot", "2097152", "-", "7", "0,1")
	older := row("/guests/"+id+"/disk-0@old", "snapshot", "9437184", "-", "6", "-")
	const ls, below = "zfs [list] [-Hp] [-o] [columns] [-t] ", "tank/vagoth/guests/" + id
	shelf := ls + "[filesystem,volume,snapshot] [-d] [2] [--] [" + below + "]"
	b.say("image", row("/images/i@i", "snapshot", "3145728", "-", "3", "-"))
	for _, c := range []struct {
		what, guest string
		do          func() error
		want        []string
	}{
		{"open", "", func() error { return nil }, []string{
			"zpool [get] [-Hp] [name,health,allocated,size,free,readonly,dedupratio,fragmentation,freeing,leaked] [tank]",
			ls + "[filesystem,volume,snapshot] [-r] [--] [tank/vagoth]",
			"zfs [create] [-o] [canmount=off] [--] [tank/vagoth/guests]",
			"zfs [create] [-o] [canmount=off] [--] [tank/vagoth/volumes]",
		}},
		{"create", "", func() error { _, err := b.s.CreateGuestDisks(ctx, &mistify.GuestRequest{Guest: g}); return err }, []string{
			ls + "[filesystem,volume] [-d] [1] [--] [" + below + "]",
			"zfs [list] [-Hp] [-o] [name] [--] [tank/vagoth]", // whether the pool is there
			ls + "[filesystem,volume,snapshot] [--] [tank/vagoth/images/i@i]",
			"zfs [create] [-o] [canmount=off] [--] [tank/vagoth/half/?]",
			"zfs [clone] [-o] [volsize=9437184] [--] [tank/vagoth/images/i@i] [tank/vagoth/half/?/disk-0]",
			"zfs [create] [-s] [-V] [2097152] [--] [tank/vagoth/half/?/disk-1]",
			"zfs [rename] [--] [tank/vagoth/half/?] [" + below + "]",
		}},
		{"delete", there, func() error { _, err := b.s.DeleteGuestDisks(ctx, &mistify.GuestRequest{Guest: g}); return err }, []string{
			ls + "[filesystem,volume] [-d] [1] [--] [" + below + "]",
			"zfs [rename] [--] [" + below + "] [tank/vagoth/half/?]",
			"zfs [destroy] [-r] [--] [tank/vagoth/half/?]",
		}},
		{"delete an image", "", func() error { _, err := b.s.DeleteImage(ctx, &mistify.ImageRequest{ID: "i"}); return err }, []string{
			ls + "[filesystem,volume,snapshot] [--] [tank/vagoth/images/i@i]",
			"zfs [list] [-Hp] [-o] [clones] [-t] [snapshot] [--] [tank/vagoth/images/i@i]",
			"zfs [destroy] [--] [tank/vagoth/images/i@i]",
			"zfs [destroy] [--] [tank/vagoth/images/i]",
		}},
		{"take an image", "", func() error {
			_, err := b.s.CreateGuestDisks(ctx, &mistify.GuestRequest{Job: "job", Guest: &mistify.Guest{ID: id, Disks: []mistify.Disk{{Image: "i", Take: true, Size: 9}}}})
			return err
		}, []string{
			ls + "[filesystem,volume] [-d] [1] [--] [" + below + "]",
			"zfs [list] [-Hp] [-o] [name] [--] [tank/vagoth]",
			ls + "[filesystem,volume,snapshot] [--] [tank/vagoth/images/i@i]",
			"zfs [list] [-Hp] [-o] [clones] [-t] [snapshot] [--] [tank/vagoth/images/i@i]",
			"zfs [create] [-o] [canmount=off] [--] [tank/vagoth/half/?]",
			ls + "[filesystem,volume,snapshot] [--] [tank/vagoth/images/i@i]", // once more, when nobody can clone it
			"zfs [list] [-Hp] [-o] [clones] [-t] [snapshot] [--] [tank/vagoth/images/i@i]",
			"zfs [rename] [--] [tank/vagoth/images/i] [tank/vagoth/half/?/disk-0]",
			"zfs [destroy] [--] [tank/vagoth/half/?/disk-0@i]",
			"zfs [inherit] [vagoth:source] [--] [tank/vagoth/half/?/disk-0]",
			"zfs [inherit] [vagoth:sha256] [--] [tank/vagoth/half/?/disk-0]",
			"zfs [inherit] [vagoth:sent] [--] [tank/vagoth/half/?/disk-0]",
			"zfs [set] [volsize=9437184] [--] [tank/vagoth/half/?/disk-0]",
			"zfs [set] [vagoth:job=job] [--] [tank/vagoth/half/?/disk-0]",
			"zfs [rename] [--] [tank/vagoth/half/?] [" + below + "]",
		}},
		{"take an image with room for it", "", func() error {
			o := b.options()
			o.Dir, o.Reserve = filepath.Join(b.dir, "other"), true
			s, err := zfs.Open(ctx, o)
			if err != nil {
				return err
			}
			b.runs()
			_, err = s.CreateGuestDisks(ctx, &mistify.GuestRequest{Guest: &mistify.Guest{ID: id, Disks: []mistify.Disk{{Image: "i", Take: true}}}})
			return errors.Join(err, s.Close())
		}, []string{
			ls + "[filesystem,volume] [-d] [1] [--] [" + below + "]",
			"zfs [list] [-Hp] [-o] [name] [--] [tank/vagoth]",
			ls + "[filesystem,volume,snapshot] [--] [tank/vagoth/images/i@i]",
			"zfs [list] [-Hp] [-o] [clones] [-t] [snapshot] [--] [tank/vagoth/images/i@i]",
			"zfs [create] [-o] [canmount=off] [--] [tank/vagoth/half/?]",
			ls + "[filesystem,volume,snapshot] [--] [tank/vagoth/images/i@i]",
			"zfs [list] [-Hp] [-o] [clones] [-t] [snapshot] [--] [tank/vagoth/images/i@i]",
			"zfs [rename] [--] [tank/vagoth/images/i] [tank/vagoth/half/?/disk-0]",
			"zfs [destroy] [--] [tank/vagoth/half/?/disk-0@i]",
			"zfs [inherit] [vagoth:source] [--] [tank/vagoth/half/?/disk-0]",
			"zfs [inherit] [vagoth:sha256] [--] [tank/vagoth/half/?/disk-0]",
			"zfs [inherit] [vagoth:sent] [--] [tank/vagoth/half/?/disk-0]",
			"zfs [set] [refreservation=3145728] [--] [tank/vagoth/half/?/disk-0]",
			"zfs [rename] [--] [tank/vagoth/half/?] [" + below + "]",
		}},
		{"send an image that is there", "", func() error {
			_, err := b.s.PutImage(ctx, &mistify.ImageRequest{ID: "i"}, io.NopCloser(strings.NewReader("x")))
			if errors.Is(err, virt.ErrConflict) {
				err = nil
			}
			return err
		}, []string{ls + "[filesystem,volume,snapshot] [--] [tank/vagoth/images/i@i]"}},
		{"delete a snapshot", taken, func() error { _, err := b.s.DeleteSnapshot(ctx, at("", "s")); return err }, []string{
			shelf, "zfs [destroy] [-r] [--] [" + below + "@s]",
		}},
		{"delete a disk's", taken, func() error { _, err := b.s.DeleteSnapshot(ctx, at("1", "s")); return err }, []string{
			shelf, "zfs [destroy] [--] [" + below + "/disk-1@s]",
		}},
		{"roll back", taken, func() error { _, err := b.s.RollbackSnapshot(ctx, at("", "s")); return err }, []string{
			shelf,
			"zfs [set] [vagoth:pending=only:s] [--] [" + below + "]",
			"zfs [rollback] [--] [" + below + "/disk-0@s]",
			"zfs [rollback] [--] [" + below + "/disk-1@s]",
			"zfs [rollback] [--] [" + below + "@s]",
			"zfs [inherit] [vagoth:pending] [--] [" + below + "]",
		}},
		{"roll one back over newer ones", taken + older, func() error {
			r := at("0", "old")
			r.DestroyMoreRecent = true
			_, err := b.s.RollbackSnapshot(ctx, r)
			return err
		}, []string{shelf, "zfs [rollback] [-r] [--] [" + below + "/disk-0@old]"}},
		{"download what changed", taken + older, func() error {
			r := at("0", "s")
			r.From = "old"
			d, err := b.s.DownloadSnapshot(ctx, r)
			if err != nil {
				return err
			}
			_, err = storetest.ReadAll(d)
			return err
		}, []string{shelf, "zfs [send] [-L] [-c] [-i] [" + below + "/disk-0@old] [--] [" + below + "/disk-0@s]"}},
	} {
		t.Run(c.what, func(t *testing.T) {
			if c.what != "open" {
				b.runs()
			}
			_ = os.Remove(filepath.Join(b.dir, "guest")) // there may be none
			if c.guest != "" {
				b.say("guest", c.guest)
			}
			if err := c.do(); err != nil {
				t.Fatal(err)
			}
			if got := b.runs(); !slices.Equal(got, c.want) {
				t.Errorf("the runs are\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

func TestSnapshotsTogether(t *testing.T) {
	b := newStub(t)
	b.open()
	const id = "0f8fad5b-d9cb-469f-a165-70867728950e"
	b.say("guest", row("/guests/"+id, "filesystem", "-", "-", "5", "-")+row("/guests/"+id+"/disk-0", "volume", "1048576", "-", "5", "-")+row("/guests/"+id+"/disk-3", "volume", "1048576", "-", "5", "-"))
	b.runs()
	_, err := b.s.CreateSnapshot(t.Context(), &mistify.SnapshotRequest{ID: "guests/" + id, Dest: "s"})
	if !errors.Is(err, virt.ErrNotFound) { // the stub makes none
		t.Error(err)
	}
	if want := "zfs [snapshot] [-r] [-o] [vagoth:disks=0,3] [--] [tank/vagoth/guests/" + id + "@s]"; !slices.Contains(b.runs(), want) {
		t.Errorf("it did not run %s", want)
	}
}

func TestTokens(t *testing.T) {
	b := newStub(t)
	b.open()
	const id = "0f8fad5b-d9cb-469f-a165-70867728950e"
	const disk = "/guests/" + id + "/disk-0"
	b.say("guest", row("/guests/"+id, "filesystem", "-", "-", "5", "-")+row(disk, "volume", "1048576", "-", "5", "-")+row(disk+"@s", "snapshot", "1048576", "-", "7", "-"))
	for name, c := range map[string]struct {
		says string
		good bool
	}{
		"of it":       {"\ttoname = tank/vagoth" + disk + "@s\n", true},
		"of another":  {"\ttoname = tank/secret@s\n", false},
		"of two":      {"\ttoname = tank/vagoth" + disk + "@s\n\ttoname = tank/secret@s\n", false},
		"of nothing":  {"", false},
		"of a prefix": {"\ttoname = tank/vagoth" + disk + "@s2\n", false},
	} {
		b.say("token", "resume token contents:\nnvlist version: 0\n"+c.says)
		b.runs()
		d, err := b.s.DownloadSnapshot(t.Context(), &mistify.SnapshotRequest{ID: "guests/" + id + "/disk-0@s", Resume: "1-ab-c0-12"})
		if (err == nil) != c.good || err != nil && !errors.Is(err, virt.ErrInvalid) {
			t.Errorf("a token %s: %v", name, err)
		}
		if err == nil {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
		if sent := slices.Contains(b.runs(), "zfs [send] [-t] [1-ab-c0-12]"); sent && !c.good {
			t.Errorf("a token %s was sent from", name)
		}
	}
}

// TestNames gives every method names that are no words: nothing may be run.
func TestNames(t *testing.T) {
	b := newStub(t)
	b.open()
	b.runs()
	g := &mistify.Guest{ID: "0f8fad5b-d9cb-469f-a165-70867728950e"}
	for _, bad := range storetest.BadNames() {
		for what, call := range storetest.Calls(t.Context(), b.s, g, bad, "http://127.0.0.1:1") {
			if err := call(); !errors.Is(err, virt.ErrInvalid) {
				t.Errorf("%s %.20q: %v", what, bad, err)
			}
		}
	}
	long := strings.Repeat("a", 150) // twice in the name of a snapshot
	if _, err := b.s.GetImage(t.Context(), &mistify.ImageRequest{ID: long}); !errors.Is(err, virt.ErrInvalid) {
		t.Errorf("a name too long for ZFS: %v", err)
	}
	if ran := b.runs(); len(ran) > 0 {
		t.Errorf("it ran %q", ran)
	}
	for _, bad := range []string{"", "-x", "a/b", "a@b", "a b", "a\nb", "../a", "1a", strings.Repeat("a", 70)} {
		o := b.options()
		o.Pool = bad
		if _, err := zfs.Open(t.Context(), o); !errors.Is(err, virt.ErrInvalid) {
			t.Errorf("the pool %.20q: %v", bad, err)
		}
		if o = b.options(); bad == "" || bad == "a/b" || bad == "1a" {
			continue
		}
		o.Dataset = bad
		if _, err := zfs.Open(t.Context(), o); !errors.Is(err, virt.ErrInvalid) {
			t.Errorf("the dataset %.20q: %v", bad, err)
		}
	}
	if ran := b.runs(); len(ran) > 0 {
		t.Errorf("it ran %q", ran)
	}
}

// TestDeadline has a zfs that never ends, and one that never stops to talk.
func TestDeadline(t *testing.T) {
	for name, text := range map[string]string{"hangs": "#!/bin/sh\nexec sleep 1000\n", "talks": "#!/bin/sh\nexec yes\n"} {
		b := newStub(t)
		o := b.options()
		o.RunTimeout = 300 * time.Millisecond
		path := strings.SplitN(os.Getenv("PATH"), ":", 2)[0]
		if err := os.WriteFile(filepath.Join(path, "zfs"), []byte(text), 0o700); err != nil { //nolint:gosec // a program
			t.Fatal(err)
		}
		if _, err := zfs.Open(t.Context(), o); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a zfs that %s: %v", name, err)
		}
	}
}

// TestWhatZFSSays are the errors that zfs has words for.
func TestWhatZFSSays(t *testing.T) {
	b := newStub(t)
	b.open()
	for says, want := range map[string]error{
		"cannot create 'x': out of space":                             virt.ErrConflict,
		"cannot create 'x': dataset already exists":                   virt.ErrConflict,
		"cannot open 'tank': no such pool":                            virt.ErrUnreachable,
		"The ZFS modules are not loaded.":                             virt.ErrUnreachable,
		"cannot create 'x': pool I/O is currently suspended":          virt.ErrUnreachable,
		"cannot destroy 'x': volume has children":                     virt.ErrConflict,
		"cannot create 'x': something that nobody has seen before":    nil,
		"cannot create 'x': two lines\n\tof which the second\x1b[2J ": nil,
	} {
		b.say("fail", says)
		_, err := b.s.CreateVolume(t.Context(), &mistify.VolumeRequest{ID: "v", Size: 1})
		var failed *zfs.CommandError
		if !errors.As(err, &failed) || want != nil && !errors.Is(err, want) || want == nil && mistify.KindOf(err) != "" {
			t.Errorf("%q is the error %v, want a %v", says, err, want)
		}
		if err != nil && strings.ContainsAny(err.Error(), "\n\t") {
			t.Errorf("%q has several lines", err.Error())
		}
	}
}

func TestPoolThatIsNotThere(t *testing.T) {
	b := newStub(t)
	b.say("health", "cannot open 'tank': no such pool\n")
	_, err := zfs.Open(t.Context(), b.options())
	if !errors.Is(err, virt.ErrUnreachable) || !strings.Contains(fmt.Sprint(err), "zpool import tank") {
		t.Errorf("it says %v", err)
	}
	if ran := b.runs(); len(ran) != 1 {
		t.Errorf("it ran %q", ran)
	}
}
