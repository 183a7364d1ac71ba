package broker

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vagoth/vagoth/internal/journal"
	"github.com/vagoth/vagoth/internal/syncbuf"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/scheduler/engine"
)

// shelf is a broker's store, and how it is opened.
type shelf struct {
	t    *testing.T
	dir  string
	boot string

	history int // 0 is the default

	log syncbuf.Buffer
	b   *Broker
}

func newShelf(t *testing.T) *shelf {
	s := &shelf{t: t, dir: t.TempDir(), boot: "first"}
	s.open()
	t.Cleanup(func() {
		if err := s.b.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func (s *shelf) open() {
	s.t.Helper()
	cfg := Defaults()
	cfg.Queues = map[string]QueueConfig{"*": {Remote: true}}
	cfg.HistoryCount = cmp.Or(s.history, cfg.HistoryCount)
	b, err := open(context.Background(), cfg, scheduler.Deps{Data: s.dir, Log: slog.New(slog.NewTextHandler(&s.log, nil))}, 16<<10, s.boot)
	if err != nil {
		s.t.Fatal(err)
	}
	s.b = b
}

// instead opens what change makes of the store as it is, had its process been killed now.
func (s *shelf) instead(change func(dir string)) {
	s.t.Helper()
	var copied string
	for try := 0; ; try++ {
		copied = s.t.TempDir()
		err := os.CopyFS(copied, os.DirFS(s.dir))
		if err == nil {
			break
		}
		if try > 100 || !errors.Is(err, os.ErrNotExist) { // a snapshot came, and what it holds went
			s.t.Fatal(err)
		}
	}
	if err := s.b.Close(); err != nil {
		s.t.Error(err)
	}
	s.dir = copied
	if change != nil {
		change(filepath.Join(copied, folder, building))
	}
	s.open()
}

func (s *shelf) again() {
	s.t.Helper()
	if err := s.b.Close(); err != nil {
		s.t.Fatal(err)
	}
	s.open()
}

// build makes a package of three jobs in three steps.
func (s *shelf) build(id string) {
	s.t.Helper()
	if _, err := s.b.NewPackage(s.t.Context(), scheduler.Package{ID: id, Jobs: []scheduler.Job{{Queue: "q", Action: "do"}}}); err != nil {
		s.t.Fatal(err)
	}
	for range 2 {
		if _, err := s.b.AddJobs(s.t.Context(), id, scheduler.Job{Queue: "q", Action: "do"}); err != nil {
			s.t.Fatal(err)
		}
	}
}

func (s *shelf) enqueue(id string) []scheduler.Status {
	s.t.Helper()
	list, err := s.b.Enqueue(s.t.Context(), id)
	if err != nil {
		s.t.Fatal(err)
	}
	return list
}

// wants compares a package's state and the number of its jobs; no state is that it is
// not known.
func (s *shelf) wants(id string, state scheduler.PackageState, jobs int) {
	s.t.Helper()
	st, err := s.b.Package(s.t.Context(), id)
	if state == "" {
		if !errors.Is(err, scheduler.ErrNotFound) {
			s.t.Errorf("%s is %s with %d jobs (%v), want that it is not known", id, st.State, len(st.Jobs), err)
		}
		return
	}
	if err != nil || st.State != state || len(st.Jobs) != jobs {
		s.t.Errorf("%s is %s with %d jobs (%v), want %s with %d", id, st.State, len(st.Jobs), err, state, jobs)
	}
}

func (s *shelf) size() int64 {
	info, err := os.Stat(filepath.Join(s.dir, folder, building))
	if err != nil {
		return 0
	}
	return info.Size()
}

// A machine that goes down while a package is built may have lost the last steps, so
// none of it is continued; what was enqueued, or closed in order, is there.
func TestMachineDown(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	s.build("closed")
	s.boot = "second"
	s.again()
	s.wants("closed", scheduler.Building, 3)
	s.build("cut")
	s.build("enqueued")
	s.enqueue("enqueued")
	short := func(by int64) func(string) {
		return func(file string) {
			info, err := os.Stat(file)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.Truncate(file, info.Size()-by); err != nil {
				t.Fatal(err)
			}
		}
	}
	s.instead(nil)
	s.wants("cut", scheduler.Building, 3)
	var order []string
	for st, err := range s.b.Packages(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		order = append(order, st.ID)
	}
	if !slices.Equal(order, []string{"enqueued", "cut", "closed"}) {
		t.Errorf("the packages are %v, want the newest first", order)
	}
	s.boot = "third"
	s.instead(short(90))
	for _, id := range []string{"closed", "cut"} {
		s.wants(id, "", 0)
	}
	s.wants("enqueued", scheduler.Queued, 3)
	if text := s.log.String(); !strings.Contains(text, "packages=2") || !strings.Contains(text, "cut") || strings.Contains(text, "enqueued\"") {
		t.Errorf("the log does not say which packages are to be built again: %s", text)
	}
	s.build("cut")
	s.enqueue("cut")
	s.again()
	s.wants("cut", scheduler.Queued, 3)
	s.wants("closed", "", 0)
	if n := s.size(); n != 0 {
		t.Errorf("nothing is being built, and the file has %d bytes", n)
	}
}

// A file that was closed in order and is no longer what it was is refused, and not read in
// part: here a length that leads beyond its end, as where a writer was killed.
func TestDamagedFile(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	s.build("p")
	if err := s.b.Close(); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(s.dir, folder, building)
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	bad := slices.Clone(data)
	bad[bytes.IndexByte(bad, '\n')+2] ^= 1 // of the first record's length
	for what, changed := range map[string][]byte{"bit": bad, "cut": data[:len(data)-8], "none": nil} {
		if err := os.WriteFile(file, changed, 0o600); err != nil {
			t.Fatal(err)
		}
		if what == "none" {
			err = os.Remove(file)
		}
		b, refused := open(t.Context(), Defaults(), scheduler.Deps{Data: s.dir}, 0, s.boot)
		if refused == nil {
			t.Errorf("%s: it was opened (%v)", what, b.Close())
		} else if !strings.Contains(refused.Error(), file) {
			t.Errorf("%s: refused without the file: %v", what, refused)
		}
	}
	if err := errors.Join(err, os.WriteFile(file, data, 0o600)); err != nil {
		t.Fatal(err)
	}
	s.open()
	s.wants("p", scheduler.Building, 3)
}

// A process may be killed after the log has a package, and before the file knows.
func TestFileNotTold(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	s.build("p")
	before, err := os.ReadFile(filepath.Join(s.dir, folder, building))
	if err != nil {
		t.Fatal(err)
	}
	want := s.enqueue("p")
	s.instead(func(file string) {
		if err := os.WriteFile(file, before, 0o600); err != nil {
			t.Fatal(err)
		}
	})
	s.wants("p", scheduler.Queued, 3)
	if got := s.enqueue("p"); len(got) != 3 || got[0].ID != want[0].ID {
		t.Errorf("enqueued once more: %+v, want %+v", got, want)
	}
	if _, err := s.b.NewPackage(t.Context(), scheduler.Package{ID: "p"}); !errors.Is(err, scheduler.ErrConflict) {
		t.Errorf("it was begun again: %v", err)
	}
	if st, err := s.b.Stats(t.Context()); err != nil || st.Waiting != 3 {
		t.Errorf("%d jobs wait (%v), want 3", st.Waiting, err)
	}
	now, err := os.ReadFile(filepath.Join(s.dir, folder, building))
	if err != nil || strings.Contains(string(now), want[0].ID) {
		t.Errorf("the file still has its job: %v", err)
	}
	s.finish(3)
	s.instead(func(file string) {
		if err := os.WriteFile(file, before, 0o600); err != nil {
			t.Fatal(err)
		}
	})
	s.wants("p", scheduler.Ended, 3)
}

// finish does so many jobs.
func (s *shelf) finish(n int) {
	s.t.Helper()
	for range n {
		list, err := s.b.Next(s.t.Context(), scheduler.Want{Max: 1})
		if err != nil || len(list) != 1 {
			s.t.Fatalf("%d leases, %v", len(list), err)
		}
		if _, errs := s.b.Complete(s.t.Context(), scheduler.Completion{Hold: list[0].Hold}); errs[0] != nil {
			s.t.Fatal(errs[0])
		}
	}
}

// One that was enqueued does not come back when it is over and forgotten, nor one that was
// cancelled when a snapshot was written meanwhile; one whose name was used before is what
// it was made last.
func TestNoneComesBack(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	s.history = 5
	s.again()
	s.build("over")
	s.build("cancelled")
	s.enqueue("over")
	s.finish(3)
	for range 20 { // some snapshots, and more than the history holds
		jobs := slices.Repeat([]scheduler.Job{{Queue: "q", Action: "do", Params: scheduler.MustParams(map[string]string{"text": strings.Repeat("x", 2<<10)})}}, 10)
		if _, err := s.b.Submit(t.Context(), scheduler.Package{Jobs: jobs}); err != nil {
			t.Fatal(err)
		}
		s.finish(len(jobs))
	}
	s.wants("over", "", 0)
	if _, err := s.b.CancelPackage(t.Context(), "cancelled"); err != nil {
		t.Fatal(err)
	}
	s.build("twice")
	if _, err := s.b.CancelPackage(t.Context(), "twice"); err != nil {
		t.Fatal(err)
	}
	s.build("twice")
	s.instead(nil)
	s.wants("over", "", 0)
	s.wants("cancelled", "", 0)
	s.wants("twice", scheduler.Building, 3)
}

// Packages that an older program had in the log are taken over.
func TestBuiltInLog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	cfg := Defaults()
	cfg.Queues = map[string]QueueConfig{"*": {Remote: true}}
	old, err := engine.Open(t.Context(), cfg, scheduler.Deps{}, engine.Ground{Open: func(ctx context.Context, load journal.Loader) (engine.Log, error) {
		return journal.Open(ctx, journal.Options{Dir: filepath.Join(dir, folder)}, load)
	}})
	if err != nil {
		t.Fatal(err)
	}
	s := &shelf{t: t, dir: dir, boot: "first", b: old}
	s.build("p")
	s.build("gone")
	s.again()
	t.Cleanup(func() {
		if err := s.b.Close(); err != nil {
			t.Error(err)
		}
	})
	s.wants("p", scheduler.Building, 3)
	if _, err := s.b.CancelPackage(t.Context(), "gone"); err != nil {
		t.Fatal(err)
	}
	s.instead(nil)
	s.wants("gone", "", 0)
	s.wants("p", scheduler.Building, 3)
	s.enqueue("p")
	s.again()
	s.wants("p", scheduler.Queued, 3)
	s.wants("gone", "", 0)
}

// What is over is dropped from the file, while other packages are being built.
func TestFileShrinks(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	s.build("stays")
	params := scheduler.MustParams(map[string]string{"text": strings.Repeat("x", 50<<10)})
	most := int64(0)
	for i := range 100 {
		id := fmt.Sprint("p", i)
		if _, err := s.b.NewPackage(t.Context(), scheduler.Package{ID: id, Jobs: []scheduler.Job{{Queue: "q", Action: "do", Params: params}}}); err != nil {
			t.Fatal(err)
		}
		if i%2 == 0 {
			s.enqueue(id)
		} else if _, err := s.b.CancelPackage(t.Context(), id); err != nil {
			t.Fatal(err)
		}
		most = max(most, s.size())
	}
	if most < 512<<10 || most > 2<<20 {
		t.Errorf("the file had up to %d bytes, want that it grows to a MiB and is written anew", most)
	}
	s.instead(nil)
	s.wants("stays", scheduler.Building, 3)
	s.wants("p98", scheduler.Queued, 1)
	s.wants("p99", "", 0)
}

// One that is not enqueued in time is discarded, for good.
func TestBuildingExpires(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	if err := s.b.Close(); err != nil {
		t.Fatal(err)
	}
	cfg := Defaults()
	cfg.PackageExpiry = 10 * time.Millisecond
	cfg.Queues = map[string]QueueConfig{"*": {Remote: true}}
	var err error
	if s.b, err = open(t.Context(), cfg, scheduler.Deps{Data: s.dir}, 0, s.boot); err != nil {
		t.Fatal(err)
	}
	if _, err := s.b.NewPackage(t.Context(), scheduler.Package{ID: "p", Jobs: []scheduler.Job{{Queue: "q", Action: "do"}}}); err != nil && !errors.Is(err, scheduler.ErrNotFound) {
		t.Fatal(err)
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	deadline := time.After(30 * time.Second)
	for {
		if _, err := s.b.Package(t.Context(), "p"); errors.Is(err, scheduler.ErrNotFound) {
			break
		}
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("it is not discarded")
		}
	}
	s.instead(nil)
	s.wants("p", "", 0)
}

// Many build, enqueue, cancel and submit under the same few names at once: each call
// succeeds or is refused for a reason, no step is lost that was acknowledged before the
// enqueueing, no package is queued twice, and all is the same when it is opened again.
func TestBothTurns(t *testing.T) {
	t.Parallel()
	s := newShelf(t)
	ctx := t.Context()
	var mu sync.Mutex
	acked := map[string][]string{} // jobs added to a package before anybody asked for its enqueueing
	cancelled := map[string]bool{}
	enqueued := 0
	known := func(err error) {
		if err != nil && !errors.Is(err, scheduler.ErrConflict) && !errors.Is(err, scheduler.ErrNotFound) && !errors.Is(err, scheduler.ErrInvalid) {
			t.Errorf("refused for no reason that is told: %v", err)
		}
	}
	var work sync.WaitGroup
	for w := range 8 {
		work.Go(func() {
			for i := range 150 {
				id := fmt.Sprintf("p%d", (i*8+w)/24) // three of each for every name, at about the same time
				job := scheduler.Job{ID: fmt.Sprintf("%s-%d", id, i%5), Queue: "q", Action: "do"}
				var err error
				switch (w + i) % 6 {
				case 0:
					_, err = s.b.NewPackage(ctx, scheduler.Package{ID: id, Jobs: []scheduler.Job{job}})
				case 1, 2:
					var ids []string
					ids, err = s.b.AddJobs(ctx, id, job)
					if err == nil {
						mu.Lock()
						acked[id] = append(acked[id], ids...)
						mu.Unlock()
					}
				case 3:
					mu.Lock()
					before := acked[id]
					mu.Unlock()
					var list []scheduler.Status
					list, err = s.b.Enqueue(ctx, id)
					if err == nil {
						has := map[string]bool{}
						for _, st := range list {
							has[st.ID] = true
						}
						for _, job := range before {
							mu.Lock()
							gone := cancelled[id]
							mu.Unlock()
							if !has[job] && !gone {
								t.Errorf("%s was added to %s before it was enqueued, and it has %v", job, id, has)
							}
						}
						mu.Lock()
						enqueued++
						mu.Unlock()
					}
				case 4:
					_, err = s.b.Submit(ctx, scheduler.Package{ID: id, Jobs: []scheduler.Job{job}})
				case 5:
					if i%4 == 0 {
						mu.Lock()
						cancelled[id] = true
						mu.Unlock()
						_, err = s.b.CancelPackage(ctx, id)
					} else {
						_, err = s.b.Enqueue(ctx, id)
					}
				}
				known(err)
			}
		})
	}
	work.Wait()
	if enqueued == 0 {
		t.Error("nothing was enqueued")
	}
	before := s.whole()
	s.instead(nil)
	if after := s.whole(); after != before {
		t.Errorf("opened again it is\n%s\nwant\n%s", after, before)
	}
	s.again()
	if after := s.whole(); after != before {
		t.Errorf("closed and opened again it is\n%s\nwant\n%s", after, before)
	}
}

// whole is every package with its jobs.
func (s *shelf) whole() string {
	s.t.Helper()
	var lines []string
	for st, err := range s.b.Packages(s.t.Context()) {
		if err != nil {
			s.t.Fatal(err)
		}
		lines = append(lines, fmt.Sprint(st.ID, " ", st.State, " ", st.Jobs, " ", st.CreatedAt.UnixNano()))
	}
	if len(lines) == 0 {
		s.t.Error("there are no packages")
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}
