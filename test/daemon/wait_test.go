package daemon

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/internal/lockfile"
)

// A command that finds the data directory held by a process without a socket, as
// a daemon is that opens its stores, goes through the socket as soon as it is
// there. It tells when the daemon is of another version.
func TestCommandWaitsForTheSocket(t *testing.T) {
	ctx, p := slowPlace(t)
	// The daemon's first life makes the directory.
	d := p.start(ctx)
	d.signal(os.Interrupt)
	if _, err := d.wait(); err != nil {
		t.Fatal(err)
	}
	held := filepath.Join(p.dir, "data", "registry", "lock")
	lock, err := lockfile.Acquire(ctx, held, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Release() }()

	var said bytes.Buffer
	cmd := p.command("list", "--lock-wait", "60s")
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill() }()
	until(ctx, t, "the command waits for the lock", func() bool {
		files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", cmd.Process.Pid))
		for _, f := range files {
			if to, err := os.Readlink(f); err == nil && to == held {
				return true
			}
		}
		return false
	})

	l, err := net.Listen("unix", filepath.Join(p.dir, "data", "vagoth.sock"))
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/v1/version", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"version":"0.0.1","go":"go1","uses":{}}`)
	})
	mux.HandleFunc("/v1/nodes", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"items":[]}`) })
	s := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	go func() { _ = s.Serve(l) }()
	defer func() { _ = s.Close() }()

	if err := cmd.Wait(); err != nil {
		t.Errorf("the command: %v\n%s", err, said.String())
	}
	for _, want := range []string{"no nodes match", "of the version 0.0.1 and this command"} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("it does not say %q: %s", want, said.String())
		}
	}
}
