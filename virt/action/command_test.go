package action

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
)

// script writes a program and returns the action that runs it.
func script(t *testing.T, text string, args ...string) scheduler.Action {
	t.Helper()
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	a, err := Command("notify", append([]string{path}, args...), 0)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

type logTask struct {
	fakeTask
	mu    sync.Mutex
	lines []string
}

func (l *logTask) Log(s string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, s)
}

func TestCommand(t *testing.T) {
	a := script(t, `echo "args: $1 $2" >&2; printf 'bell\a' >&2; cat`, "a b", "$HOME; rm -rf /")
	task := &logTask{fakeTask: fakeTask{job: scheduler.Job{ID: "j1", Queue: "q", Action: "notify", Params: parsed(t, `{"vm":"web1"}`)}}}
	res, err := a.Run(trail.With(t.Context(), trail.Trail{Source: "ann"}), task)
	if err != nil {
		t.Fatal(err)
	}
	doc, _ := res.(registry.Document)
	var got call
	if err := json.Unmarshal([]byte(doc.String()), &got); err != nil {
		t.Fatal(err)
	}
	if got.Job != "j1" || got.Params.String() != `{"vm":"web1"}` || got.Trail.Source != "ann" || got.Queue != "q" {
		t.Errorf("it was told %s", doc)
	}
	if len(task.lines) != 2 || task.lines[0] != "args: a b $HOME; rm -rf /" || strings.ContainsRune(task.lines[1], '\a') {
		t.Errorf("its log: %q", task.lines)
	}
}

func TestCommandFails(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`echo "no such pager" >&2; exit 3`, "exit status 3: no such pager"},
		{`echo hello`, "no result"},
		{`echo '[1]'`, "no result"},
		{`head -c 300000 /dev/zero`, "more than"},
		{`kill -9 $$`, "killed"},
	} {
		_, err := script(t, c.text).Run(t.Context(), &logTask{})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.text, err, c.want)
		}
	}
	if res, err := script(t, `true`).Run(t.Context(), &logTask{}); err != nil || res != nil {
		t.Errorf("one that says nothing: %v %v", res, err)
	}
	if _, err := Command("notify", []string{"notify"}, 0); err == nil {
		t.Error("a program without a path was accepted")
	}
	if _, err := Command("../x", []string{"/bin/true"}, 0); err == nil {
		t.Error("an action called ../x was accepted")
	}
}

// TestCommandIsKilledWithItsChildren ends a job whose program waits for another.
func TestCommandIsKilledWithItsChildren(t *testing.T) {
	pidFile := filepath.Join(t.TempDir(), "pid")
	a := script(t, `sleep 1000 & echo $! > "$1"; wait`, pidFile)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	done := make(chan error, 1)
	go func() {
		_, err := a.Run(ctx, &logTask{})
		done <- err
	}()
	var pid int
	eventually(t, func() bool {
		data, err := os.ReadFile(pidFile)
		if err != nil {
			return false
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(data)))
		return err == nil
	})
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	eventually(t, func() bool {
		state, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		return syscall.Kill(pid, 0) != nil || err == nil && strings.Contains(string(state), ") Z ")
	})
}

// eventually polls a condition.
func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatal("it did not happen within 10 seconds")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestCommandInPlaceOfABuiltin(t *testing.T) {
	a, err := Command(virt.ActionStop, []string{"/bin/true"}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	p := scheduler.Package{Jobs: []scheduler.Job{virt.Job(virt.ActionStop, virt.Params{VM: "web1", Grace: "30s"})}}
	if err := scheduler.Check(map[string]scheduler.Action{virt.ActionStop: a}, p); err != nil || !a.Urgent || a.Timeout != time.Minute {
		t.Error(a, err)
	}
}
