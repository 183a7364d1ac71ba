package etcdtest

import (
	"net"
	"net/url"
	"sync"
	"testing"
)

// Link is a way to an etcd that can be held up, for one manager of several.
type Link struct {
	t  testing.TB
	to string
	l  net.Listener

	mu    sync.Mutex
	moves *sync.Cond
	held  bool
	ended bool
	conns map[net.Conn]bool
	work  sync.WaitGroup
}

// NewLink makes one to the etcd at target, in the clear. It ends with the test.
func NewLink(t testing.TB, target string) *Link {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // a test's
	if err != nil {
		t.Fatal(err)
	}
	k := &Link{t: t, to: u.Host, l: l, conns: map[net.Conn]bool{}}
	k.moves = sync.NewCond(&k.mu)
	k.work.Go(k.accept)
	t.Cleanup(k.end)
	return k
}

// URL is where the etcd is reached through the link.
func (k *Link) URL() string { return "http://" + k.l.Addr().String() }

// Hold lets nothing through, and tells nobody, until Mend.
func (k *Link) Hold() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.held = true
}

// Drop ends all connections. With Hold before it new ones lead nowhere.
func (k *Link) Drop() {
	k.mu.Lock()
	defer k.mu.Unlock()
	for c := range k.conns {
		_ = c.Close()
	}
}

// Mend lets through again.
func (k *Link) Mend() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.held = false
	k.moves.Broadcast()
}

func (k *Link) accept() {
	for {
		in, err := k.l.Accept()
		if err != nil {
			return
		}
		k.work.Go(func() { k.carry(in) })
	}
}

// carry is one connection.
func (k *Link) carry(in net.Conn) {
	defer func() { _ = in.Close() }()
	if !k.pass() {
		return
	}
	out, err := net.Dial("tcp", k.to) //nolint:noctx // a test's
	if err != nil {
		return
	}
	defer func() { _ = out.Close() }()
	if !k.note(in, out) {
		return
	}
	defer k.forget(in, out)
	var both sync.WaitGroup
	both.Go(func() { k.pump(in, out) })
	both.Go(func() { k.pump(out, in) })
	both.Wait()
}

func (k *Link) note(conns ...net.Conn) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range conns {
		k.conns[c] = true
	}
	return !k.ended
}

func (k *Link) forget(conns ...net.Conn) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, c := range conns {
		delete(k.conns, c)
	}
}

// pump carries one direction, and ends both when it ends.
func (k *Link) pump(from, to net.Conn) {
	defer func() { _, _ = from.Close(), to.Close() }()
	room := make([]byte, 32<<10)
	for {
		n, err := from.Read(room)
		if n > 0 {
			if !k.pass() {
				return
			}
			if _, err := to.Write(room[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// pass waits while the link is held. It is false when the test ends.
func (k *Link) pass() bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	for k.held && !k.ended {
		k.moves.Wait()
	}
	return !k.ended
}

func (k *Link) end() {
	k.mu.Lock()
	k.ended = true
	k.moves.Broadcast()
	for c := range k.conns {
		_ = c.Close()
	}
	k.mu.Unlock()
	_ = k.l.Close()
	k.work.Wait()
}
