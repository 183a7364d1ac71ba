package schedulertest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vagoth/vagoth/internal/powercut"
	"github.com/vagoth/vagoth/internal/testlong"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// childEnv is set in the process that is going to be killed: the store, and how
// far each submitter has come, and in which boot of the machine.
const (
	childEnv = "VAGOTH_SCHEDULERTEST_CHILD"
	childAt  = "VAGOTH_SCHEDULERTEST_AT"
	childIn  = "VAGOTH_SCHEDULERTEST_BOOT"
)

// Main is for TestMain: it runs the package's tests, or, in the process that the
// tests start to kill it, a crew. run is m.Run, or what does more around it.
func Main(run func() int, open Opener) {
	dir := os.Getenv(childEnv)
	if dir == "" {
		os.Exit(run())
	}
	if err := child(open, dir); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func child(open Opener, dir string) error {
	at := make([]int, submitters)
	for i, s := range strings.Fields(os.Getenv(childAt)) {
		if _, err := fmt.Sscan(s, &at[i]); err != nil {
			return err
		}
	}
	c, err := openCrew(context.Background(), open, dir, os.Getenv(childIn), os.Stdout)
	if err != nil {
		return err
	}
	return c.work(context.Background(), true, at)
}

// ledger is what crews have said: what must be true of the store.
type ledger struct {
	t         *testing.T
	mu        sync.Mutex
	submitted []int            // by submitter: the last package that was taken
	done      map[string]bool  // jobs whose end was acknowledged
	holders   map[string]begun // by queue: who has it, or had it last
	attempts  map[string]int   // by job: the last one that began
	open      map[string]begun // jobs that a worker outside had when it was killed
	boot      string           // of the machine
	count     struct{ rounds, begun, again int }
}

type begun struct {
	job     string
	attempt int
	token   trail.Token
	left    bool
}

func newLedger(t *testing.T) *ledger {
	return &ledger{t: t, submitted: slices.Repeat([]int{0}, submitters), done: map[string]bool{}, holders: map[string]begun{}, attempts: map[string]int{}, open: map[string]begun{}}
}

// Write makes a ledger the ear of a crew in this process.
func (g *ledger) Write(line []byte) (int, error) {
	g.hear(string(line))
	return len(line), nil
}

// hear takes what a crew says, and checks what can be checked at once: that no
// two jobs of a queue overlap, that they begin in order, and that attempts and
// tokens grow.
func (g *ledger) hear(line string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	words := strings.Fields(line)
	if len(words) < 2 {
		return
	}
	var w, n, k int
	job := words[1]
	switch words[0] {
	case "submitted":
		if _, err := fmt.Sscan(line, &words[0], &w, &n); err != nil || w >= submitters {
			g.t.Errorf("the crew says %q: %v", line, err)
			return
		}
		g.submitted[w] = max(g.submitted[w], n)
	case "done":
		g.done[job] = true
		delete(g.open, job)
	case "left":
		if _, err := fmt.Sscanf(job, "w%d-%d-%d", &w, &n, &k); err != nil {
			g.t.Errorf("the crew says %q: %v", line, err)
			return
		}
		h := g.holders[crewQueue(w, k)]
		if h.job != job {
			g.t.Errorf("%s is left, and %s has its queue", job, h.job)
		}
		h.left = true
		g.holders[crewQueue(w, k)] = h
	case "begun":
		var b begun
		if _, err := fmt.Sscanf(line, "begun %s %d %d.%d", &b.job, &b.attempt, &b.token.Epoch, &b.token.Number); err != nil {
			g.t.Errorf("the crew says %q: %v", line, err)
			return
		}
		if _, err := fmt.Sscanf(job, "w%d-%d-%d", &w, &n, &k); err != nil {
			g.t.Errorf("the crew says %q: %v", line, err)
			return
		}
		g.begins(crewQueue(w, k), n, b)
	}
}

func (g *ledger) begins(queue string, n int, b begun) {
	g.count.begun++
	last := g.holders[queue]
	var lastN, w, k int
	if last.job != "" {
		if _, err := fmt.Sscanf(last.job, "w%d-%d-%d", &w, &lastN, &k); err != nil {
			g.t.Error(err)
		}
		if !last.left {
			g.t.Errorf("queue %s: %s (attempt %d, token %s) began while %s (attempt %d, token %s) ran", queue, b.job, b.attempt, b.token, last.job, last.attempt, last.token)
		}
		if b.token.Compare(last.token) <= 0 {
			g.t.Errorf("queue %s: token %s of %s follows %s of %s", queue, b.token, b.job, last.token, last.job)
		}
		if k < 2 && n < lastN { // those that depend on others may overtake
			g.t.Errorf("queue %s: %s began after %s", queue, b.job, last.job)
		}
	}
	if a := g.attempts[b.job]; a > 0 {
		g.count.again++
		if b.attempt <= a {
			g.t.Errorf("attempt %d of %s follows attempt %d", b.attempt, b.job, a)
		}
	}
	if g.done[b.job] {
		g.t.Errorf("%s began again as attempt %d, and its end was acknowledged", b.job, b.attempt)
	}
	g.attempts[b.job] = b.attempt
	g.holders[queue] = b
	if strings.HasPrefix(queue, "r-") {
		g.open[b.job] = b
	}
}

// died says that the crew's process is no more: nobody has anything.
func (g *ledger) died() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.count.rounds++
	for q, h := range g.holders {
		h.left = true
		g.holders[q] = h
	}
}

