package lockfile

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const childEnv = "VAGOTH_TEST_LOCKFILE"

func TestMain(m *testing.M) {
	if path := os.Getenv(childEnv); path != "" {
		child(path)
		return
	}
	goleak.VerifyTestMain(m)
}

// child holds the lock until its standard input ends.
func child(path string) {
	l, err := Acquire(context.Background(), path, 0)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("held")
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	_ = l.Release()
}

func TestTwoHandlesOfOneProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	l, err := Acquire(t.Context(), path, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Acquire(t.Context(), path, 0)
	var held *HeldError
	if !errors.As(err, &held) {
		t.Fatalf("the second handle got %v, want *HeldError", err)
	}
	if held.PID != os.Getpid() || held.Path != path || held.Command == "" || time.Since(held.Since) > time.Hour {
		t.Errorf("the holder is described as %+v", held)
	}
	if !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) || !strings.Contains(err.Error(), "wait until it ends") {
		t.Errorf("the message does not help: %v", err)
	}
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	if err := l.Release(); err != nil {
		t.Errorf("a second Release: %v", err)
	}
	l, err = Acquire(t.Context(), path, 0)
	if err != nil {
		t.Fatalf("after Release: %v", err)
	}
	defer l.Release()
	if fi, err := os.Stat(path); err != nil || fi.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", fi.Mode(), err)
	}
}

func TestWaits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	l, err := Acquire(t.Context(), path, 0)
	if err != nil {
		t.Fatal(err)
	}
	got := make(chan error, 1)
	go func() {
		l, err := Acquire(context.Background(), path, time.Minute)
		if err == nil {
			err = l.Release()
		}
		got <- err
	}()
	if err := l.Release(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Errorf("the one who waited got %v", err)
	}
}

func TestContextEndsTheWait(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	l, err := Acquire(t.Context(), path, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Release()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	_, err = Acquire(ctx, path, time.Hour)
	var held *HeldError
	if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &held) {
		t.Errorf("got %v", err)
	}
	cancel()
	if _, err := Acquire(ctx, filepath.Join(t.TempDir(), "free"), 0); err == nil {
		t.Error("a context that has ended was given the lock")
	}
}

func TestAnotherProcess(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+path)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer stdin.Close()
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "held\n" {
		t.Fatalf("child said %q, %v", line, err)
	}
	var held *HeldError
	if _, err := Acquire(t.Context(), path, 50*time.Millisecond); !errors.As(err, &held) || held.PID != cmd.Process.Pid {
		t.Fatalf("got %v, want a HeldError that names process %d", err, cmd.Process.Pid)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	l, err := Acquire(t.Context(), path, 10*time.Second)
	if err != nil {
		t.Fatalf("the lock outlived its holder: %v", err)
	}
	_ = l.Release()
}

func TestContentIsNotTheLock(t *testing.T) {
	for name, content := range map[string]string{
		"a process that lives": `{"pid":1,"command":"init"}`, "garbage": "\x00\xff{", "long": strings.Repeat("x", 1<<16), "empty": "",
		"terminal codes": `{"pid":7,"command":"\u001b[2Jboo\nnext"}`,
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "lock")
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			l, err := Acquire(t.Context(), path, 0)
			if err != nil {
				t.Fatalf("content kept the lock away: %v", err)
			}
			defer l.Release()
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			_, err = Acquire(t.Context(), path, 0)
			var held *HeldError
			if !errors.As(err, &held) {
				t.Fatalf("content gave the lock away: %v", err)
			}
			if strings.ContainsAny(err.Error(), "\x1b\n\x00") {
				t.Errorf("control characters reach the terminal: %q", err)
			}
		})
	}
}

func TestRefusesALink(t *testing.T) {
	dir := t.TempDir()
	target := filepath.Join(dir, "precious")
	if err := os.WriteFile(target, []byte("keep"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(target, filepath.Join(dir, "lock")); err != nil {
		t.Fatal(err)
	}
	if _, err := Acquire(t.Context(), filepath.Join(dir, "lock"), 0); err == nil {
		t.Error("a symbolic link was followed")
	}
	if b, err := os.ReadFile(target); err != nil || string(b) != "keep" {
		t.Errorf("the link's target holds %q, %v", b, err)
	}
}
