package hosts

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/vagoth/vagoth/cmd/vagoth/hostagent"
	"github.com/vagoth/vagoth/internal/testlong"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// childEnv names the file of the agent that this program is to be, and nothing
// else.
const childEnv = "VAGOTH_HOSTS_TEST_AGENT"

// child is an agent that runs until it is killed, or whoever started it is gone.
func child(ini string) int {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	err := hostagent.Run(ctx, hostagent.Options{
		Load: func() (*hostagent.Settings, error) { return hostagent.Read(hostagent.Source{INI: ini}, menu()) }, Version: "test",
		LogTo: os.Stderr, LockWait: patience, Ready: func(address string) { fmt.Println("ready", address) },
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// What became of a guest or an image, as far as its agent has said so.
type word string

const (
	asked word = "asked for"
	made  word = "made"
	going word = "to be removed"
)

// doomed is a host whose agent is a process that is killed again and again.
type doomed struct {
	*host
	ini string
	url string // of images

	make  func(seed bool) mistify.Guest        // a guest that is asked for
	fetch func(id string) mistify.ImageRequest // an image

	cmd   *exec.Cmd
	stdin io.Closer
	ended chan error

	mu     sync.Mutex
	dying  bool
	guests map[string]word // those that are not known to be gone
	images map[string]word
	hit    map[word]int // how many guests and images were what when the agent died
}

// live starts the agent.
func (d *doomed) live() {
	d.Helper()
	d.started++
	log, err := os.Create(d.file(fmt.Sprintf("agent-%d.log", d.started)))
	d.must("make the log", err)
	defer func() { d.must("close the log", log.Close()) }()
	d.cmd = exec.Command(os.Args[0])
	d.cmd.Env, d.cmd.Stderr = append(os.Environ(), childEnv+"="+d.ini), log
	in, err := d.cmd.StdinPipe()
	d.must("make a pipe", err)
	out, err := d.cmd.StdoutPipe()
	d.must("make a pipe", err)
	d.must("start the agent", d.cmd.Start())
	d.stdin, d.ended = in, make(chan error, 1)
	line, err := bufio.NewReader(out).ReadString('\n')
	address, ok := strings.CutPrefix(strings.TrimSpace(line), "ready ")
	go func(cmd *exec.Cmd, ended chan error) { ended <- cmd.Wait() }(d.cmd, d.ended)
	if !ok {
		said, _ := os.ReadFile(log.Name())
		d.Fatalf("the agent did not start: %v: %s", err, said)
	}
	d.host.url = "http://" + address
	transport := &http.Transport{}
	d.Cleanup(transport.CloseIdleConnections)
	d.client, err = mistify.NewClient("http://"+address, mistify.ClientOptions{Transport: transport})
	d.must("make a client", err)
	d.dying = false
}

// die kills it.
func (d *doomed) die() {
	d.Helper()
	d.mu.Lock()
	d.dying = true
	d.mu.Unlock()
	d.must("kill the agent", d.cmd.Process.Kill())
	if err := <-d.ended; err == nil {
		d.Error("the agent ended well, and was killed")
	}
	_ = d.stdin.Close()
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, all := range []map[string]word{d.guests, d.images} {
		for _, w := range all {
			d.hit[w]++
		}
	}
}

// put notes what is known of a guest or an image; nothing once it is gone.
func (d *doomed) put(all map[string]word, id string, w word) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if all[id] = w; w == "" {
		delete(all, id)
	}
}

// step asks for a job and waits for it. It is false once the agent is killed; any
// other end than a good one is an error.
func (d *doomed) step(ctx context.Context, what string, ask func() (string, error)) bool {
	job, err := ask()
	var j mistify.Job
	if err == nil {
		j, err = d.client.WaitJob(ctx, job)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case err != nil && d.dying:
		return false
	case err != nil:
		d.Errorf("%s: %v", what, err)
	case j.Status != mistify.JobComplete:
		d.Errorf("%s ended as %s: %s", what, j.Status, j.Message)
	}
	return err == nil
}

// lives makes and removes guests until the agent is killed, beginning with what an
// earlier life left.
func (d *doomed) lives(ctx context.Context, left []string, seed bool) {
	remove := func(id string) bool {
		d.put(d.guests, id, going)
		ok := d.step(ctx, "the removal of "+id, func() (string, error) { return d.client.DeleteGuest(ctx, id) })
		if ok {
			d.put(d.guests, id, "")
		}
		return ok
	}
	for _, id := range left {
		if !remove(id) {
			return
		}
	}
	for {
		g := d.make(seed)
		d.put(d.guests, g.ID, asked)
		if !d.step(ctx, "the creation of "+g.ID, func() (string, error) { _, job, err := d.client.CreateGuest(ctx, g); return job, err }) {
			return
		}
		d.put(d.guests, g.ID, made)
		if !remove(g.ID) {
			return
		}
	}
}

// fetches is lives of images.
func (d *doomed) fetches(ctx context.Context, left []string) {
	remove := func(id string) bool {
		d.put(d.images, id, going)
		ok := d.step(ctx, "the removal of "+id, func() (string, error) { return d.client.DeleteImage(ctx, id) })
		if ok {
			d.put(d.images, id, "")
		}
		return ok
	}
	for _, id := range left {
		if !remove(id) {
			return
		}
	}
	for {
		id := "image-" + uuid.NewString()
		d.put(d.images, id, asked)
		if !d.step(ctx, "the fetch of "+id, func() (string, error) {
			return d.client.FetchImage(ctx, d.fetch(id))
		}) {
			return
		}
		d.put(d.images, id, made)
		if !remove(id) {
			return
		}
	}
}

// settled waits until no job is left to be done. It asks for all of them once: a
// list of a thousand, again and again, takes the processor from what it waits for.
func (d *doomed) settled() {
	d.Helper()
	ctx, cancel := context.WithTimeout(d.Context(), patience)
	defer cancel()
	all, err := d.client.Jobs(ctx, 1000)
	d.must("list the jobs", err)
	for _, j := range all {
		if !j.Status.Ended() {
			open := j
			if j, err = d.client.WaitJob(ctx, open.ID); err != nil {
				d.Fatalf("after a kill the job %s, %s of %s, never ended: %v", open.ID, open.Action, open.GuestID, err)
			}
		}
		// All their stages can be done again, and so they are.
		if j.Status == mistify.JobError && slices.Contains([]string{"create", "delete", "containerCreate", "containerDelete"}, j.Action) {
			d.Errorf("after a kill %s of %s ended as %s: %s", j.Action, j.GuestID, j.Status, j.Message)
		}
	}
}

func (d *doomed) folder(name string) []string {
	d.Helper()
	entries, err := os.ReadDir(d.daemon.File("data/subagents/dir/" + name))
	d.must("list "+name, err)
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names
}

// check compares what the agent, its libvirtd and its disks have, once nothing is
// left to be done, with what was said before the kill.
func (d *doomed) check(round int) {
	d.Helper()
	fail := func(format string, args ...any) {
		d.Helper()
		d.Errorf("round %d: %s", round, fmt.Sprintf(format, args...))
	}
	list, err := d.client.Guests(d.Context())
	d.must("list the guests", err)
	known := make([]string, len(list))
	for i, g := range list {
		known[i] = g.ID
	}
	domains, disks := d.domains("--all"), d.folder("guests")
	for _, all := range [][]string{known, domains, disks} {
		slices.Sort(all)
	}
	if !slices.Equal(known, domains) || !slices.Equal(known, disks) {
		fail("the guests are %v, the domains %v, the disks those of %v; of them was known %v", known, domains, disks, d.guests)
	}
	if running := d.domains("--state-running"); len(running) != len(known) {
		fail("of the guests %v these run: %v", known, running)
	}
	for _, id := range known {
		files := slices.DeleteFunc(d.folder("guests/"+id), func(name string) bool { return name == "made.json" })
		g, err := d.client.Guest(d.Context(), id)
		d.must("look at "+id, err)
		want := []string{"disk-0.qcow2", "disk-1.qcow2"}
		if g.CloudInit.Disk != "" {
			want = slices.Insert(want, 0, "cidata.iso")
		}
		if !slices.Equal(files, want) {
			fail("the guest %s has the files %v, want %v", id, files, want)
		}
		if _, ours := d.guests[id]; !ours {
			fail("the guest %s is there, and was removed", id)
		}
	}
	d.compare(fail, d.guests, known)
	images := slices.DeleteFunc(d.folder("images"), func(name string) bool { return name == "base" })
	for _, id := range images {
		if i, err := d.client.Image(d.Context(), id); err != nil || i.Status != "complete" || d.images[id] == "" {
			fail("the image %s, last %q, is %+v (%v)", id, d.images[id], i, err)
		}
	}
	d.compare(fail, d.images, images)
	for _, name := range []string{"half", "incoming", "volumes"} {
		if left := d.folder(name); len(left) > 0 {
			fail("%s has %v", name, left)
		}
	}
}

// compare misses what was made, and forgets what came to nothing.
func (d *doomed) compare(fail func(string, ...any), all map[string]word, there []string) {
	d.Helper()
	for id, w := range maps.Clone(all) {
		switch {
		case slices.Contains(there, id):
			all[id] = made
		case w == made:
			fail("%s was made, and is gone", id)
			fallthrough
		default:
			delete(all, id)
		}
	}
}

// The agent is killed while guests and images are made and removed; the next one
// goes on. Then each guest that it knows has its domain and its disks, and there
// is nothing else.
func TestKilled(t *testing.T) {
	t.Parallel()
	h := newBare(t, "host")
	d := &doomed{host: h, ini: h.ini("127.0.0.1:0"), guests: map[string]word{}, images: map[string]word{}, hit: map[word]int{}}
	seed := uint64(testlong.Seed(t))
	chance := rand.New(rand.NewPCG(seed, seed))
	folder, url := web(t)
	d.url = url
	image(t, filepath.Join(folder, "base.img"), 1, 0)
	d.live()
	d.done(d.client.FetchImage(t.Context(), mistify.ImageRequest{ID: "base", Source: url + "/base.img"}))
	d.make = func(seed bool) mistify.Guest {
		g := mistify.Guest{ID: uuid.NewString(), CPU: 1, Memory: 16, Disks: []mistify.Disk{{Image: "base"}, {Size: 1}}, Console: virt.Console{Serial: "none"}}
		if seed {
			g.CloudInit = virt.CloudInit{UserData: "#cloud-config\n"}
		}
		return g
	}
	d.fetch = func(id string) mistify.ImageRequest {
		return mistify.ImageRequest{ID: id, Source: d.url + "/base.img"}
	}
	d.rounds(testlong.Count(t, 200), chance, d.check)
	for _, id := range slices.Sorted(maps.Keys(d.guests)) {
		d.done(d.client.DeleteGuest(t.Context(), id))
	}
	if left := fmt.Sprint(h.domains("--all"), h.files()); left != "[] []" && !t.Failed() {
		t.Errorf("in the end there is left: %s", left)
	}
	if err := errors.Join(d.stdin.Close(), <-d.ended); err != nil {
		t.Errorf("the agent's end: %v", err)
	}
}

// rounds kills the agent so often, each time while guests and images are made and
// removed, and checks what is there once the next agent has gone on.
func (d *doomed) rounds(rounds int, chance *rand.Rand, check func(round int)) {
	d.Helper()
	for round := range rounds {
		ctx, cancel := context.WithCancel(d.Context())
		var all sync.WaitGroup
		left := slices.Sorted(maps.Keys(d.guests))
		half := len(left) / 2
		all.Go(func() { d.lives(ctx, left[:half], false) })
		all.Go(func() { d.lives(ctx, left[half:], true) })
		images := slices.Sorted(maps.Keys(d.images))
		all.Go(func() { d.fetches(ctx, images) })
		// The moment of death is the point here, and nothing waits for it.
		timer := time.NewTimer(time.Duration(20+chance.IntN(1800)) * time.Millisecond)
		<-timer.C
		d.die()
		cancel()
		all.Wait()
		d.live()
		d.settled()
		check(round)
		if d.Failed() {
			break
		}
	}
	d.Logf("the guests and images over which it died were %v", d.hit)
	if rounds >= 10 && !d.Failed() && (d.hit[asked] == 0 || d.hit[going] == 0) {
		d.Error("it never died over both creations and removals")
	}
}
