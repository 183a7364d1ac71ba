package hosts

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/internal/testlong"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// A VM moves with its disks from host to host, and one of the two agents is killed while
// it does. Once the move was asked for again, the VM and its disks are on the one host,
// whole, and nothing of them is on the other.
func TestMovedKilled(t *testing.T) {
	t.Parallel()
	hosts := map[string]*doomed{}
	for name, as := range map[string]string{"h1": "one", "h2": "two"} {
		h := newBare(t, as)
		d := &doomed{host: h, ini: h.ini("127.0.0.1:0"), hit: map[word]int{}}
		d.live()
		h.ini(strings.TrimPrefix(h.url, "http://")) // where the next life listens too
		hosts[name] = d
	}
	c := newCluster(t, map[string]*host{"h1": hosts["h1"].host, "h2": hosts["h2"].host})
	seed := uint64(testlong.Seed(t))
	chance := rand.New(rand.NewPCG(seed, 5))

	folder, url := web(t)
	content := make([]byte, 8<<20)
	for i := range content {
		content[i] = byte(chance.Uint32())
	}
	c.must("write the image", os.WriteFile(filepath.Join(folder, "base.img"), content, 0o600))
	sum := sha256.Sum256(content)
	hosts["h1"].done(hosts["h1"].client.FetchImage(t.Context(), mistify.ImageRequest{ID: "base", Source: url + "/base.img"}))
	vm := c.vm("web1", virt.Definition{CPU: 1, Memory: 16, Image: "base", Disks: []virt.Disk{{Image: "base"}, {Size: 4}}, Console: virt.Console{Serial: "none"}})
	c.must("define", c.done(vm.With(virt.Options{Host: "h1"}).Define(c.ctx)))
	c.must("provision", c.done(vm.Provision(c.ctx)))
	begun := time.Now()
	c.must("migrate", c.done(vm.Migrate(c.ctx, "h2")))
	hosts["h1"].done(hosts["h1"].client.DeleteImage(t.Context(), "base"))
	longest := time.Since(begun)

	from, to, disturbed := "h2", "h1", 0
	rounds := testlong.Count(t, 60)
	for round := range rounds {
		moved := make(chan error, 1)
		go func() { moved <- c.done(vm.Migrate(c.ctx, to)) }()
		victim := hosts[[]string{from, to}[chance.IntN(2)]]
		// The moment of death is the point here, and nothing waits for it.
		timer := time.NewTimer(time.Duration(chance.Int64N(int64(longest))))
		<-timer.C
		victim.die()
		victim.live()
		if err := <-moved; err != nil {
			disturbed++
			again := c.moved(vm, to)
			t.Logf("round %d: %v; then %d times more", round, err, again)
		}
		for _, d := range hosts {
			d.settled()
		}
		if virt.LeftOn(c.node("web1")) != "" { // it has moved, and did not wait for the host that it has left
			disturbed++
			c.moved(vm, to)
		}
		c.is("web1", to, virt.Stopped)
		if n := c.node("web1"); virt.DisksOn(n) != to || virt.LeftOn(n) != "" || virt.MovesTo(n) != "" {
			t.Errorf("round %d: its disks are on %s, left on %q, moving to %q", round, virt.DisksOn(n), virt.LeftOn(n), virt.MovesTo(n))
		}
		hosts[from].empty(round)
		hosts[to].holds(round, hex.EncodeToString(sum[:]))
		if t.Failed() {
			return
		}
		from, to = to, from
	}
	if rounds >= 6 && disturbed == 0 {
		t.Errorf("none of %d moves was disturbed", rounds)
	}
	c.must("undefine", c.done(vm.Undefine(c.ctx)))
	c.must("deprovision", c.done(vm.Deprovision(c.ctx)))
	for _, d := range hosts {
		d.empty(-1)
		if err := errors.Join(d.stdin.Close(), <-d.ended); err != nil {
			t.Errorf("the agent's end: %v", err)
		}
	}
}

// moved asks for a move until it is done, and returns how often that was.
func (c *cluster) moved(vm *virt.VirtualMachine, to string) (times int) {
	c.Helper()
	ctx, cancel := context.WithTimeout(c.ctx, patience)
	defer cancel()
	for times = 1; ; times++ {
		err := c.done(vm.Migrate(ctx, to))
		if err == nil {
			return times
		}
		if ctx.Err() != nil {
			c.Fatalf("asked %d times, it does not move to %s: %v", times, to, err)
		}
	}
}

// empty wants nothing of any guest on the host.
func (d *doomed) empty(round int) {
	d.Helper()
	if left := append(d.domains("--all"), d.files()...); len(left) > 0 {
		d.Errorf("round %d: left where it was are %v", round, left)
	}
	d.tidy(round)
}

// tidy wants nothing that is half made, and no image.
func (d *doomed) tidy(round int) {
	d.Helper()
	for _, name := range []string{"half", "incoming", "images"} {
		if left := d.folder(name); len(left) > 0 {
			d.Errorf("round %d: %s has %v", round, name, left)
		}
	}
}

// holds wants one guest with its two disks, of which the first begins with the content.
func (d *doomed) holds(round int, sum string) {
	d.Helper()
	d.tidy(round)
	var disks []string
	for _, f := range d.files() {
		if filepath.Ext(f) == ".qcow2" {
			disks = append(disks, f)
		}
	}
	if domains := d.domains("--all"); len(domains) != 1 || len(disks) != 2 {
		d.Errorf("round %d: there are the domains %v and the disks %v", round, domains, disks)
		return
	}
	raw := filepath.Join(d.TempDir(), "raw")
	out, err := exec.Command("qemu-img", "convert", "-f", "qcow2", "-O", "raw", disks[0], raw).CombinedOutput()
	if err != nil {
		d.Errorf("round %d: %v: %s", round, err, out)
		return
	}
	data, err := os.ReadFile(raw)
	d.must("read the disk", err)
	if got := sha256.Sum256(data); hex.EncodeToString(got[:]) != sum {
		d.Errorf("round %d: the disk has %d bytes, and they are others", round, len(data))
	}
	d.must("remove the copy", os.Remove(raw))
}
