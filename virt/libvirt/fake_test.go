package libvirt

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"go.uber.org/goleak"

	"github.com/vagoth/vagoth/virt"
)

func TestMain(m *testing.M) {
	if os.Getenv("VAGOTH_TEST_SSH") != "" {
		os.Exit(actAsSSH())
	}
	goleak.VerifyTestMain(m)
}

// fake is a libvirtd of a few lines that says what a test wants it to say.
type fake struct {
	address string
	// answer writes the reply to a call, or whatever it likes. False hands the
	// call to the well-behaved answers; the connection ends when it is told to.
	answer func(c net.Conn, q request) bool

	mu    sync.Mutex
	conns map[net.Conn]bool
	asked int // connections, ever
	done  sync.WaitGroup
}

type request struct {
	procedure, serial uint32
	payload           []byte
	quit              <-chan struct{} // closed when the peer has gone
}

func newFake(t testing.TB, answer func(net.Conn, request) bool) *fake {
	t.Helper()
	// Not t.TempDir: the test's name is in it, and a socket's path is short.
	dir, err := os.MkdirTemp("", "vagoth-libvirt-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "s")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	return newFakeOn(t, l, "qemu:///system?socket="+socket, answer)
}

// newFakeOn serves on any listener.
func newFakeOn(t testing.TB, l net.Listener, address string, answer func(net.Conn, request) bool) *fake {
	f := &fake{address: address, answer: answer, conns: map[net.Conn]bool{}}
	f.done.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.conns[c] = true
			f.asked++
			f.mu.Unlock()
			f.done.Go(func() { f.serve(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		f.mu.Lock()
		for c := range f.conns {
			_ = c.Close()
		}
		f.mu.Unlock()
		f.done.Wait()
	})
	return f
}

func (f *fake) serve(c net.Conn) {
	requests, quit := make(chan request), make(chan struct{})
	f.done.Go(func() { // reads, so that a peer that goes is noticed
		defer close(requests)
		defer close(quit)
		for {
			head := make([]byte, frameHeader)
			if _, err := io.ReadFull(c, head); err != nil {
				return
			}
			body := make([]byte, binary.BigEndian.Uint32(head)-frameHeader)
			if _, err := io.ReadFull(c, body); err != nil {
				return
			}
			q := request{procedure: binary.BigEndian.Uint32(head[12:]), serial: binary.BigEndian.Uint32(head[20:]), payload: body, quit: quit}
			select {
			case requests <- q:
			case <-time.After(10 * time.Second):
				return
			}
		}
	})
	for q := range requests {
		if f.answer != nil && f.answer(c, q) {
			continue
		}
		_, _ = c.Write(behave(q))
	}
	_ = c.Close()
	f.mu.Lock()
	delete(f.conns, c)
	f.mu.Unlock()
}

// behave is how libvirtd would answer with no domain there.
func behave(q request) []byte {
	switch q.procedure {
	case procAuthList:
		return ok(q, words(1, 0))
	case procConnectGetAllDomainStats:
		return ok(q, words(0))
	case procConnectGetLibVersion:
		return ok(q, words(0, 9_000_000))
	case procNodeGetInfo:
		return ok(q, append(words(make([]uint32, 32)...), words(0, 8<<20, 4, 1, 1, 1, 4, 1)...))
	case procStoragePoolLookupByName:
		return refusal(q, words(49, 18, 1), text("no such pool"), words(2))
	case procDomainLookupByUUID:
		return ok(q, text("web1"), q.payload, words(1))
	case procDomainGetState:
		return ok(q, words(1, 0))
	}
	return ok(q)
}

// frame writes a frame whose length is right.
func frame(procedure, kind, serial, status uint32, parts ...[]byte) []byte {
	n := frameHeader
	for _, p := range parts {
		n += len(p)
	}
	b := words(uint32(n), program, programVersion, procedure, kind, serial, status)
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

func ok(q request, parts ...[]byte) []byte {
	return frame(q.procedure, typeReply, q.serial, statusOK, parts...)
}

func refusal(q request, parts ...[]byte) []byte {
	return frame(q.procedure, typeReply, q.serial, statusError, parts...)
}

func words(w ...uint32) []byte {
	b := make([]byte, 0, 4*len(w))
	for _, v := range w {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

func text(s string) []byte {
	b := append(words(uint32(len(s))), s...)
	for len(b)%4 != 0 {
		b = append(b, 0)
	}
	return b
}

// domainRecord is a running domain as ConnectGetAllDomainStats lists it.
func domainRecord(n uint32) []byte {
	id := uuid.NewSHA1(uuid.Nil, words(n))
	b := append(text("web"), id[:]...)
	b = append(b, words(n, 3)...)
	b = append(append(b, text("state.state")...), words(1, 1)...)
	b = append(append(b, text("balloon.maximum")...), words(4, 0, 128<<10)...)
	return append(append(b, text("vcpu.current")...), words(2, 2)...)
}

// openAt opens a driver for a fake.
func openAt(t testing.TB, address string, timeout time.Duration) *Driver {
	t.Helper()
	cfg := Defaults()
	cfg.URI, cfg.Timeout = address, timeout
	d, err := Open(context.Background(), cfg, virt.DriverDeps{Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}
