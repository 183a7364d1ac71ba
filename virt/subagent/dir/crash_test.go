package dir_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/vagoth/vagoth/internal/testlong"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/dir"
	"github.com/vagoth/vagoth/virt/subagent/fetch"
)

// failing makes the n-th run of qemu-img fail whose arguments have a word, and
// with all also those after it.
func (b *bench) failing(word string, n int, all bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail = func(argv []string) error {
		if !slices.Contains(argv, word) {
			return nil
		}
		if n--; n == 0 || all && n < 0 {
			return errors.New("no space left on device")
		}
		return nil
	}
}

func (b *bench) healthy() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fail = nil
}

func TestAllDisksOrNone(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	g := b.guest(mistify.Disk{Size: 1}, mistify.Disk{Size: 1}, mistify.Disk{Size: 1})
	before := b.all()
	for n := 1; n <= 3; n++ {
		b.failing("create", n, false)
		if _, err := b.s.CreateGuestDisks(ctx, &mistify.GuestRequest{Guest: g}); err == nil {
			t.Fatal("it was made")
		}
		if now := b.all(); !slices.Equal(now, before) {
			t.Errorf("disk %d cannot be made, and left is %q", n, now)
		}
	}
	b.healthy()
	g = b.create(g)
	take := func(name string) error {
		r := at(g, "", "")
		r.Dest = name
		_, err := b.s.CreateSnapshot(ctx, r)
		return err
	}
	for n := 1; n <= 3; n++ {
		b.failing("-c", n, false)
		if err := take("s"); err == nil {
			t.Fatal("it was made")
		}
		b.snapshots(g)
		b.tidy()
		b.healthy()
	}
	// Neither made nor taken back, as when the process is killed.
	for n := 2; n <= 3; n++ {
		b.mu.Lock()
		made := 0
		b.fail = func(argv []string) error {
			if slices.Contains(argv, "-c") {
				made++
			}
			if made >= n {
				return errors.New("input/output error")
			}
			return nil
		}
		b.mu.Unlock()
		if err := take("s"); err == nil {
			t.Fatal("it was made")
		}
		b.healthy()
		if n == 2 {
			b.open(dir.Options{})
		}
		b.snapshots(g)
		b.tidy()
	}
	if err := take("s"); err != nil {
		t.Error(err)
	}
	b.snapshots(g, "@s", "0@s", "1@s", "2@s")
}

func TestRollbackGoesOn(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	g := b.create(b.guest(mistify.Disk{Size: 1}, mistify.Disk{Size: 1}))
	write := func(letter byte) {
		t.Helper()
		for _, d := range g.Disks {
			b.write(d.Source, "qcow2", letter)
		}
	}
	for i, name := range []string{"one", "two", "three"} {
		write(byte('a' + i))
		r := at(g, "", "")
		r.Dest = name
		if _, err := b.s.CreateSnapshot(ctx, r); err != nil {
			t.Fatal(err)
		}
	}
	write('z')
	back := at(g, "", "one")
	back.DestroyMoreRecent = true
	b.failing("-a", 2, true)
	if _, err := b.s.RollbackSnapshot(ctx, back); err == nil {
		t.Fatal("it was done")
	}
	b.open(dir.Options{}) // it still cannot be
	if _, err := b.s.ListSnapshots(ctx, at(g, "", "")); err == nil {
		t.Error("half a rollback was shown")
	}
	b.failing("-d", 2, true)
	b.open(dir.Options{})
	b.healthy()
	b.snapshots(g, "@one", "0@one", "1@one")
	for _, d := range g.Disks {
		b.holds(d.Source, "qcow2", 'a')
	}
	b.failing("-d", 2, true)
	if _, err := b.s.DeleteSnapshot(ctx, at(g, "", "one")); err == nil {
		t.Fatal("it was done")
	}
	b.healthy()
	b.open(dir.Options{})
	b.snapshots(g)
	b.tidy()
}

