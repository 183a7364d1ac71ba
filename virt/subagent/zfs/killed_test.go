package zfs_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/internal/testlong"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/fetch"
	"github.com/vagoth/vagoth/virt/subagent/storetest"
	"github.com/vagoth/vagoth/virt/subagent/zfs"
)

// childVariable makes this program do things to a store until it is killed, and
// say what it did: its words are the pool, the folder and the source of an image.
const childVariable = "VAGOTH_ZFS_TEST_CHILD"

func child() int {
	words := strings.Fields(os.Getenv(childVariable))
	ctx := context.Background()
	s, err := zfs.Open(ctx, zfs.Options{Pool: words[0], Dir: words[1], Fetch: fetch.Options{Private: true}})
	if err != nil {
		fmt.Println(err)
		return 1
	}
	say := func(format string, args ...any) { fmt.Printf("said "+format+"\n", args...) }
	for n := 0; ; n++ {
		image := fmt.Sprintf("i%d", n)
		g := guest(mistify.Disk{Image: image}, mistify.Disk{Size: 1})
		for _, do := range []func() error{
			func() error {
				_, err := s.FetchImage(ctx, &mistify.ImageRequest{ID: image, Source: words[2]})
				return err
			},
			func() error { _, err := s.CreateGuestDisks(ctx, &mistify.GuestRequest{Guest: g}); return err },
			func() error { say("made %s", g.ID); return nil },
			func() error {
				r := storetest.At(g, "", "")
				r.Dest = "s"
				_, err := s.CreateSnapshot(ctx, r)
				return err
			},
			func() error { say("taken %s", g.ID); return nil },
			func() error { _, err := s.RollbackSnapshot(ctx, storetest.At(g, "", "s")); return err },
			func() error {
				say("leaving %s", g.ID)
				_, err := s.DeleteSnapshot(ctx, storetest.At(g, "", "s"))
				return err
			},
			func() error { say("going %s", g.ID); return nil },
			func() error { _, err := s.DeleteGuestDisks(ctx, &mistify.GuestRequest{Guest: g}); return err },
			func() error { say("gone %s", g.ID); return nil },
			func() error { _, err := s.DeleteImage(ctx, &mistify.ImageRequest{ID: image}); return err },
		} {
			if err := do(); err != nil {
				fmt.Println(err)
				return 1
			}
		}
	}
}

// killed kills a process that makes and removes disks, and looks at what it left.
func killed(t *testing.T) {
	p := newPool(t, 256)
	source := web(t, map[string][]byte{"i": bytes.Repeat([]byte("i"), 1<<20)}) + "/i"
	seed := uint64(testlong.Seed(t))
	chance := rand.New(rand.NewPCG(seed, seed))
	// A life of the child from one end to the other, as long as it takes here.
	longest := p.life(source)
	begun := time.Now()
	for round := range testlong.Count(t, 200) {
		p.close()
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), childVariable+"="+strings.Join([]string{p.name, p.dir, source}, " "))
		var said bytes.Buffer
		cmd.Stdout, cmd.Stderr = &said, &said
		p.do(cmd.Start())
		ended := make(chan error, 1)
		go func() { ended <- cmd.Wait() }()
		// The moment of death is the point here, and nothing waits for it.
		timer := time.NewTimer(time.Duration(chance.Int64N(int64(longest))))
		select {
		case <-timer.C:
			p.do(cmd.Process.Kill())
			if err := <-ended; err == nil {
				t.Error("the child ended well")
			}
		case err := <-ended:
			t.Fatalf("the child ended by itself: %v: %s", err, said.Bytes())
		}
		p.open()
		p.afterDeath(round, lastWords(said.Bytes()))
		if round%10 == 9 {
			t.Logf("%d rounds, %s each", round+1, (time.Since(begun) / time.Duration(round+1)).Round(10*time.Millisecond))
		}
	}
}

// life runs the child until it begins anew, and tells how long that took.
func (p *pool) life(source string) time.Duration {
	p.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childVariable+"="+strings.Join([]string{p.name, p.dir, source}, " "))
	out, err := cmd.StdoutPipe()
	p.do(err)
	begun := time.Now()
	p.do(cmd.Start())
	lines, text := bufio.NewScanner(out), ""
	for !strings.HasPrefix(text, "said gone ") && lines.Scan() {
		text = lines.Text()
	}
	took := time.Since(begun)
	p.do(cmd.Process.Kill())
	_ = cmd.Wait() // it was killed, and says so
	if !strings.HasPrefix(text, "said gone ") {
		p.Fatalf("the child ended by itself: %s", text)
	}
	p.open()
	p.afterDeath(-1, map[string]string{})
	return took
}

func lastWords(said []byte) map[string]string {
	last := map[string]string{}
	lines := bufio.NewScanner(bytes.NewReader(said))
	for lines.Scan() {
		if words := strings.Fields(lines.Text()); len(words) == 3 && words[0] == "said" {
			last[words[2]] = words[1]
		}
	}
	return last
}

// afterDeath checks what a killed process left, and removes it.
func (p *pool) afterDeath(round int, last map[string]string) {
	p.Helper()
	ctx := p.Context()
	there := map[string]bool{}
	for _, name := range p.all() {
		if strings.Contains(name, "/half/") || strings.HasPrefix(name, ".half") {
			p.Errorf("round %d: left is %s", round, name)
		}
		rest, ok := strings.CutPrefix(name, p.dataset("guests/"))
		if !ok || strings.ContainsAny(rest, "/@") {
			continue
		}
		g := &mistify.Guest{ID: rest}
		there[g.ID] = true
		list, err := p.s.ListVolumes(ctx, &mistify.VolumeRequest{})
		if err != nil || len(list.Volumes) != 2 {
			p.Errorf("round %d: the disks are %+v (%v), want two or none", round, list, err)
		}
		out, err := p.s.ListSnapshots(ctx, storetest.At(g, "", ""))
		if err != nil {
			p.Errorf("round %d: %v", round, err)
			continue
		}
		if n := len(out.Snapshots); n != 0 && n != 3 || n == 0 && last[g.ID] == "taken" || n != 0 && last[g.ID] == "going" {
			p.Errorf("round %d: after %q the snapshots are %v", round, last[g.ID], storetest.IDs(out))
		}
		if _, err := p.s.DeleteGuestDisks(ctx, &mistify.GuestRequest{Guest: g}); err != nil {
			p.Errorf("round %d: %v", round, err)
		}
	}
	for id, word := range last {
		if there[id] == (word == "gone") && word != "going" {
			p.Errorf("round %d: after %q the disks of %s are there: %v", round, word, id, there[id])
		}
	}
	images, err := p.s.ListImages(ctx, &mistify.ImageRequest{})
	if err != nil || len(images.Images) > 1 {
		p.Errorf("round %d: the images are %+v (%v)", round, images, err)
		return
	}
	for _, i := range images.Images {
		if _, err := p.s.DeleteImage(ctx, &mistify.ImageRequest{ID: i.ID}); err != nil {
			p.Errorf("round %d: %v", round, err)
		}
	}
	if now := p.all(); len(now) != 6 { // the pool, the parent and its four folders
		p.Errorf("round %d: left is %q", round, now)
	}
}
