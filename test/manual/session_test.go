package manual

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vagoth/vagoth/cmd/vagoth/serve"
	"github.com/vagoth/vagoth/internal/testlong"
)

// How long what the manual shows may take.
const (
	commandTime = 2 * time.Minute // one command
	readyTime   = time.Minute     // a daemon until it answers
	endTime     = time.Minute     // what runs in the background until it has ended
	lookTime    = 2 * time.Second // what is looked at until Ctrl-C is pressed
)

const mark = "=== that was it:"

// terminal is a shell in which a reader types. What he changes, such as the
// directory, lasts for the next command.
type terminal struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string
}

func newTerminal(t *testing.T, p page, dir, bin string) *terminal {
	t.Helper()
	cmd := exec.Command("sh") //nolint:noctx // it is ended with all that it started
	if p.apart {
		cmd = apart(t)
	}
	cmd.Dir = dir
	cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, "VAGOTH_") })
	cmd.Env = append(cmd.Env, "PATH="+bin+":"+os.Getenv("PATH"), "NO_COLOR=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = endTime
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdout, cmd.Stderr = w, w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	_ = w.Close()
	term := &terminal{t: t, cmd: cmd, in: in, lines: make(chan string, 1000)}
	go func() { // it ends with the last process that can write
		defer close(term.lines)
		defer func() { _ = r.Close() }()
		for s := bufio.NewScanner(r); s.Scan(); {
			term.lines <- s.Text()
		}
	}()
	t.Cleanup(term.end)
	return term
}

// apart is a shell in a network of its own, which has nothing but a loopback.
func apart(t *testing.T) *exec.Cmd {
	t.Helper()
	args := []string{"--net", "sh", "-c", "ip link set lo up && exec sh"}
	if os.Getuid() != 0 {
		args = append([]string{"--map-root-user"}, args...)
	}
	for _, tool := range []string{"unshare", "ip"} {
		if _, err := exec.LookPath(tool); err != nil {
			testlong.Missing(t, "a network of its own is made with %s, which is not here", tool)
		}
	}
	return exec.Command("unshare", args...) //nolint:noctx // it is ended with all that it started
}

// end closes the window: all that was started in it is told to end, and waited
// for.
func (m *terminal) end() {
	_ = m.in.Close()
	group := -m.cmd.Process.Pid
	_ = syscall.Kill(group, syscall.SIGTERM)
	late := time.NewTimer(endTime)
	defer late.Stop()
	for open := true; open; {
		select {
		case _, open = <-m.lines:
		case <-late.C:
			m.t.Errorf("what was started in the background does not end")
			_ = syscall.Kill(group, syscall.SIGKILL)
		}
	}
	_ = m.cmd.Wait() // the signal ends it
}

// typed types a command without waiting for it.
func (m *terminal) typed(command string) {
	m.t.Helper()
	if _, err := io.WriteString(m.in, command+"\n"); err != nil {
		m.t.Fatal(err)
	}
}

// run types a command, and returns what it prints and its exit code.
func (m *terminal) run(command string) (output []string, code int) {
	m.t.Helper()
	m.typed(fmt.Sprintf("{ %s\n} </dev/null; printf '\\n%s %%d\\n' $?", command, mark))
	late := time.NewTimer(commandTime)
	defer late.Stop()
	for {
		select {
		case line, open := <-m.lines:
			if rest, ok := strings.CutPrefix(line, mark); ok {
				_, err := fmt.Sscan(rest, &code)
				if err != nil {
					m.t.Fatal(err)
				}
				if n := len(output); n > 0 && output[n-1] == "" {
					output = output[:n-1]
				}
				return output, code
			}
			if !open {
				m.t.Fatalf("the shell ended with %q:\n%s", command, strings.Join(output, "\n"))
			}
			output = append(output, strings.TrimRight(line, " "))
		case <-late.C:
			m.t.Fatalf("%q does not end:\n%s", command, strings.Join(output, "\n"))
		}
	}
}

// commands parts what is typed into commands: one a line, but for those that go
// on with a backslash or take a text until its last word.
func commands(lines []string) (list []string) {
	until, more := "", false
	for _, line := range lines {
		if more || until != "" {
			list[len(list)-1] += "\n" + line
		} else if text := strings.TrimSpace(line); text != "" && !strings.HasPrefix(text, "#") {
			list = append(list, line)
		} else {
			continue
		}
		more = until == "" && strings.HasSuffix(line, `\`)
		if until != "" && line == until {
			until = ""
		} else if _, word, ok := strings.Cut(line, "<<"); ok && until == "" {
			until = strings.Trim(strings.Fields(word)[0], "'")
		}
	}
	return list
}

// awaitDaemon waits until one answers somewhere below dir.
func awaitDaemon(t *testing.T, dir string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), readyTime)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		answers := errors.New("it answers")
		err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.Name() != "vagoth.sock" {
				return nil //nolint:nilerr // what vanishes meanwhile is no socket
			}
			c, err := serve.Dial(ctx, path)
			if err != nil {
				return nil //nolint:nilerr // not yet
			}
			_ = c.Close()
			return answers
		})
		if errors.Is(err, answers) {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("no daemon answers below %s", dir)
		case <-tick.C:
		}
	}
}