func TestRunningGuest(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	g := b.create(b.guest(mistify.Disk{Size: 1}, mistify.Disk{Size: 1}))
	r := at(g, "", "")
	r.Dest = "s"
	if _, err := b.s.CreateSnapshot(ctx, r); err != nil {
		t.Fatal(err)
	}
	qemu := exec.Command("qemu-io", "-f", "qcow2", g.Disks[1].Source) // holds the locks that a guest's QEMU holds
	in, err := qemu.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := qemu.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := qemu.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(in, "length\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil { // it answers when it has it open
		t.Fatal(err)
	}
	r.Dest = "t"
	_, err = b.s.CreateSnapshot(ctx, r)
	b.refused("a snapshot", err, virt.ErrBusy)
	_, err = b.s.RollbackSnapshot(ctx, at(g, "", "s"))
	b.refused("a rollback", err, virt.ErrBusy)
	_, err = b.s.DeleteSnapshot(ctx, at(g, "", "s"))
	b.refused("removing a snapshot", err, virt.ErrBusy)
	_, err = b.s.DeleteGuestDisks(ctx, &mistify.GuestRequest{Guest: g})
	b.refused("removing the disks", err, virt.ErrBusy)
	b.snapshots(g, "@s", "0@s", "1@s") // which can be asked
	if err := errors.Join(in.Close(), qemu.Wait()); err != nil {
		t.Error(err)
	}
	if _, err = b.s.DeleteGuestDisks(ctx, &mistify.GuestRequest{Guest: g}); err != nil {
		t.Error(err)
	}
}

func TestTwoStores(t *testing.T) {
	b := newBench(t)
	if _, err := dir.Open(t.Context(), dir.Options{Dir: b.dir}); err == nil {
		t.Error("two stores in one directory")
	}
}

