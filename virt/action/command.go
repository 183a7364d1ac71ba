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
	commandWait    = 5 * time.Second // for its pipes to close after it was killed
)

// call is what a command reads on its standard input.
type call struct {
	Job    string            `json:"job"`
	Queue  string            `json:"queue"`
	Action string            `json:"action"`
	Params registry.Document `json:"params"`
	Trail  trail.Trail       `json:"trail"`
}

// Command makes an action of a program: of a line such as
// `notify = exec:/usr/local/bin/notify --loud` in [actions].
//
// The program is started as it is, without a shell, with a JSON object on its
// standard input: job, queue, action, params and trail. What it writes to
// standard error becomes the job's log; a JSON object on standard output is the
// result. It has failed if it exits with anything but 0. When the job ends
// early or timeout is over, it and all that it started are killed.
//
// It takes vm, and an object called args for whatever the program understands;
// one that replaces a built-in action takes the same as that.
func Command(name string, argv []string, timeout time.Duration) (scheduler.Action, error) {
	if err := registry.CheckName(name); err != nil {
		return scheduler.Action{}, fmt.Errorf("an action cannot be called that: %w", err)
	}
	if len(argv) == 0 || !filepath.IsAbs(argv[0]) {
		return scheduler.Action{}, fmt.Errorf("action %s: give the program's absolute path, such as exec:/usr/local/bin/%s", name, name)
	}
	argv = append([]string(nil), argv...)
	a, builtin := Actions(nil)[name]
	if !builtin {
		a.Params = []scheduler.Param{
			{Name: "vm", Type: scheduler.String, Help: "the node that it is about"},
			{Name: "args", Type: scheduler.Object, Help: "whatever the program understands"},
		}
	}
	a.Name, a.Help, a.Timeout = name, "runs "+argv[0], timeout
	a.Run = func(ctx context.Context, t scheduler.Task) (any, error) { return runCommand(ctx, t, argv) }
	return a, nil
}

func runCommand(ctx context.Context, t scheduler.Task, argv []string) (any, error) {
	j := t.Job()
	in, err := json.Marshal(call{Job: j.ID, Queue: j.Queue, Action: j.Action, Params: j.Params, Trail: trail.From(ctx)})
	if err != nil {
		return nil, fmt.Errorf("cannot encode the job: %w", err)
	}
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Stdin = bytes.NewReader(append(in, '\n'))
	out := &bounded{limit: maxCommandOut}
	lines := &lineLog{log: t.Log}
	cmd.Stdout, cmd.Stderr = out, lines
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = commandWait
	err = cmd.Run()
	lines.flush()
	switch {
	case ctx.Err() != nil && err != nil:
		return nil, fmt.Errorf("%s was killed: %w", argv[0], context.Cause(ctx))
	case errors.Is(err, exec.ErrWaitDelay):
		// It is done; something that it started still holds its pipes.
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
	case err != nil:
		if last := lines.last; last != "" {
			return nil, fmt.Errorf("%s failed: %w: %s", argv[0], err, last)
		}
		return nil, fmt.Errorf("%s failed: %w", argv[0], err)
	}
	if out.over {
		return nil, fmt.Errorf("%s wrote more than %d bytes to its standard output", argv[0], out.limit)
	}
	text := bytes.TrimSpace(out.data.Bytes())
	if len(text) == 0 {
		return nil, nil
	}
	doc, err := registry.ParseDocument(text)
	if err != nil {
		return nil, fmt.Errorf("%s has run, and what it wrote to its standard output is no result: %w: write a JSON object, or to standard error", argv[0], err)
	}
	return doc, nil
}

// bounded keeps what fits and notes that there was more.
type bounded struct {
	data  bytes.Buffer
	limit int
	over  bool
}

func (b *bounded) Write(p []byte) (int, error) {
	if room := b.limit - b.data.Len(); len(p) > room {
		b.over = true
		b.data.Write(p[:room])
	} else {
		b.data.Write(p)
	}
	return len(p), nil
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
