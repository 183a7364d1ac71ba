package testbed

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
)

// Gate is a socket before another, which lets those who connect wait, and then lets them
// through.
type Gate struct {
	Path string
	// Arrived is told of each that has to wait.
	Arrived chan struct{}

	t  testing.TB
	to string

	mu   sync.Mutex
	open chan struct{} // closed while it is open
}

// NewGate makes one that is open, before the socket at a path. What goes through ends with
// the test.
func NewGate(t testing.TB, to string) *Gate {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "vagoth-gate-") // a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	g := &Gate{Path: filepath.Join(dir, "gate"), Arrived: make(chan struct{}, 100), t: t, to: to, open: make(chan struct{})}
	close(g.open)
	listener, err := net.Listen("unix", g.Path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var work sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		err := listener.Close()
		work.Wait()
		if err := errors.Join(err, os.RemoveAll(dir)); err != nil {
			t.Error(err)
		}
	})
	work.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			work.Go(func() { g.pass(ctx, conn) })
		}
	})
	return g
}

// URI is what virsh --connect and the libvirt driver take, if the gate is before a libvirtd.
func (g *Gate) URI() string { return "qemu:///system?socket=" + g.Path }

// Shut lets nobody through any more who comes from now on.
func (g *Gate) Shut() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.open = make(chan struct{})
}

// Open lets through who waits and who comes.
func (g *Gate) Open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.open)
}

func (g *Gate) pass(ctx context.Context, from net.Conn) {
	defer from.Close()
	g.mu.Lock()
	open := g.open
	g.mu.Unlock()
	select {
	case <-open:
	default:
		select {
		case g.Arrived <- struct{}{}:
		case <-ctx.Done():
			return
		}
		select {
		case <-open:
		case <-ctx.Done():
			return
		}
	}
	to, err := (&net.Dialer{}).DialContext(ctx, "unix", g.to)
	if err != nil {
		if ctx.Err() == nil {
			g.t.Errorf("behind the gate: %v", err)
		}
		return
	}
	defer to.Close()
	defer context.AfterFunc(ctx, func() { _, _ = from.Close(), to.Close() })()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(to, from) // until either side has had enough
		_ = to.Close()
	}()
	_, _ = io.Copy(from, to)
	_ = from.Close()
	<-done
}
