package agent

import (
	"bufio"
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vagoth/vagoth/internal/testlong"
	"github.com/vagoth/vagoth/virt/mistify"
)

// TestUndoKilled kills the agent before, in and after the stages of a create and
// their undoing: afterwards a guest is whole and known, or nothing of it is there.
func TestUndoKilled(t *testing.T) {
	l := newHall()
	sub := httptest.NewServer(l.server())
	defer sub.Close()
	port := portOf(t, sub.URL)
	dir := t.TempDir()
	rnd := rand.New(rand.NewPCG(uint64(testlong.Seed(t)), 5))
	methods := []string{"Verify", "Disks", "Domain", "Start", "NoDomain", "NoDisks"}
	ends := map[mistify.JobStatus]int{}
	rounds := max(testlong.Count(t, 200), 2*len(methods))
	for round := range rounds {
		in, method := round%2 == 0, methods[round/2%len(methods)]
		undoKillOnce(t, l, dir, port, method, in, time.Duration(rnd.IntN(2000))*time.Microsecond)
		l.on(nil, nil)
		a, err := Open(context.Background(), undoConfig(port), Deps{Data: dir})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan error, 1)
		go func() { done <- a.Run(ctx) }()
		until(t, "all jobs have ended", func() bool { _, n := a.store.lengths(""); return n == 0 })
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		for _, j := range a.store.latest("", 1) {
			ends[j.Status]++
			known := a.store.guest(vm1) != nil
			if whole := j.Status == mistify.JobComplete; known != whole || len(l.left()) != map[bool]int{true: 2, false: 0}[whole] {
				t.Errorf("round %d, killed at %s: %+v; known %v, there is %q", round, method, j, known, l.left())
			}
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Fatal(err)
		}
		l.mu.Lock()
		clear(l.things)
		l.mu.Unlock()
		if t.Failed() {
			return
		}
	}
	t.Logf("ends: %v", ends)
	if ends[mistify.JobComplete] == 0 || ends[mistify.JobError] == 0 {
		t.Errorf("the rounds did not meet every end: %v", ends)
	}
}

// undoKillOnce creates a guest and kills the agent at one moment. Where that is in
// an undo, the last stage fails.
func undoKillOnce(t *testing.T, l *hall, dir string, port int, method string, in bool, delay time.Duration) {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashEnv+"="+dir+"|"+strconv.Itoa(port)+"|undo")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	die, held := make(chan struct{}), make(chan struct{})
	dead := sync.OnceFunc(func() { close(die) })
	l.on(func(name string) error {
		if in && name == method {
			dead()
			<-held
		}
		if name == "Start" && strings.HasPrefix(method, "No") {
			return errors.New("no memory")
		}
		return nil
	}, func(name string) {
		if !in && name == method {
			time.AfterFunc(delay, dead)
		}
	})
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	if !lines.Scan() || !strings.HasPrefix(lines.Text(), "http://") {
		t.Fatalf("the child says %q", lines.Text())
	}
	client, err := mistify.NewClient(lines.Text(), mistify.ClientOptions{Transport: &http.Transport{DisableKeepAlives: true}})
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := client.CreateGuest(context.Background(), mistify.Guest{ID: vm1, Memory: 64}); err != nil {
		t.Log(err) // it was killed before it could answer
	}
	select {
	case <-die:
	case <-time.After(20 * time.Second):
		t.Errorf("%s was not called: %q", method, l.called())
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	l.on(nil, nil)
	close(held)
}
