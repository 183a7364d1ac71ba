package zfs_test

import (
	"bytes"
	"compress/gzip"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/storetest"
	"github.com/vagoth/vagoth/virt/subagent/zfs"
)

func rands() string { return rand.Text()[:8] }

func guest(disks ...mistify.Disk) *mistify.Guest {
	return &mistify.Guest{ID: uuid.NewString(), Disks: disks}
}

// web serves files by their names.
func web(t *testing.T, files map[string][]byte) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, ok := files[strings.TrimPrefix(r.URL.Path, "/")]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(data)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func (p *pool) fetch(url, name string) error {
	_, err := p.s.FetchImage(p.Context(), &mistify.ImageRequest{ID: name, Source: url + "/" + name})
	return err
}

func (p *pool) download(r *mistify.SnapshotRequest) []byte {
	p.Helper()
	d, err := p.s.DownloadSnapshot(p.Context(), r)
	p.do(err)
	data, err := storetest.ReadAll(d)
	p.do(err)
	return data
}

// receive gives a stream to zfs receive.
func receive(stream []byte, args ...string) error {
	cmd := exec.Command("zfs", append([]string{"receive"}, args...)...)
	cmd.Stdin = bytes.NewReader(stream)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return errors.New(string(out))
	}
	return nil
}

// noise fills so many bytes of a disk with what cannot be packed.
func noise(t *testing.T, d mistify.Disk, n int) {
	t.Helper()
	f, err := os.OpenFile(d.Source, os.O_WRONLY, 0)
	if err == nil {
		_, err = io.CopyN(f, rand.Reader, int64(n))
		err = errors.Join(err, f.Sync(), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// send downloads streams and receives them in a second pool: whole, incremental,
// and gone on with after a cut.
func send(t *testing.T) {
	p, q := newPool(t, 256), newPool(t, 256)
	p.open()
	ctx := t.Context()
	g := p.create(guest(mistify.Disk{Size: 8}, mistify.Disk{Size: 8}))
	noise(t, g.Disks[0], 2<<20)
	write(t, g.Disks[0], 'a')
	p.do(p.take(g, "", "one"))
	write(t, g.Disks[0], 'b')
	p.do(p.take(g, "", "two"))
	whole := p.download(storetest.At(g, "0", "one"))
	r := storetest.At(g, "0", "two")
	r.From = "one"
	changed := p.download(r)
	if len(whole) < 2<<20 || len(changed) > 512<<10 {
		t.Errorf("the whole stream has %d bytes, what changed %d", len(whole), len(changed))
	}
	p.do(receive(whole, "-u", q.name+"/copy"))
	p.do(receive(changed, "-u", q.name+"/copy"))
	again := []byte(q.zfs("send", q.name+"/copy@two"))
	p.do(p.fetch(web(t, map[string][]byte{"again": again}), "again"))
	other := p.create(guest(mistify.Disk{Image: "again"}))
	holds(t, other.Disks[0], 'b')

	for name, bad := range map[string]struct {
		from string
		want error
	}{
		"itself": {"two", virt.ErrInvalid}, "not there": {"none", virt.ErrNotFound}, "an option": {"-R", virt.ErrInvalid}, "another dataset": {"x@y", virt.ErrInvalid},
	} {
		r := storetest.At(g, "0", "two")
		r.From = bad.from
		_, err := p.s.DownloadSnapshot(ctx, r)
		p.refused("from "+name, err, bad.want)
	}

	token := func(stream []byte, into string) string {
		if err := receive(stream[:len(stream)/2], "-s", "-u", q.name+"/"+into); err == nil {
			t.Fatal("half a stream was taken")
		}
		return strings.TrimSpace(q.zfs("get", "-H", "-o", "value", "receive_resume_token", q.name+"/"+into))
	}
	r = storetest.At(g, "0", "one")
	r.Resume = token(whole, "cut")
	rest := p.download(r)
	if len(rest) >= len(whole) {
		t.Errorf("the rest has %d bytes of %d", len(rest), len(whole))
	}
	p.do(receive(rest, "-s", "-u", q.name+"/cut"))
	if got, want := q.zfs("get", "-H", "-o", "value", "guid", q.name+"/cut@one"), p.zfs("get", "-H", "-o", "value", "guid", p.dataset("guests/%s/disk-0@one", g.ID)); got != want {
		t.Errorf("received is the snapshot %s, want %s", got, want)
	}
	r.ID = storetest.At(g, "0", "two").ID
	_, err := p.s.DownloadSnapshot(ctx, r)
	p.refused("a token of another snapshot", err, virt.ErrInvalid)
	p.zfs("create", "-V", "8M", p.name+"/secret")
	p.zfs("snapshot", p.name+"/secret@s")
	r.Resume = token([]byte(p.zfs("send", p.name+"/secret@s")), "stolen")
	_, err = p.s.DownloadSnapshot(ctx, r)
	p.refused("a token of a dataset elsewhere", err, virt.ErrInvalid)
	for _, bad := range []string{"-", "x", "1-2-3", "1-a-b-c", "1-a-b-c\n", "-t", strings.Repeat("1-a-b-", 3000)} {
		r.Resume = bad
		_, err = p.s.DownloadSnapshot(ctx, r)
		p.refused("the token "+bad[:min(len(bad), 20)], err, virt.ErrInvalid)
	}
}

// streams that are not of one whole volume are refused, and leave nothing.
func streams(t *testing.T) {
	p := newPool(t, 256)
	p.zfs("create", "-V", "8M", p.name+"/v")
	p.zfs("snapshot", p.name+"/v@one")
	p.zfs("snapshot", p.name+"/v@two")
	p.zfs("create", p.name+"/f")
	p.zfs("snapshot", p.name+"/f@one")
	stream := func(args ...string) []byte { return []byte(p.zfs(append([]string{"send"}, args...)...)) }
	good := stream(p.name + "/v@one")
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, err := w.Write(good)
	p.do(errors.Join(err, w.Close()))
	damaged := slices.Clone(good)
	damaged[len(damaged)-400] ^= 1 // the checksum at the end is not of this
	big := slices.Clone(good)
	for i := 0; i+8 < len(big); i += 4 { // the size of the volume, in a place that only the checksum knows
		if binary.LittleEndian.Uint64(big[i:]) == 8<<20 {
			binary.LittleEndian.PutUint64(big[i:], 1<<50)
		}
	}
	files := map[string][]byte{
		"filesystem": stream(p.name + "/f@one"), "incremental": stream("-i", "@one", p.name+"/v@two"), "several": stream("-R", p.name+"/v@two"),
		"properties": stream("-p", p.name+"/v@one"), "begin": good[:400], "header": good[:100], "half": good[:len(good)/2], "end": good[:len(good)-8], "damaged": damaged, "big": big,
		"good": good, "packed": packed.Bytes(),
	}
	url := web(t, files)
	p.open()
	before := p.all()
	for name := range files {
		if name == "good" || name == "packed" {
			continue
		}
		if err := p.fetch(url, name); !errors.Is(err, virt.ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
		if now := p.all(); !slices.Equal(now, before) {
			t.Errorf("%s left %q", name, now)
		}
	}
	for _, name := range []string{"good", "packed"} {
		p.do(p.fetch(url, name))
		out, err := p.s.GetImage(t.Context(), &mistify.ImageRequest{ID: name})
		if err != nil || out.Images[0].Size != 8 {
			t.Errorf("%s: %+v, %v", name, out, err)
		}
	}
}

// cutStreams serves a stream that ends too early, every 64 KiB.
func cutStreams(t *testing.T) {
	p := newPool(t, 256)
	p.open()
	g := p.create(guest(mistify.Disk{Size: 8}))
	noise(t, g.Disks[0], 256<<10)
	p.do(p.take(g, "", "s"))
	whole := p.download(storetest.At(g, "0", "s"))
	before := p.all()
	for at := 64 << 10; at < len(whole); at += 64 << 10 {
		if err := p.fetch(web(t, map[string][]byte{"i": whole[:at]}), "i"); !errors.Is(err, virt.ErrInvalid) {
			t.Errorf("cut at %d of %d: %v", at, len(whole), err)
		}
	}
	if now := p.all(); !slices.Equal(now, before) {
		t.Errorf("left is %q, before was %q", now, before)
	}
	p.do(p.fetch(web(t, map[string][]byte{"i": whole}), "i"))
}

// atomically takes snapshots of two disks while a number is written to one and
// then to the other: no snapshot has more in the second.
func atomically(t *testing.T) {
	p := newPool(t, 256)
	p.open()
	g := p.create(guest(mistify.Disk{Size: 1}, mistify.Disk{Size: 1}))
	var files [2]*os.File
	for i, d := range g.Disks {
		f, err := os.OpenFile(d.Source, os.O_RDWR|os.O_SYNC, 0)
		p.do(err)
		files[i] = f
	}
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		for n := uint64(1); ; n++ {
			for _, f := range files {
				if _, err := f.WriteAt(binary.BigEndian.AppendUint64(nil, n), 0); err != nil {
					ended <- err
					return
				}
			}
			select {
			case <-stop:
				ended <- errors.Join(files[0].Close(), files[1].Close())
				return
			default:
			}
		}
	}()
	names := []string{"a", "b", "c"}
	for _, name := range names {
		p.do(p.take(g, "", name)) // of disks that are written to
	}
	close(stop)
	p.do(<-ended)
	for _, name := range slices.Backward(names) {
		r := storetest.At(g, "", name)
		r.DestroyMoreRecent = true
		_, err := p.s.RollbackSnapshot(t.Context(), r)
		p.do(err)
		var n [2]uint64
		for i, d := range g.Disks {
			n[i] = numberOn(t, d)
		}
		if n[0] < n[1] || n[0] > n[1]+1 {
			t.Errorf("snapshot %s has %d on the first disk and %d on the second", name, n[0], n[1])
		}
	}
}

func numberOn(t *testing.T, d mistify.Disk) uint64 {
	t.Helper()
	f, err := os.Open(d.Source)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	data := make([]byte, 8)
	if _, err := io.ReadFull(f, data); err != nil {
		t.Fatal(err)
	}
	return binary.BigEndian.Uint64(data)
}

// inUse has a disk open in another process, as a guest has.
func inUse(t *testing.T) {
	p := newPool(t, 256)
	s := p.open()
	ctx := t.Context()
	g := p.create(guest(mistify.Disk{Size: 1}, mistify.Disk{Size: 1}))
	v, err := s.CreateVolume(ctx, &mistify.VolumeRequest{ID: "v", Size: 1})
	p.do(err)
	p.do(p.take(g, "", "s"))
	p.do(p.take(g, "", "t"))
	user := exec.Command("sh", "-c", `exec 3<"$1" 4<"$2"; echo; read x`, "sh", g.Disks[1].Source, v.Volumes[0].Device)
	in, err := user.StdinPipe()
	p.do(err)
	out, err := user.StdoutPipe()
	p.do(err)
	p.do(user.Start())
	_, err = out.Read(make([]byte, 1)) // it has them open
	p.do(err)
	before := p.all()
	r := storetest.At(g, "", "s")
	r.DestroyMoreRecent = true
	_, err = s.RollbackSnapshot(ctx, r)
	p.refused("a rollback", err, virt.ErrBusy)
	_, err = s.DeleteGuestDisks(ctx, &mistify.GuestRequest{Guest: g})
	p.refused("removing the disks", err, virt.ErrBusy)
	if err == nil || !strings.Contains(err.Error(), "process ") {
		t.Errorf("the error %v does not say who", err)
	}
	_, err = s.DeleteVolume(ctx, &mistify.VolumeRequest{ID: "v"})
	p.refused("removing the volume", err, virt.ErrBusy)
	if now := p.all(); !slices.Equal(now, before) {
		t.Errorf("left is %q, before was %q", now, before)
	}
	p.do(p.take(g, "", "u")) // which a guest that runs may have
	p.do(in.Close())
	_ = user.Wait() // its read had nothing
	_, err = s.RollbackSnapshot(ctx, r)
	p.do(err)
	_, err = s.DeleteGuestDisks(ctx, &mistify.GuestRequest{Guest: g})
	p.do(err)
	_, err = s.DeleteVolume(ctx, &mistify.VolumeRequest{ID: "v"})
	p.do(err)
}

// devices are found where no udev makes links, or where a link or a node is gone
// or leads to another volume.
func devices(t *testing.T) {
	p := newPool(t, 256)
	p.open()
	g := p.create(guest(mistify.Disk{Size: 1}, mistify.Disk{Size: 1}))
	write(t, g.Disks[0], 'a')
	write(t, g.Disks[1], 'b')
	first, second := g.Disks[0].Source, g.Disks[1].Source
	if want := "/dev/zvol/" + p.dataset("guests/%s/disk-0", g.ID); first != want {
		t.Errorf("the first disk is opened at %s, want %s", first, want)
	}
	node, err := filepath.EvalSymlinks(second)
	p.do(err)
	p.do(errors.Join(os.Remove(first), os.Symlink(node, first), os.Remove(second), os.Remove(node)))
	p.open()
	holds(t, g.Disks[0], 'a')
	holds(t, g.Disks[1], 'b')
	p.do(errors.Join(os.Remove(first), os.Symlink(node, first)))
	p.create(g)
	holds(t, g.Disks[0], 'a')
	if _, err := p.s.DeleteGuestDisks(t.Context(), &mistify.GuestRequest{Guest: g}); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(first); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a link is left: %v", err)
	}
}

// full fills the pool.
func full(t *testing.T) {
	p := newPool(t, 96)
	p.open()
	data := make([]byte, 160<<20)
	_, err := rand.Read(data)
	p.do(err)
	url := web(t, map[string][]byte{"large": data, "small": data[:1<<20]})
	p.do(p.fetch(url, "small"))
	before := p.all()
	if err := p.fetch(url, "large"); err == nil {
		t.Error("an image is there that has no room")
	} else {
		t.Log(err)
	}
	if now := p.all(); !slices.Equal(now, before) {
		t.Errorf("left is %q, before was %q", now, before)
	}
	g := p.create(guest(mistify.Disk{Image: "small"}, mistify.Disk{Size: 1 << 10})) // it is only promised
	if _, err := p.s.DeleteGuestDisks(t.Context(), &mistify.GuestRequest{Guest: g}); err != nil {
		t.Error(err)
	}
}

// promised asks for more than there is room for, where room is kept for what is
// promised: ZFS says so before anything is written.
func promised(t *testing.T) {
	p := newPool(t, 96)
	p.open()
	large := filepath.Join(t.TempDir(), "large")
	p.tool("qemu-img", "create", "-q", "-f", "qcow2", large, "1G")
	data, err := os.ReadFile(large)
	p.do(err)
	url := web(t, map[string][]byte{"large": data})
	before := p.all()
	for name, o := range map[string]func(*zfs.Options){"overcommit": func(o *zfs.Options) { o.Overcommit = 1 }, "reserve": func(o *zfs.Options) { o.Reserve = true }} {
		p.close()
		options := p.options()
		o(&options)
		s, err := zfs.Open(t.Context(), options)
		p.do(err)
		p.s = s
		_, err = s.CreateGuestDisks(t.Context(), &mistify.GuestRequest{Guest: guest(mistify.Disk{Size: 1}, mistify.Disk{Size: 1 << 10})})
		p.refused(name, err, virt.ErrConflict)
		if options.Reserve {
			p.refused("an image that has no room", p.fetch(url, "large"), virt.ErrConflict)
		}
		if now := p.all(); !slices.Equal(now, before) {
			t.Errorf("%s: left is %q, before was %q", name, now, before)
		}
		g := p.create(guest(mistify.Disk{Size: 1}))
		_, err = s.DeleteGuestDisks(t.Context(), &mistify.GuestRequest{Guest: g})
		p.do(err)
	}
}

// missing is a pool that is not there, and one that goes and comes back.
func missing(t *testing.T) {
	p := newPool(t, 96)
	o := p.options()
	o.Pool = "none"
	if s, err := zfs.Open(t.Context(), o); !errors.Is(err, virt.ErrUnreachable) || !strings.Contains(err.Error(), "zpool import none") {
		t.Errorf("a pool that is not there: %v, %v", s, err)
	}
	s := p.open()
	g := p.create(guest(mistify.Disk{Size: 1}))
	write(t, g.Disks[0], 'x')
	p.zpool("export", p.name)
	ctx := t.Context()
	for name, call := range map[string]func() error{
		"ListImages":       func() error { _, err := s.ListImages(ctx, &mistify.ImageRequest{}); return err },
		"GetImage":         func() error { _, err := s.GetImage(ctx, &mistify.ImageRequest{ID: "i"}); return err },
		"ListVolumes":      func() error { _, err := s.ListVolumes(ctx, &mistify.VolumeRequest{}); return err },
		"CreateVolume":     func() error { _, err := s.CreateVolume(ctx, &mistify.VolumeRequest{ID: "v", Size: 1}); return err },
		"CreateGuestDisks": func() error { _, err := s.CreateGuestDisks(ctx, &mistify.GuestRequest{Guest: g}); return err },
		"DeleteGuestDisks": func() error { _, err := s.DeleteGuestDisks(ctx, &mistify.GuestRequest{Guest: g}); return err },
		"CreateSnapshot":   func() error { return p.take(g, "", "s") },
	} {
		if err := call(); !errors.Is(err, virt.ErrUnreachable) || errors.Is(err, virt.ErrNotFound) {
			t.Errorf("%s without the pool: %v", name, err)
		}
	}
	p.zpool("import", "-d", filepath.Dir(p.file), p.name)
	p.create(g)
	holds(t, g.Disks[0], 'x')
	p.do(p.take(g, "", "s"))
}

// pending is a rollback of several disks that did not end.
func pending(t *testing.T) {
	p := newPool(t, 96)
	p.open()
	g := p.create(guest(mistify.Disk{Size: 1}, mistify.Disk{Size: 1}))
	for round, again := range []func(){func() {}, func() { p.open() }} {
		for i, d := range g.Disks {
			write(t, d, byte('a'+i))
		}
		p.do(p.take(g, "", "s"))
		for _, d := range g.Disks {
			write(t, d, 'x')
		}
		p.do(p.take(g, "", "newer"))
		folder := p.dataset("guests/%s", g.ID)
		p.zfs("set", "vagoth:pending=over:s", folder)
		p.zfs("rollback", "-r", folder+"/disk-0@s")
		again()
		p.snapshots(g, "@s", "0@s", "1@s")
		for i, d := range g.Disks {
			holds(t, d, byte('a'+i))
		}
		if left := strings.TrimSpace(p.zfs("get", "-H", "-o", "value", "vagoth:pending", folder)); left != "-" {
			t.Errorf("round %d: pending is still %q", round, left)
		}
		_, err := p.s.DeleteSnapshot(t.Context(), storetest.At(g, "", "s"))
		p.do(err)
	}
	// Without the word that newer ones may go, nothing goes on over them.
	p.do(p.take(g, "", "s"))
	p.do(p.take(g, "", "newer"))
	p.zfs("set", "vagoth:pending=only:s", p.dataset("guests/%s", g.ID))
	_, err := p.s.ListSnapshots(t.Context(), storetest.At(g, "", ""))
	p.refused("what would destroy a newer snapshot", err, virt.ErrConflict)
}
