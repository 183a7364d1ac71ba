package action

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	gosync "sync"
	"syscall"
	"time"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// Bounds of what a command may say.
const (
	maxCommandOut  = registry.MaxDocument
	maxCommandLine = 4 << 10
	commandWait    = time.Second // for its pipes to close after it was killed
)

// DefaultGrace is the time that a program has to end when it is asked to, before
// it is killed, where nobody says another.
const DefaultGrace = 5 * time.Second

// call is what a command reads on its standard input, and a URL is posted.
type call struct {
	Job    string            `json:"job"`
	Queue  string            `json:"queue"`
	Action string            `json:"action"`
	Params registry.Document `json:"params"`
	Trail  trail.Trail       `json:"trail"`
}

func callOf(t scheduler.Task, tr trail.Trail) call {
	j := t.Job()
	return call{Job: j.ID, Queue: j.Queue, Action: j.Action, Params: j.Params, Trail: tr}
}

// general is an action of which only the name is known: what it replaces, or one
// that takes vm, args and whatever else it is given.
func general(name string) scheduler.Action {
	args := scheduler.Param{Name: "args", Type: scheduler.Object, Help: "whatever it understands"}
	if a, builtin := Actions(nil)[name]; builtin {
		a.Params = append(a.Params, args)
		return a
	}
	return scheduler.Action{AnyParams: true, Params: []scheduler.Param{{Name: "vm", Type: scheduler.String, Help: "the node that it is about"}, args}}
}

// Command makes an action of a program: of a line such as
// `notify = exec:/usr/local/bin/notify --loud` in [actions].
//
// The program is started as it is, without a shell, with a JSON object on its
// standard input: job, queue, action, params and trail. On its standard output
// it writes JSON objects:
//
//	{"progress": "copying", "percent": 40}   a line of its own: how far it is; either member alone will do
//	{"log": "took the second path"}          a line of its own: goes to the job's log
//	{"copied": 17}                           any other object is the result; of several the last counts
//
// A line that is one of the first two has no other members. What it writes to
// standard error becomes the job's log, line by line. It has failed if it exits
// with anything but 0; with 64, 65, 77 or 78 (EX_USAGE, EX_DATAERR, EX_NOPERM,
// EX_CONFIG of sysexits.h) another attempt makes no sense, with others, such as
// 75 (EX_TEMPFAIL), it does. When the job ends early or timeout is over, it and
// all that it started get SIGTERM, and SIGKILL after grace (0 is DefaultGrace). On Linux it
// is killed when this process dies, so that it does not overlap the next
// attempt; what it has started itself is not.
//
// It takes vm, an object called args, and anything else; one that replaces a
// built-in action takes the same as that, and args.
func Command(name string, argv []string, timeout, grace time.Duration) (scheduler.Action, error) {
	if err := registry.CheckName(name); err != nil {
		return scheduler.Action{}, fmt.Errorf("an action cannot be called that: %w", err)
	}
	if len(argv) == 0 || !filepath.IsAbs(argv[0]) {
		return scheduler.Action{}, fmt.Errorf("action %s: give the program's absolute path, such as exec:/usr/local/bin/%s", name, name)
	}
	argv = append([]string(nil), argv...)
	a := general(name)
	a.Name, a.Help, a.Timeout = name, "runs "+argv[0], timeout
	if grace <= 0 {
		grace = DefaultGrace
	}
	a.Run = program{argv, grace}.run
	return a, nil
}

// program is what an action runs.
type program struct {
	argv  []string
	grace time.Duration
}

func (p program) run(ctx context.Context, t scheduler.Task) (any, error) {
	argv := p.argv
	in, err := json.Marshal(callOf(t, trail.From(ctx)))
	if err != nil {
		return nil, fmt.Errorf("cannot encode the job: %w", err)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin = bytes.NewReader(append(in, '\n'))
	log := newCommandLog(t)
	out, lines := &talk{log: log, limit: maxCommandOut}, &lineLog{log: log.add}
	cmd.Stdout, cmd.Stderr = out, lines
	err = p.runGroup(cmd)
	lines.flush()
	out.flush()
	switch {
	case ctx.Err() != nil && err != nil:
		return nil, fmt.Errorf("%s was stopped: %w", argv[0], context.Cause(ctx))
	case errors.Is(err, exec.ErrWaitDelay):
		// It is done; something that it started still holds its pipes.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	case err != nil:
		failed := fmt.Errorf("%s failed: %w", argv[0], err)
		if last := lines.last; last != "" {
			failed = fmt.Errorf("%w: %s", failed, last)
		}
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) && slices.Contains([]int{64, 65, 77, 78}, exit.ExitCode()) {
			return nil, &scheduler.FinalError{Err: failed}
		}
		return nil, failed
	}
	res, err := out.result()
	if err != nil {
		return nil, fmt.Errorf("%s has run, and %w: write a JSON object, or to standard error", argv[0], err)
	}
	return res, nil
}

// runGroup runs a command in a process group of its own, which is asked to end
// when the command's context does, and killed after the grace.
func (p program) runGroup(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(cmd.SysProcAttr)
	kill := func() { _ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	var timer *time.Timer // set before Wait returns
	cmd.Cancel = func() error {
		timer = time.AfterFunc(p.grace, kill)
		return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
	}
	cmd.WaitDelay = p.grace + commandWait

	// For the kernel the parent is the thread that started the command. It is
	// kept for this goroutine until the command has ended: another one could
	// lock it to itself and end it.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	err := cmd.Run()
	if timer != nil {
		timer.Stop()
		kill() // what the command has started and left behind when it was asked to end
	}
	return err
}

// lineLog hands on whole lines.
type lineLog struct {
	log func(string)

	mu   gosync.Mutex
	part []byte
	last string
}

func (l *lineLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := bufio.NewReader(bytes.NewReader(p))
	for {
		piece, err := r.ReadSlice('\n')
		if room := maxCommandLine - len(l.part); room > 0 {
			l.part = append(l.part, piece[:min(len(piece), room)]...)
		}
		if err == nil {
			l.emit()
		}
		if errors.Is(err, io.EOF) {
			return len(p), nil
		}
	}
}

func (l *lineLog) emit() {
	if line := printable(strings.TrimSpace(string(l.part))); line != "" {
		l.last = line
		l.log(line)
	}
	l.part = l.part[:0]
}

func (l *lineLog) flush() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.emit()
}

// printable replaces what could play tricks on a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return '\uFFFD'
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}
