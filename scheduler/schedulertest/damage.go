package schedulertest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/vagoth/vagoth/internal/smalldisk"
	"github.com/vagoth/vagoth/internal/testlong"
	"github.com/vagoth/vagoth/scheduler"
)

// shelf is a scheduler whose own workers do nothing: what stands in it stays.
type shelf struct {
	scheduler.Scheduler
	scheduler.Broker
	scheduler.Operator
	scheduler.Builder
	scheduler.QueueInspector
}

func openShelf(t *testing.T, open Opener, dir string, s Settings) (*shelf, error) {
	t.Helper()
	sch, err := open(t.Context(), s, scheduler.Deps{Actions: idleBench(t).actions(), Data: dir})
	if err != nil {
		return nil, err
	}
	v := &shelf{Scheduler: sch}
	var ok [4]bool
	v.Broker, ok[0] = sch.(scheduler.Broker)
	v.Operator, ok[1] = sch.(scheduler.Operator)
	v.Builder, ok[2] = sch.(scheduler.Builder)
	v.QueueInspector, ok[3] = sch.(scheduler.QueueInspector)
	if ok != [4]bool{true, true, true, true} {
		t.Fatalf("this suite is for schedulers that are Broker, Operator, Builder and QueueInspector: this one is %v", ok)
	}
	return v, nil
}