// at is where the next crew goes on.
func (g *ledger) at() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	next := make([]int, submitters)
	for i, n := range g.submitted {
		next[i] = n + 1
	}
	return strings.Trim(fmt.Sprint(next), "[]")
}

// check compares a store that was opened with what crews said. All of it, or
// only the last packages of each submitter.
func (g *ledger) check(s scheduler.Scheduler, all bool) {
	g.t.Helper()
	g.mu.Lock()
	defer g.mu.Unlock()
	for w, last := range g.submitted {
		from := 1
		if !all {
			from = max(1, last-20)
		}
		for n := from; n <= last+1; n++ {
			there := 0
			for k := range packageJobs {
				id := crewJob(w, n, k)
				st, err := s.Status(ctx(), id)
				switch {
				case errors.Is(err, scheduler.ErrNotFound):
					continue
				case err != nil:
					g.t.Fatal(err)
				}
				there++
				if g.done[id] && st.State != scheduler.Succeeded {
					g.t.Fatalf("the end of %s was acknowledged, and it is %s (attempt %d)", id, st.State, st.Attempt)
				}
				if st.Attempt < g.attempts[id] && st.State != scheduler.Waiting {
					g.t.Fatalf("%s has had attempt %d, and says %d", id, g.attempts[id], st.Attempt)
				}
				if st.State.Ended() && st.State != scheduler.Succeeded {
					g.t.Fatalf("%s is %s: %s", id, st.State, st.Error)
				}
			}
			if n <= last && there != packageJobs {
				g.t.Fatalf("package %s was acknowledged, and has %d of its %d jobs", crewPackage(w, n), there, packageJobs)
			}
			if there != 0 && there != packageJobs {
				g.t.Fatalf("half a package: %s has %d of its %d jobs", crewPackage(w, n), there, packageJobs)
			}
		}
	}
}

// settle lets the workers outside of the crew that was killed come back, as if
// only their scheduler had died: some complete, some give back.
func (g *ledger) settle(s scheduler.Scheduler) {
	g.t.Helper()
	b, ok := s.(scheduler.Broker)
	if !ok {
		g.t.Fatal("it is no Broker")
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	i := 0
	for id, l := range g.open {
		hold := scheduler.Hold{Job: id, Token: l.token}
		before, err := s.Status(ctx(), id)
		if err != nil {
			g.t.Fatal(err)
		}
		if i++; i%2 == 0 {
			list, errs := b.Complete(ctx(), scheduler.Completion{Hold: hold, Result: scheduler.MustParams(map[string]int{"late": 1})})
			if err = errs[0]; err == nil && list[0].State == scheduler.Succeeded {
				g.done[id] = true
			}
		} else {
			err = b.HandBack(ctx(), hold, "the scheduler was gone")
		}
		if held := before.State == scheduler.Running && before.Token == l.token; held != (err == nil) || err != nil && !errors.Is(err, scheduler.ErrStale) {
			g.t.Errorf("%s with token %s, which is %s with token %s: %v", id, l.token, before.State, before.Token, err)
		}
	}
	clear(g.open)
	// Some had got a job and were killed before they said so.
	for st, err := range s.List(ctx(), scheduler.Filter{States: []scheduler.State{scheduler.Running}}) {
		if err != nil {
			g.t.Fatal(err)
		}
		if err := b.HandBack(ctx(), scheduler.Hold{Job: st.ID, Token: st.Token}, "its worker was killed"); err != nil {
			g.t.Errorf("giving %s back with its own token %s: %v", st.ID, st.Token, err)
		}
	}
}

// drain lets a crew in this process bring everything to its end.
func (g *ledger) drain(open Opener, dir string) {
	g.t.Helper()
	c, err := openCrew(g.t.Context(), open, dir, g.boot, g)
	if err != nil {
		g.t.Fatal(err)
	}
	until, cancel := context.WithTimeout(g.t.Context(), time.Minute)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- c.work(until, false, nil) }()
	q, ok := c.s.(scheduler.QueueInspector)
	if !ok {
		g.t.Fatal("it is no QueueInspector")
	}
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		st, err := q.Stats(ctx())
		if err != nil {
			g.t.Fatal(err)
		}
		if st.Waiting+st.Running+st.Parked == 0 {
			break
		}
		select {
		case <-until.Done():
			g.t.Errorf("after a minute %d jobs wait and %d run: not every job ends", st.Waiting, st.Running)
		case <-tick.C:
			continue
		}
		break
	}
	cancel()
	if err := <-ended; err != nil {
		g.t.Error(err)
	}
	g.died()
	g.check(c.s, true)
	if err := c.s.Close(); err != nil {
		g.t.Error(err)
	}
}

