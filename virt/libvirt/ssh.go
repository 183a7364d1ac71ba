package libvirt

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"
)

const waitDelay = time.Second

// sshConn is a connection through an ssh process of ours.
type sshConn struct {
	net.Conn
	cmd    *exec.Cmd
	stderr *tail
	once   sync.Once
	ended  chan struct{}
}

// sshArguments is what ssh is started with. Nothing in it is read by a shell
// here; what the far side's shell reads is made of plain words alone.
func sshArguments(e endpoint) []string {
	args := []string{"-T", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=3", "-e", "none"}
	if e.port != "" {
		args = append(args, "-p", e.port)
	}
	if e.user != "" {
		args = append(args, "-l", e.user)
	}
	args = append(args, "--", e.host)
	if e.socket != "" {
		return append(args, "nc", "-U", e.socket)
	}
	return append(args, "virt-ssh-helper", e.driver)
}

// dialSSH starts ssh with one end of a socket pair as its input and output.
func dialSSH(ctx context.Context, program string, e endpoint) (net.Conn, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return nil, fmt.Errorf("cannot find ssh: %w", err)
	}
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("cannot make a socket pair for ssh: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "ssh"), os.NewFile(uintptr(pair[1]), "ssh")
	conn, err := net.FileConn(ours)
	_ = ours.Close()
	defer func() { _ = theirs.Close() }()
	if err != nil {
		return nil, fmt.Errorf("cannot use a socket pair for ssh: %w", err)
	}
	c := &sshConn{Conn: conn, cmd: exec.Command(path, sshArguments(e)...), stderr: &tail{}, ended: make(chan struct{})}
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = theirs, theirs, c.stderr
	// A child of ssh's (a proxy command) may keep stderr open after ssh is gone.
	c.cmd.WaitDelay = waitDelay
	if err := ctx.Err(); err != nil {
		_ = conn.Close()
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("cannot start ssh: %w", err)
	}
	go func() {
		defer close(c.ended)
		_ = c.cmd.Wait()
	}()
	return c, nil
}

// Read adds what ssh had to say to the end of the connection.
func (c *sshConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		// Ssh may still be about to say why.
		select {
		case <-c.ended:
		case <-time.After(waitDelay):
		}
		if said := c.stderr.String(); said != "" {
			err = fmt.Errorf("%w: ssh says: %s", err, said)
		}
	}
	return n, err
}

// Close ends ssh and waits for it.
func (c *sshConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { _ = c.cmd.Process.Kill() })
	<-c.ended
	return err
}

// tail keeps the last line that a program wrote, within bounds.
type tail struct {
	mu   sync.Mutex
	text []byte
}

// Write keeps the end of what was written.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p[max(0, len(p)-maxMessage):]...)
	t.text = t.text[max(0, len(t.text)-maxMessage):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := strings.Split(strings.TrimSpace(string(t.text)), "\n")
	return clean(lines[len(lines)-1], maxMessage)
}
