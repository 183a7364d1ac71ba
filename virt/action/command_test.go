package action

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vagoth/vagoth/manager/component"
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
	a, err := Command("notify", append([]string{path}, args...), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return a
}

type logTask struct {
	fakeTask
	mu       sync.Mutex
	lines    []string
	progress []string
}

func (l *logTask) Progress(percent int, words string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.progress = append(l.progress, strconv.Itoa(percent)+" "+words)
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
	if _, err := Command("notify", []string{"notify"}, 0, 0); err == nil {
		t.Error("a program without a path was accepted")
	}
	if _, err := Command("../x", []string{"/bin/true"}, 0, 0); err == nil {
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
	pid := pidIn(t, pidFile)
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("it ended with %v", err)
	}
	eventually(t, func() bool { return gone(pid) })
}

// TestCommandHasAGrace ends a job whose program tidies up when it is asked to
// end, and one whose program and its child do not listen.
func TestCommandHasAGrace(t *testing.T) {
	for name, c := range map[string]struct {
		text  string
		grace time.Duration
		tidy  bool
	}{
		"it ends by itself": {`trap 'echo tidied up >&2; exit 3' TERM; echo $$ > "$1"; while :; do sleep 0.01; done`, time.Hour, true},
		"it does not":       {`trap '' TERM; (while :; do sleep 1; done) & echo $! > "$1"; while :; do sleep 1; done`, 50 * time.Millisecond, false},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path, pidFile := filepath.Join(dir, "program"), filepath.Join(dir, "pid")
			if err := os.WriteFile(path, []byte("#!/bin/sh\n"+c.text), 0o700); err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			task, done := &logTask{}, make(chan error, 1)
			go func() {
				a, err := Command("notify", []string{path, pidFile}, 0, c.grace)
				if err == nil {
					_, err = a.Run(ctx, task)
				}
				done <- err
			}()
			pid := pidIn(t, pidFile)
			cancel()
			if err := <-done; !errors.Is(err, context.Canceled) {
				t.Errorf("it ended with %v", err)
			}
			eventually(t, func() bool { return gone(pid) })
			if tidied := slices.Contains(task.lines, "tidied up"); tidied != c.tidy {
				t.Errorf("tidied up: %v, its log is %q", tidied, task.lines)
			}
		})
	}
}

// TestCommandDiesWithItsParent kills the process that runs a program.
func TestCommandDiesWithItsParent(t *testing.T) {
	const path = "VAGOTH_TEST_PARENT"
	if pidFile := os.Getenv(path); pidFile != "" {
		_, err := program{[]string{"/bin/sh", "-c", `echo $$ > "$1"; exec sleep 1000`, "sh", pidFile}, time.Hour}.run(t.Context(), &logTask{})
		t.Fatal("the program has ended: ", err)
	}
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells a process of its parent's death")
	}
	pidFile := filepath.Join(t.TempDir(), "pid")
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run", "^TestCommandDiesWithItsParent$")
	cmd.Env = append(os.Environ(), path+"="+pidFile)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pid := pidIn(t, pidFile)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // killed
	eventually(t, func() bool { return gone(pid) })
}