// crash runs a crew in a process of its own until end is called on it.
func (g *ledger) crash(dir string, waitFirst bool, end func(*exec.Cmd)) {
	g.t.Helper()
	cmd := exec.Command(os.Args[0]) //nolint:gosec // this very program
	cmd.Env = append(os.Environ(), childEnv+"="+dir, childAt+"="+g.at(), childIn+"="+g.boot)
	out, err := cmd.StdoutPipe()
	if err != nil {
		g.t.Fatal(err)
	}
	var complaints strings.Builder
	cmd.Stderr = &complaints
	if err := cmd.Start(); err != nil {
		g.t.Fatal(err)
	}
	first := make(chan struct{})
	var reading sync.WaitGroup
	reading.Go(func() {
		var once sync.Once
		defer once.Do(func() { close(first) })
		r := bufio.NewReader(out)
		for {
			line, err := r.ReadString('\n')
			if err != nil { // half a line was not said
				if !errors.Is(err, io.EOF) {
					g.t.Error(err)
				}
				return
			}
			once.Do(func() { close(first) })
			g.hear(line)
		}
	})
	if waitFirst {
		select {
		case <-first:
		case <-time.After(patience):
			g.t.Error("the crew says nothing")
		}
	}
	end(cmd)
	reading.Wait()
	_ = cmd.Wait() // it was killed
	g.died()
	if complaints.Len() > 0 {
		g.t.Logf("the crew complained: %s", complaints.String())
	}
}

// patience is how long something that must happen may take on a busy machine.
const patience = 30 * time.Second

// group is how many rounds one store goes through before all must have ended.
const group = 25

// rounds crashes crews over and over, of so many stores at a time.
func rounds(t *testing.T, open Opener, total, atOnce int, store func(group int) string, crash func(g *ledger, dir string, rnd *rand.Rand)) {
	t.Helper()
	seed := testlong.Seed(t)
	var mu sync.Mutex
	var begun, again, packages int
	slots := make(chan struct{}, atOnce)
	t.Run("stores", func(t *testing.T) {
		for from := 0; from < total; from += group {
			t.Run(fmt.Sprint(from), func(t *testing.T) {
				t.Parallel()
				slots <- struct{}{}
				defer func() { <-slots }()
				rnd := rand.New(rand.NewSource(seed + int64(from))) //nolint:gosec // a test's choices
				dir := store(from / group)
				g := newLedger(t)
				for range min(group, total-from) {
					crash(g, dir, rnd)
					v := mustOpen(t, open, dir, crewSettings(g.boot))
					g.check(v, false)
					g.settle(v)
					closeOf(t, v)
					if t.Failed() {
						t.Fatalf("in round %d", from+g.count.rounds)
					}
				}
				g.drain(open, dir)
				mu.Lock()
				defer mu.Unlock()
				begun, again = begun+g.count.begun, again+g.count.again
				for _, n := range g.submitted {
					packages += n
				}
			})
		}
	})
	t.Logf("%d packages, %d attempts, %d of them not the first", packages, begun, again)
	if packages == 0 || again == 0 {
		t.Error("nothing was interrupted")
	}
}

// inMemory is a folder of the test's that needs no disk, where the machine has one:
// a killed process leaves the same there, and hundreds of rounds wait for no sync.
func inMemory(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "schedulertest")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func kills(t *testing.T, open Opener) {
	bases := []string{t.TempDir(), inMemory(t), inMemory(t), inMemory(t)} // a quarter on the disk
	store := func(n int) string { return filepath.Join(bases[n%len(bases)], fmt.Sprint("store", n)) }
	rounds(t, open, testlong.Count(t, 500), 4, store, func(g *ledger, dir string, rnd *rand.Rand) {
		delay := time.Duration(rnd.Int63n(int64(120 * time.Millisecond)))
		g.crash(dir, rnd.Intn(5) > 0, func(cmd *exec.Cmd) {
			time.Sleep(delay) // the random moment itself, nothing is waited for
			if err := cmd.Process.Kill(); err != nil {
				g.t.Error(err)
			}
		})
	})
}

func powerCuts(t *testing.T, open Opener) {
	disk := powercut.New(t, 256)
	store := func(n int) string { return filepath.Join(disk.Dir(), fmt.Sprint("store", n)) }
	rounds(t, open, testlong.Count(t, 50), 1, store, func(g *ledger, dir string, rnd *rand.Rand) {
		delay := time.Duration(rnd.Int63n(int64(150 * time.Millisecond)))
		g.crash(dir, true, func(cmd *exec.Cmd) {
			time.Sleep(delay) // the random moment itself, nothing is waited for
			disk.Cut()
			_ = cmd.Process.Kill() // it may have ended by its errors
		})
		disk.Remount()
		g.boot = fmt.Sprint("after-", g.count.rounds)
	})
}