func mustOpen(t *testing.T, open Opener, dir string, s Settings) *shelf {
	t.Helper()
	v, err := openShelf(t, open, dir, s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func closeOf(t *testing.T, s scheduler.Scheduler) {
	t.Helper()
	if err := s.Close(); err != nil {
		t.Errorf("cannot close: %v", err)
	}
}

// whole is everything that is to be seen of a scheduler at rest.
func whole(t *testing.T, v *shelf) map[string]string {
	t.Helper()
	all := map[string]string{}
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	for st, err := range v.List(t.Context(), scheduler.Filter{}) {
		check(err)
		st, err := v.Status(t.Context(), st.ID)
		check(err)
		lines, err := v.Scheduler.Log(t.Context(), st.ID)
		check(err)
		text := stable(st)
		for _, l := range lines {
			text += fmt.Sprint(l.At.UnixNano(), l.Attempt, l.Text)
		}
		all["job "+st.ID] = text
	}
	for p, err := range v.Packages(t.Context()) {
		check(err)
		all["package "+p.ID] = fmt.Sprint(p.State, p.Jobs, p.Counts, p.CreatedAt.UnixNano(), p.Trail)
	}
	for q, err := range v.Queues(t.Context()) {
		check(err)
		all["queue "+q.Name] = fmt.Sprint(q.Mode, q.Reason, q.Depth, q.Parked, q.Blocked, q.BlockedBy, q.Oldest.UnixNano())
	}
	return all
}

// differ names what is not the same.
func differ(got, want map[string]string) string {
	for k, w := range want {
		if got[k] != w {
			return fmt.Sprintf("%s is\n%s\nwant\n%s", k, got[k], w)
		}
	}
	for k := range got {
		if _, ok := want[k]; !ok {
			return k + " is new"
		}
	}
	return ""
}

// furnish fills a scheduler with jobs in every state but running.
func furnish(t *testing.T, v *shelf, from, n int) {
	t.Helper()
	for i := from; i < from+n; i++ {
		id := func(k int) string { return fmt.Sprintf("f%d-%d", i, k) }
		jobs := []scheduler.Job{
			with(job(id(0), fmt.Sprint("r-", i%7), "theirs"), map[string]string{"text": strings.Repeat("x", i%300)}),
			after(parks(job(id(1), fmt.Sprint("r-", i%5), "far")), id(0)),
			after(job(id(2), fmt.Sprint("q-", i%3), "ok"), id(1)),
		}
		jobs[0].Key = id(0)
		if _, err := v.Submit(as("ann", "to furnish"), scheduler.Package{ID: fmt.Sprint("p", i), Jobs: jobs}); err != nil {
			t.Fatal(err)
		}
		if i%10 == 0 {
			if _, err := v.NewPackage(ctx(), scheduler.Package{ID: fmt.Sprint("b", i), Jobs: []scheduler.Job{job("", "r-b", "far"), job("", "r-b", "far")}}); err != nil {
				t.Fatal(err)
			}
			if _, err := v.SetQueue(as("ann", "why not"), fmt.Sprint("r-paused-", i), scheduler.Paused); err != nil {
				t.Fatal(err)
			}
		}
		list, err := v.Next(t.Context(), scheduler.Want{Max: 3})
		if err != nil {
			t.Fatal(err)
		}
		for k, l := range list {
			if err := v.AddLog(t.Context(), l.Hold, "a line of "+l.Job); err != nil {
				t.Fatal(err)
			}
			if _, errs := v.Complete(t.Context(), scheduler.Completion{Hold: l.Hold, Error: []string{"", "it broke"}[(i+k)%2]}); errs[0] != nil {
				t.Fatal(errs[0])
			}
		}
	}
}

func locked(t *testing.T, open Opener) {
	dir := t.TempDir()
	v := mustOpen(t, open, dir, standard())
	second, err := openShelf(t, open, dir, standard())
	if err == nil {
		closeOf(t, second)
		t.Fatal("the store was opened twice")
	}
	if pid := fmt.Sprint(os.Getpid()); !strings.Contains(err.Error(), pid) {
		t.Errorf("the error does not name the holder %s: %v", pid, err)
	}
	furnish(t, v, 0, 3)
	closeOf(t, v)
	closeOf(t, v) // once more is harmless
	closeOf(t, mustOpen(t, open, dir, standard()))
}

// many writes much more than one snapshot holds, and compares all of it.
func many(t *testing.T, open Opener) {
	dir := t.TempDir()
	n := testlong.Count(t, 3000)
	v := mustOpen(t, open, dir, standard())
	s := standard()
	s.MaxQueued = 100_000
	closeOf(t, v)
	v = mustOpen(t, open, dir, s)
	furnish(t, v, 0, n)
	want := whole(t, v)
	for range 2 {
		closeOf(t, v)
		v = mustOpen(t, open, dir, s)
		if d := differ(whole(t, v), want); d != "" {
			t.Fatalf("opened again: %s", d)
		}
	}
	closeOf(t, v)
}

// damage flips bits and cuts files off: what is opened then is either refused or
// as it was.
func damage(t *testing.T, open Opener) {
	dir, copies := inMemory(t), inMemory(t)
	v := mustOpen(t, open, dir, standard())
	furnish(t, v, 0, 150)
	closeOf(t, v)
	v = mustOpen(t, open, dir, standard())
	furnish(t, v, 1000, 20) // some behind the last snapshot
	want := whole(t, v)
	closeOf(t, v)
	var files []string
	var sizes []int64
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil || info.Size() == 0 {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		files, sizes = append(files, rel), append(sizes, info.Size())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewSource(testlong.Seed(t))) //nolint:gosec // a test's choices
	refused, harmless := 0, 0
	for range testlong.Count(t, 500) {
		i := rnd.Intn(len(files))
		copied := filepath.Join(copies, "data")
		if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		what, err := hurt(filepath.Join(copied, files[i]), sizes[i], rnd)
		if err != nil {
			t.Fatal(err)
		}
		v, err := openShelf(t, open, copied, standard())
		if err != nil {
			refused++
			if !strings.Contains(err.Error(), copied) {
				t.Errorf("%s: refused without the file: %v", what, err)
			}
		} else {
			harmless++
			if d := differ(whole(t, v), want); d != "" {
				t.Errorf("%s: it was opened, and %s", what, d)
			}
			closeOf(t, v)
		}
		if err := os.RemoveAll(copied); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d refused, %d harmless", refused, harmless)
	if refused == 0 {
		t.Error("no damage was noticed")
	}
}

// hurt flips a bit of a file or cuts it off.
func hurt(path string, size int64, rnd *rand.Rand) (what string, err error) {
	if err := os.Chmod(path, 0o600); err != nil {
		return "", err
	}
	at := rnd.Int63n(size)
	if rnd.Intn(4) == 0 {
		return fmt.Sprintf("%s cut off at byte %d", path, at), os.Truncate(path, at)
	}
	data, err := os.ReadFile(path) //nolint:gosec // the test's own file
	if err != nil {
		return "", err
	}
	for range 20 { // most zeros are unused space
		if data[at] != 0 || rnd.Intn(8) == 0 {
			break
		}
		at = rnd.Int63n(size)
	}
	data[at] ^= 1 << rnd.Intn(8)
	return fmt.Sprintf("%s flipped at byte %d", path, at), os.WriteFile(path, data, 0o600)
}

// fullDisk fills a small disk.
func fullDisk(t *testing.T, open Opener) {
	dir := smalldisk.New(t)
	data, ballast := filepath.Join(dir, "data"), filepath.Join(dir, "ballast")
	if err := errors.Join(os.WriteFile(ballast, make([]byte, 4<<20), 0o600), os.Mkdir(data, 0o700)); err != nil {
		t.Fatal(err)
	}
	v := mustOpen(t, open, data, standard())
	furnish(t, v, 0, 10)
	for {
		list, err := v.Next(t.Context(), scheduler.Want{Max: 100})
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range list {
			_, _ = v.Complete(t.Context(), scheduler.Completion{Hold: l.Hold})
		}
		if len(list) == 0 {
			break
		}
	}
	put := func(i int) error {
		_, err := v.Submit(t.Context(), scheduler.Package{Jobs: []scheduler.Job{
			with(job(fmt.Sprint("x", i), "r-x", "theirs"), map[string]string{"text": strings.Repeat("y", 60<<10)}), job(fmt.Sprint("y", i), "r-y", "far"),
		}})
		return err
	}
	if err := put(0); err != nil {
		t.Fatal(err)
	}
	list, err := v.Next(t.Context(), scheduler.Want{Queues: []string{"r-y"}})
	if err != nil || len(list) != 1 {
		t.Fatal(list, err)
	}
	var full error
	n := 1
	for ; n < 500 && full == nil; n++ {
		full = put(n)
	}
	if !errors.Is(full, unix.ENOSPC) {
		t.Fatalf("a full disk: %v, want an error that says why", full)
	}
	n-- // the last one was refused
	t.Logf("full after %d packages: %v", n, full)
	there := func(i int) bool {
		_, errX := v.Status(context.Background(), fmt.Sprint("x", i))
		_, errY := v.Status(context.Background(), fmt.Sprint("y", i))
		if (errX == nil) != (errY == nil) {
			t.Errorf("half of package %d is there: %v, %v", i, errX, errY)
		}
		return errX == nil
	}
	check := func(when string) {
		t.Helper()
		for i := range n {
			if !there(i) {
				t.Fatalf("%s package %d, which was taken, is gone", when, i)
			}
		}
		if there(n) {
			t.Fatalf("%s there is the package that was refused", when)
		}
	}
	check("on a full disk")
	done := scheduler.Completion{Hold: list[0].Hold, Result: scheduler.MustParams(map[string]string{"text": strings.Repeat("z", 60<<10)})}
	if _, errs := v.Complete(t.Context(), done); errs[0] == nil || errors.Is(errs[0], scheduler.ErrStale) {
		t.Errorf("a completion on a full disk: %v", errs[0])
	} else if st, err := v.Status(t.Context(), done.Job); err != nil || st.State != scheduler.Running {
		t.Errorf("a completion that was refused has changed the job to %s, %v", st.State, err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	refused := 0
	for k, deadline := 0, time.Now().Add(patience); k < 5; { // a snapshot may take the room for a while
		if err := put(1000 + k); err == nil {
			k++
		} else if refused++; time.Now().After(deadline) {
			t.Fatalf("with room again: %v", err)
		}
	}
	t.Logf("with room again %d more were refused", refused)
	if _, errs := v.Complete(t.Context(), done); errs[0] != nil {
		t.Errorf("a completion with room again: %v", errs[0])
	}
	check("with room again")
	want := whole(t, v)
	closeOf(t, v)
	v = mustOpen(t, open, data, standard())
	check("opened again")
	if d := differ(whole(t, v), want); d != "" {
		t.Errorf("opened again: %s", d)
	}
	closeOf(t, v)
}