// TestCommandOutlivesThreads ends threads of this process, as goroutines do that
// lock them, while a program runs that one of them may have started.
func TestCommandOutlivesThreads(t *testing.T) {
	dir := t.TempDir()
	var commands, threads sync.WaitGroup
	for i := range 8 {
		commands.Go(func() {
			if _, err := (program{[]string{"/bin/sh", "-c", `while ! [ -e "$1/go" ]; do sleep 0.01; done`, "sh", dir}, time.Second}).run(t.Context(), &logTask{}); err != nil {
				t.Errorf("command %d: %v", i, err)
			}
		})
	}
	for range 200 {
		threads.Go(runtime.LockOSThread) // the thread ends with it
	}
	threads.Wait()
	if err := os.WriteFile(filepath.Join(dir, "go"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	commands.Wait()
}

// pidIn waits for the number of a process in a file.
func pidIn(t *testing.T, path string) (pid int) {
	t.Helper()
	eventually(t, func() bool {
		data, err := os.ReadFile(path)
		if err != nil {
			return false
		}
		pid, err = strconv.Atoi(strings.TrimSpace(string(data)))
		return err == nil
	})
	return pid
}

// gone reports whether a process has ended, though nobody may have asked how.
func gone(pid int) bool {
	state, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return syscall.Kill(pid, 0) != nil || err == nil && strings.Contains(string(state), ") Z ")
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

// What replaces a built-in action takes what that takes, and args.
func TestInPlaceOfABuiltin(t *testing.T) {
	command, err := Command(virt.ActionStop, []string{"/bin/true"}, time.Minute, 0)
	if err != nil {
		t.Fatal(err)
	}
	posted, err := URL(virt.ActionStop, "http://127.0.0.1:1/stop", component.Secret{}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []scheduler.Action{command, posted} {
		known := map[string]scheduler.Action{virt.ActionStop: a}
		j := virt.Job(virt.ActionStop, virt.Params{VM: "web1", Grace: "30s"})
		if err := scheduler.Check(known, scheduler.Package{Jobs: []scheduler.Job{j}}); err != nil || !a.Urgent || a.Timeout != time.Minute {
			t.Error(a, err)
		}
		j.Params = parsed(t, `{"vm":"web1","args":{"hard":true}}`)
		if err := scheduler.Check(known, scheduler.Package{Jobs: []scheduler.Job{j}}); err != nil {
			t.Error(err)
		}
		j.Params = parsed(t, `{"vm":"web1","hard":true}`)
		if err := scheduler.Check(known, scheduler.Package{Jobs: []scheduler.Job{j}}); err == nil {
			t.Error("what the built-in does not take was accepted")
		}
	}
}

// TestCommandTalks reads progress and log as they come, and the last object that
// is neither as the result.
func TestCommandTalks(t *testing.T) {
	for _, c := range []struct{ text, want, progress, log string }{
		{`echo '{"progress":"copying","percent":40}'; echo '{"percent":60.7}'; echo '{"log":"half"}'; echo '{"n":1}'`, `{"n":1}`, "40 copying,60 copying", "half"},
		{`echo '{"log":"a","progress":"b"}'`, ``, "0 b", "a"},
		{`echo '{"n":1}'; echo '{"log":"between"}'; printf '{"n":2}'`, `{"n":2}`, "", "between"},
		{`printf '{"log":"no newline"}'`, ``, "", "no newline"},
		{`echo '{'; echo ' "items": ['; echo '{"log":"x"}'; printf '%s\n' '], "s": "{[\"" }'; echo '{"log":"after"}'`, `{"items":[{"log":"x"}],"s":"{[\""}`, "", "after"},
		{`echo '{"log":"x","n":1}'`, `{"log":"x","n":1}`, "", ""},
		{`echo '{"percent":"many"}'`, `{"percent":"many"}`, "", ""},
		{`echo '{"percent":900}'; echo '{"percent":-3,"progress":"bell\\u0007"}'`, ``, "100 ,0 bell\uFFFD", ""},
	} {
		task := &logTask{}
		res, err := script(t, c.text).Run(t.Context(), task)
		if err != nil {
			t.Errorf("%s: %v", c.text, err)
		}
		got := ""
		if doc, ok := res.(registry.Document); ok {
			got = doc.String()
		}
		if got != c.want || strings.Join(task.progress, ",") != c.progress || strings.Join(task.lines, ",") != c.log {
			t.Errorf("%s:\n got %s, progress %q, log %q\nwant %s, %q, %q", c.text, got, task.progress, task.lines, c.want, c.progress, c.log)
		}
	}
}

// A program that never stops talking fills no memory.
func TestCommandTalksTooMuch(t *testing.T) {
	task := &logTask{}
	if _, err := script(t, `yes '{"log":"again"}' | head -n 12000; echo '{"n":1}'`).Run(t.Context(), task); err != nil {
		t.Error(err)
	}
	if n := len(task.lines); n != maxCommandLines+1 || !strings.Contains(task.lines[n-1], "not kept") {
		t.Errorf("%d lines are kept", n)
	}
	if _, err := script(t, `head -c 300000 /dev/zero | tr '\0' x; echo`).Run(t.Context(), &logTask{}); err == nil || !strings.Contains(err.Error(), "more than") {
		t.Errorf("one long line: %v", err)
	}
}

// The exit status says whether another attempt makes sense.
func TestCommandExits(t *testing.T) {
	for status, final := range map[int]bool{1: false, 64: true, 65: true, 70: false, 75: false, 77: true, 78: true, 255: false} {
		_, err := script(t, `echo why >&2; exit `+strconv.Itoa(status)).Run(t.Context(), &logTask{})
		if err == nil || scheduler.IsFinal(err) != final || !strings.Contains(err.Error(), "why") {
			t.Errorf("exit status %d: final %t, %v", status, scheduler.IsFinal(err), err)
		}
	}
}

// FuzzTalk: whatever a program writes, in whatever pieces, nothing breaks, and a
// result that is written on one line after it is found or refused.
func FuzzTalk(f *testing.F) {
	for _, seed := range []string{"", "{}\n", `{"log":"a"}` + "\n", `{"a":"{`, "[\n{\"log\":\"x\"}\n]", "\"\\\"", "}}}{\n", `{"progress":"a"}{"n":1}`} {
		f.Add([]byte(seed), uint8(3))
	}
	f.Fuzz(func(t *testing.T, data []byte, step uint8) {
		whole, pieces := &logTask{}, &logTask{}
		one := &talk{log: newCommandLog(whole), limit: 1000}
		two := &talk{log: newCommandLog(pieces), limit: 1000}
		if n, err := one.Write(data); n != len(data) || err != nil {
			t.Fatal(n, err)
		}
		for rest := data; len(rest) > 0; {
			n := min(len(rest), int(step)+1)
			if _, err := two.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		one.flush()
		two.flush()
		if one.over != two.over {
			t.Fatalf("too long in one write: %t, in pieces: %t", one.over, two.over)
		}
		if one.over {
			return
		}
		a, aErr := one.result()
		b, bErr := two.result()
		if (aErr == nil) != (bErr == nil) || aErr == nil && a != b || strings.Join(whole.lines, "\n") != strings.Join(pieces.lines, "\n") {
			t.Fatalf("in one write %v (%v) %q, in pieces %v (%v) %q", a, aErr, whole.lines, b, bErr, pieces.lines)
		}
	})
}