// The child of TestKilled: it does things to a store until it is killed, and says
// what it did.
func TestMainOfChild(t *testing.T) {
	folder, source, sent := os.Getenv("DIR_TEST_CHILD"), os.Getenv("DIR_TEST_SOURCE"), os.Getenv("DIR_TEST_SENT")
	if folder == "" {
		t.Skip("it is the child of TestKilled")
	}
	ctx := t.Context()
	s, err := dir.Open(ctx, dir.Options{Dir: folder, Fetch: fetch.Options{Private: true}})
	if err != nil {
		t.Fatal(err)
	}
	say := func(format string, args ...any) { fmt.Printf("said "+format+"\n", args...) }
	which := 0
	if os.Getenv("DIR_TEST_TAKES") != "" {
		which = 1
	}
	for n := 0; ; n++ {
		image, moved := fmt.Sprintf("i%d", n), fmt.Sprintf("m%d", n)
		g := &mistify.Guest{ID: uuid.NewString(), Disks: []mistify.Disk{{Image: image}, {Size: 1}}}
		taker := &mistify.Guest{ID: uuid.NewString(), Disks: []mistify.Disk{{Image: moved, Take: true, Size: uint64(1 + n%2)}}}
		r := at(g, "", "")
		r.Dest = "s"
		lives := [2][]func() error{{
			func() error {
				_, err := s.FetchImage(ctx, &mistify.ImageRequest{ID: image, Source: source})
				return err
			},
			func() error { _, err := s.CreateGuestDisks(ctx, &mistify.GuestRequest{Guest: g}); return err },
			func() error { say("made %s", g.ID); return nil },
			func() error { _, err := s.CreateSnapshot(ctx, r); return err },
			func() error { say("taken %s", g.ID); return nil },
			func() error { _, err := s.RollbackSnapshot(ctx, at(g, "", "s")); return err },
			func() error { say("leaving %s", g.ID); _, err := s.DeleteSnapshot(ctx, at(g, "", "s")); return err },
			func() error { say("going %s", g.ID); return nil },
			func() error { _, err := s.DeleteGuestDisks(ctx, &mistify.GuestRequest{Guest: g}); return err },
			func() error { say("gone %s", g.ID); return nil },
			func() error { _, err := s.DeleteImage(ctx, &mistify.ImageRequest{ID: image}); return err },
		}, {
			func() error {
				f, err := os.Open(sent)
				if err == nil {
					_, err = s.PutImage(ctx, &mistify.ImageRequest{ID: moved}, f)
				}
				return err
			},
			func() error { say("taking %s", taker.ID); return nil },
			func() error { _, err := s.CreateGuestDisks(ctx, &mistify.GuestRequest{Guest: taker}); return err },
			func() error { say("took %s", taker.ID); return nil },
			func() error { _, err := s.ListVolumes(ctx, &mistify.VolumeRequest{}); return err },
			func() error { say("dropping %s", taker.ID); return nil },
			func() error { _, err := s.DeleteGuestDisks(ctx, &mistify.GuestRequest{Guest: taker}); return err },
			func() error { say("dropped %s", taker.ID); return nil },
		}}
		for _, do := range lives[which] {
			if err := do(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestKilled(t *testing.T) {
	b := newBench(t)
	b.image("i.qcow2", "qcow2", 1, 'i')
	b.tool("qemu-img", "convert", "-f", "qcow2", "-O", "raw", "i.qcow2", "i.raw")
	b.tool("qemu-img", "convert", "-c", "-f", "qcow2", "-O", "qcow2", "i.qcow2", "i.packed")
	sources := []string{"i.qcow2", "i.raw", "i.packed"} // kept as it is, raw too, and made anew
	seed := uint64(testlong.Seed(t))
	chance := rand.New(rand.NewPCG(seed, seed))
	for round := range testlong.Count(t, 200) {
		b.close()
		cmd := exec.Command(os.Args[0], "-test.run=^TestMainOfChild$", "-test.count=1")
		cmd.Env = append(os.Environ(), "DIR_TEST_CHILD="+b.dir, "DIR_TEST_SOURCE="+b.url+"/"+sources[round%len(sources)], "DIR_TEST_SENT="+filepath.Join(b.web, sources[round%len(sources)]))
		if round%2 == 1 {
			cmd.Env = append(cmd.Env, "DIR_TEST_TAKES=1")
		}
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &said, &said
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		// The moment of death is the point here, and nothing waits for it.
		timer := time.NewTimer(time.Duration(30+chance.IntN(500)) * time.Millisecond)
		select {
		case <-timer.C:
			if err := cmd.Process.Kill(); err != nil {
				t.Error(err)
			}
			if err := <-ended; err == nil {
				t.Error("the child ended well")
			}
		case err := <-ended:
			t.Fatalf("the child ended by itself: %v: %s", err, said.Bytes())
		}
		last := map[string]string{}
		lines := bufio.NewScanner(bytes.NewReader(said.Bytes()))
		for lines.Scan() {
			if words := strings.Fields(lines.Text()); len(words) == 3 && words[0] == "said" {
				last[words[2]] = words[1]
			}
		}
		b.open(dir.Options{})
		b.afterDeath(round, last)
	}
}

// afterDeath checks what a killed process left, and removes it.
func (b *bench) afterDeath(round int, last map[string]string) {
	b.Helper()
	b.tidy()
	left, err := os.ReadDir(filepath.Join(b.dir, "guests"))
	if err != nil {
		b.Fatal(err)
	}
	there := map[string]bool{}
	for _, e := range left {
		g := &mistify.Guest{ID: e.Name()}
		there[g.ID] = true
		b.afterTake(round, g.ID, last[g.ID])
		out, err := b.s.ListSnapshots(b.Context(), at(g, "", ""))
		if err != nil {
			b.Errorf("round %d: %v", round, err)
			continue
		}
		if n := len(out.Snapshots); n != 0 && n != 3 || n == 0 && last[g.ID] == "taken" || n != 0 && last[g.ID] == "going" {
			b.Errorf("round %d: after %q the snapshots are %v", round, last[g.ID], ids(out))
		}
		if _, err := b.s.DeleteGuestDisks(b.Context(), &mistify.GuestRequest{Guest: g}); err != nil {
			b.Error(err)
		}
	}
	for id, word := range last {
		gone, either := word == "gone" || word == "dropped", word == "going" || word == "dropping" || word == "taking"
		if there[id] == gone && !either {
			b.Errorf("round %d: after %q the disks of %s are there: %v", round, word, id, there[id])
		}
	}
	out, err := b.s.ListImages(b.Context(), &mistify.ImageRequest{})
	if err != nil || len(out.Images) > 1 {
		b.Errorf("round %d: the images are %+v (%v)", round, out, err)
	}
	for _, i := range out.Images {
		b.whole(i.ID, "i.qcow2")
		if _, err := b.s.DeleteImage(b.Context(), &mistify.ImageRequest{ID: i.ID}); err != nil {
			b.Error(err)
		}
	}
}

// afterTake checks that there is no image any more which is a disk, and that this
// is whole.
func (b *bench) afterTake(round int, guest, word string) {
	b.Helper()
	if word != "taking" && word != "took" && word != "dropping" {
		return
	}
	disk := filepath.Join(b.dir, "guests", guest, "disk-0.qcow2")
	_, err := os.Stat(disk)
	if errors.Is(err, os.ErrNotExist) && word == "taking" {
		return
	}
	if err != nil {
		b.Errorf("round %d: after %q: %v", round, word, err)
		return
	}
	b.tool("qemu-img", "compare", "-q", "-f", "qcow2", "-F", "qcow2", disk, "i.qcow2")
	if out, err := b.s.ListImages(b.Context(), &mistify.ImageRequest{}); err != nil || len(out.Images) > 0 {
		b.Errorf("round %d: after %q the disk is there, and the images %+v (%v)", round, word, out, err)
	}
}
