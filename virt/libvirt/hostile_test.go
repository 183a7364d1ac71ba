package libvirt

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/vagoth/vagoth/virt"
)

const (
	hostileTimeout = 400 * time.Millisecond
	hostileGrace   = 2 * time.Second
	hostileMemory  = 8 << 20 // allocated in all, by both sides
)

// on answers one procedure, and leaves the others to good manners.
func on(procedure uint32, f func(c net.Conn, q request)) func(net.Conn, request) bool {
	return func(c net.Conn, q request) bool {
		if q.procedure == procedure {
			f(c, q)
		}
		return q.procedure == procedure
	}
}

func says(b ...[]byte) func(net.Conn, request) {
	return func(c net.Conn, _ request) { _, _ = c.Write(bytes.Join(b, nil)) }
}

func replies(f func(q request) []byte) func(net.Conn, request) {
	return func(c net.Conn, q request) { _, _ = c.Write(f(q)) }
}

// length is a frame that says it has so many bytes, and has a hundred.
func length(n uint32) func(net.Conn, request) {
	return replies(func(q request) []byte {
		b := ok(q, make([]byte, 72))
		copy(b, words(n))
		return b
	})
}

// waits until the peer is gone.
func waits(_ net.Conn, q request) { <-q.quit }

func trickle(c net.Conn, q request) {
	for _, b := range ok(q, words(0)) {
		select {
		case <-q.quit:
			return
		case <-time.After(50 * time.Millisecond): // the peer is slow, that is what is tested
		}
		if _, err := c.Write([]byte{b}); err != nil {
			return
		}
	}
}

// millionDomains is well-formed, and has more domains than anyone can have.
func millionDomains(c net.Conn, q request) {
	const n = 1_000_000
	record := append(words(0), make([]byte, 16+4+4)...)
	chunk := bytes.Repeat(record, 1000)
	head := ok(q, words(n))
	copy(head, words(uint32(frameHeader+4+n*len(record))))
	if _, err := c.Write(head); err != nil {
		return
	}
	for range n / 1000 {
		if _, err := c.Write(chunk); err != nil {
			return
		}
	}
}

func hostileAnswers() map[string]func(net.Conn, request) {
	r := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 64<<10)
	for i := range noise {
		noise[i] = byte(r.Uint32())
	}
	return map[string]func(net.Conn, request){
		"length 0":          length(0),
		"length 4":          length(4),
		"length 27":         length(27),
		"length 0x3fffffff": length(0x3fffffff),
		"length 0xffffffff": length(0xffffffff),
		"length 32 MiB":     length(32 << 20),
		"silence":           waits,
		"trickle":           trickle,
		"garbage":           says(noise),
		"close at once":     func(c net.Conn, _ request) { _ = c.Close() },
		"close mid-frame": func(c net.Conn, q request) {
			_, _ = c.Write(ok(q, words(0))[:20])
			_ = c.Close()
		},
		"wrong serial":    replies(func(q request) []byte { q.serial++; return ok(q, words(0)) }),
		"wrong procedure": replies(func(q request) []byte { q.procedure++; return ok(q, words(0)) }),
		"a call":          replies(func(q request) []byte { return frame(q.procedure, 0, q.serial, 0, words(0)) }),
		"a stream":        replies(func(q request) []byte { return frame(q.procedure, 3, q.serial, 2, words(0)) }),
		"with files":      replies(func(q request) []byte { return frame(q.procedure, 5, q.serial, 0, words(0)) }),
		"status 2":        replies(func(q request) []byte { return frame(q.procedure, typeReply, q.serial, 2, words(0)) }),
		"events": func(c net.Conn, q request) {
			event := frame(318, 2, 0, 0, words(1), text("web1"), make([]byte, 20), words(0, 0))
			for {
				if _, err := c.Write(event); err != nil {
					return
				}
			}
		},
		"error with a huge message":      replies(func(q request) []byte { return refusal(q, words(1, 1, 1, 0x7ffffff0)) }),
		"error cut short":                replies(func(q request) []byte { return refusal(q, words(1)) }),
		"error that is a pool of zeroes": replies(func(q request) []byte { return refusal(q, make([]byte, 40<<10)) }),
	}
}

// statsAnswers are about the list of domains alone.
func statsAnswers() map[string]func(net.Conn, request) {
	return map[string]func(net.Conn, request){
		"a million domains":         millionDomains,
		"2^31 domains in no bytes":  replies(func(q request) []byte { return ok(q, words(0x7fffffff)) }),
		"9,999 domains in no bytes": replies(func(q request) []byte { return ok(q, words(9_999)) }),
		"a name of 2 GiB":           replies(func(q request) []byte { return ok(q, words(1, 0x7ffffff0), make([]byte, 100)) }),
		"2^28 values": replies(func(q request) []byte {
			return ok(q, words(1), text("w"), make([]byte, 20), words(1<<28), make([]byte, 100))
		}),
		"too many values": replies(func(q request) []byte {
			b := append(words(2), domainRecord(1)...)
			b = append(append(b, text("w")...), make([]byte, 20)...)
			b = append(b, words(4096)...)
			return ok(q, b, bytes.Repeat(append(text("x"), words(1, 1)...), 4096))
		}),
		"a value of type 99": replies(func(q request) []byte {
			return ok(q, words(1), text("w"), make([]byte, 20), words(1), text("x"), words(99, 1))
		}),
		"one domain twice":  replies(func(q request) []byte { return ok(q, words(2), domainRecord(1), domainRecord(1)) }),
		"bytes to spare":    replies(func(q request) []byte { return ok(q, words(1), domainRecord(1), words(1)) }),
		"a list cut short":  replies(func(q request) []byte { return ok(q, words(2), domainRecord(1)) }),
		"not even a length": replies(func(q request) []byte { return ok(q) }),
	}
}

// A hostile peer costs one error in time, little memory, and no goroutine.
func TestHostilePeer(t *testing.T) {
	for name, answer := range hostileAnswers() {
		for stage, procedure := range map[string]uint32{"auth": procAuthList, "open": procConnectOpen, "list": procConnectGetAllDomainStats} {
			if stage == "open" && strings.HasPrefix(name, "error that is") {
				continue // opening is refused with code 0: that is an answer
			}
			t.Run(name+" at "+stage, func(t *testing.T) { survive(t, on(procedure, answer)) })
		}
	}
	for name, answer := range statsAnswers() {
		t.Run(name, func(t *testing.T) { survive(t, on(procConnectGetAllDomainStats, answer)) })
	}
}

func survive(t *testing.T, answer func(net.Conn, request) bool) {
	leaks := goleak.IgnoreCurrent()
	f := newFake(t, answer)
	d := openAt(t, f.address, hostileTimeout)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	began := time.Now()
	l, err := d.Status(t.Context(), virt.Host{ID: "hostile"})
	took := time.Since(began)
	runtime.ReadMemStats(&after)
	if err == nil {
		t.Errorf("the listing of a hostile peer is taken for true: %+v", l)
	}
	if took > hostileTimeout+hostileGrace {
		t.Errorf("it took %v, the deadline is %v", took, hostileTimeout)
	}
	if got := after.TotalAlloc - before.TotalAlloc; got > hostileMemory {
		t.Errorf("it allocated %d bytes, at most %d are allowed", got, hostileMemory)
	}
	if err != nil && (len(err.Error()) > 2000 || strings.ContainsAny(err.Error(), "\x00\x1b\n")) {
		t.Errorf("the error is not fit to be shown: %q", err)
	}
	if !isUnreachable(err) && !strings.Contains(t.Name(), "error_that_is") {
		t.Errorf("got error %v, want an ErrUnreachable", err)
	}
	if strings.Contains(t.Name(), "/length_") && !strings.Contains(t.Name(), "MiB") && (!errors.Is(err, errMalformed) || took > hostileTimeout*3/4) {
		t.Errorf("a length that cannot be is found after %v: %v", took, err)
	}
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	// What is left is the fake's own, until the test's cleanup.
	f.mu.Lock()
	for c := range f.conns {
		_ = c.Close()
	}
	f.mu.Unlock()
	if err := goleak.Find(leaks, goleak.IgnoreAnyFunction("github.com/vagoth/vagoth/virt/libvirt.newFakeOn.func1"),
		goleak.IgnoreAnyFunction("sync.(*WaitGroup).Go.func1")); err != nil {
		t.Error(err)
	}
}

// Frames that nobody asked for, on a connection without a call, close it; the
// next call gets another.
func TestUnaskedFrames(t *testing.T) {
	f := newFake(t, on(procNodeGetInfo, replies(func(q request) []byte { return append(behave(q), ok(q, words(0))...) })))
	d := openAt(t, f.address, 5*time.Second)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 20 {
				if _, err := d.Capacity(t.Context(), virt.Host{}); err != nil && !isUnreachable(err) {
					t.Errorf("got error %v", err)
				}
			}
		})
	}
	wg.Wait()
}

// A peer that goes as soon as it has opened is gone in an orderly way: the
// race detector has an eye on go-libvirt here.
func TestGoneAfterOpen(t *testing.T) {
	f := newFake(t, on(procConnectOpen, func(c net.Conn, q request) {
		_, _ = c.Write(ok(q))
		_ = c.Close()
	}))
	d := openAt(t, f.address, 2*time.Second)
	for range 50 {
		if _, err := d.Status(t.Context(), virt.Host{}); !isUnreachable(err) {
			t.Fatalf("got error %v, want an ErrUnreachable", err)
		}
	}
}

// Hosts that hang do not hold up others, and Close does not wait for their
// deadline.
func TestHungHostsDelayNobody(t *testing.T) {
	hung := newFake(t, on(procConnectGetAllDomainStats, waits))
	good := newFake(t, on(procConnectGetAllDomainStats, replies(func(q request) []byte { return ok(q, words(1), domainRecord(7)) })))
	d := openAt(t, good.address, time.Minute)
	var failed atomic.Int32
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if _, err := d.Status(t.Context(), virt.Host{Address: hung.address}); isUnreachable(err) {
				failed.Add(1)
			}
		})
	}
	for range 100 {
		began := time.Now()
		l, err := d.Status(t.Context(), virt.Host{})
		if err != nil || !l.Complete || len(l.Guests) != 1 {
			t.Fatalf("a good host: %+v, %v", l, err)
		}
		want := virt.Seen{UUID: l.Guests[0].UUID, Name: "web", State: virt.Running, CPU: 2, Memory: 128}
		if l.Guests[0] != want || l.Capacity.CPU != 4 || l.Capacity.Memory != 8<<10 {
			t.Fatalf("a good host says %+v", l)
		}
		if took := time.Since(began); took > 2*time.Second {
			t.Fatalf("a good host took %v beside hung ones", took)
		}
	}
	began := time.Now()
	if err := d.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	if took := time.Since(began); took > 5*time.Second || failed.Load() != 20 {
		t.Errorf("closing took %v, and %d of 20 hung calls ended as unreachable", took, failed.Load())
	}
	if _, err := d.Status(t.Context(), virt.Host{}); !isUnreachable(err) {
		t.Errorf("a call after Close: %v", err)
	}
}

// Calls that change something and hang leave room for those that look.
func TestSlowChangesLeaveRoomToLook(t *testing.T) {
	f := newFake(t, on(procDomainCreateWithFlags, waits))
	d := openAt(t, f.address, 3*time.Second)
	g := virt.Guest{ID: "web1", UUID: "0dfd1b21-9f1c-5967-af6a-4d1076d12b2d"}
	var wg sync.WaitGroup
	for range 10 {
		wg.Go(func() {
			if err := d.Power(t.Context(), virt.Host{}, g, virt.PowerStart); !isUnreachable(err) {
				t.Errorf("a start that hangs: %v", err)
			}
		})
	}
	for range 50 {
		began := time.Now()
		if _, err := d.Status(t.Context(), virt.Host{}); err != nil {
			t.Errorf("status: %v", err)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("status took %v behind starts that hang", took)
		}
	}
	wg.Wait()
}

// Connections are kept, within bounds.
func TestConnectionsAreKept(t *testing.T) {
	f := newFake(t, nil)
	d := openAt(t, f.address, 5*time.Second)
	for range 100 {
		if _, err := d.Status(t.Context(), virt.Host{}); err != nil {
			t.Fatal(err)
		}
	}
	f.mu.Lock()
	one := f.asked
	f.mu.Unlock()
	if one != 1 {
		t.Errorf("100 calls took %d connections, want 1", one)
	}
	var wg sync.WaitGroup
	for range 100 {
		wg.Go(func() {
			if _, err := d.Status(t.Context(), virt.Host{}); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	open := func() int {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.conns)
	}
	for end := time.Now().Add(10 * time.Second); open() > keepIdle && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
	if n := open(); n > keepIdle {
		t.Errorf("%d connections are open, want at most %d", n, keepIdle)
	}
	p, err := d.pool(virt.Host{})
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) > keepIdle || len(p.live) != len(p.idle) {
		t.Errorf("%d connections are idle and %d alive, want at most %d", len(p.idle), len(p.live), keepIdle)
	}
}

// A connection that has been idle for long has to answer before it is used.
func TestIdleConnectionIsChecked(t *testing.T) {
	var mute atomic.Bool
	f := newFake(t, on(procConnectGetLibVersion, func(c net.Conn, q request) {
		if mute.Load() {
			_ = c.Close()
			return
		}
		_, _ = c.Write(behave(q))
	}))
	var clock atomic.Int64
	d := openAt(t, f.address, 5*time.Second)
	d.now = func() time.Time { return time.Unix(clock.Load(), 0) }
	look := func(wantConnections int) {
		t.Helper()
		if _, err := d.Status(t.Context(), virt.Host{}); err != nil {
			t.Fatal(err)
		}
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.asked != wantConnections {
			t.Fatalf("%d connections so far, want %d", f.asked, wantConnections)
		}
	}
	look(1)
	clock.Add(20)
	look(1)
	mute.Store(true)
	look(1) // used a moment ago
	clock.Add(20)
	look(2)
}

// What libvirtd answers with is sorted, and shown in its own words.
func TestErrorsFromTheHost(t *testing.T) {
	for _, c := range []struct {
		code    uint32
		message []byte
		want    error
		shown   string
	}{
		{42, append(words(1), text("no domain")...), virt.ErrNotFound, "no domain"},
		{67, append(words(1), text("no such thing")...), virt.ErrUnsupported, "no such thing"},
		{27, append(words(1), text("bad\x1b[31m\nXML")...), virt.ErrInvalid, "bad?[31m?XML"},
		{68, append(words(1), text("cannot acquire state change lock")...), virt.ErrUnreachable, "cannot acquire"},
		{1, append(words(1), text(strings.Repeat("x", 5000))...), nil, strings.Repeat("x", 400) + "…"},
		{1, words(0), nil, "it gave no reason"},
		{0, append(words(1), text("all is well")...), nil, "all is well"},
		{1, append(words(1), text("unknown procedure: 1")...), virt.ErrUnsupported, "too old"},
	} {
		f := newFake(t, on(procDomainLookupByUUID, replies(func(q request) []byte {
			return refusal(q, words(c.code, 10), c.message, words(2))
		})))
		d := openAt(t, f.address, 2*time.Second)
		_, err := d.Info(t.Context(), virt.Host{}, virt.Guest{ID: "web1", UUID: "0dfd1b21-9f1c-5967-af6a-4d1076d12b2d"})
		shown := c.shown
		if s, cut := strings.CutSuffix(shown, "…"); cut {
			shown = s
		}
		if err == nil || c.want != nil && !errors.Is(err, c.want) || !strings.Contains(err.Error(), shown) || len(err.Error()) > 1000 {
			t.Errorf("code %d: got error %v, want %v with %q", c.code, err, c.want, shown)
		}
		kinds := []error{virt.ErrNotFound, virt.ErrUnreachable, virt.ErrUnsupported, virt.ErrBusy, virt.ErrConflict, virt.ErrInvalid}
		if c.want == nil && slices.ContainsFunc(kinds, func(k error) bool { return errors.Is(err, k) }) {
			t.Errorf("code %d is taken for a kind that it is not: %v", c.code, err)
		}
	}
}

// Documents of a host are read within bounds, and nonsense in them is told.
func TestHostileDocuments(t *testing.T) {
	g := virt.Guest{ID: "web1", UUID: "0dfd1b21-9f1c-5967-af6a-4d1076d12b2d"}
	stats := replies(func(q request) []byte { // the one domain that is asked for
		b := append(words(1), text("web1")...)
		return ok(q, b, q.payload[4+8:4+8+16], words(1, 0))
	})
	for name, document := range map[string]string{
		"nonsense":      "\x1b[31m<<<",
		"nested deeply": strings.Repeat("<domain>", 100_000),
		"too long":      strings.Repeat(" ", 4<<20+1),
		"empty":         "",
	} {
		f := newFake(t, func(c net.Conn, q request) bool {
			switch q.procedure {
			case procDomainGetXMLDesc:
				_, _ = c.Write(ok(q, text(document)))
			case procConnectGetAllDomainStats:
				stats(c, q)
			default:
				return false
			}
			return true
		})
		d := openAt(t, f.address, 5*time.Second)
		if _, err := d.Info(t.Context(), virt.Host{}, g); !isUnreachable(err) || !errors.Is(err, errMalformed) {
			t.Errorf("%s: got error %v, want ErrUnreachable of a malformed reply", name, err)
		}
	}
}

// The guest that was asked for is the guest that is touched.
func TestAnotherDomainThanAskedFor(t *testing.T) {
	f := newFake(t, on(procDomainLookupByUUID, replies(func(q request) []byte { return ok(q, text("other"), make([]byte, 16), words(1)) })))
	d := openAt(t, f.address, 2*time.Second)
	g := virt.Guest{ID: "web1", UUID: "0dfd1b21-9f1c-5967-af6a-4d1076d12b2d"}
	if err := d.Power(t.Context(), virt.Host{}, g, virt.PowerStop); !errors.Is(err, errMalformed) {
		t.Errorf("got error %v, want a malformed reply", err)
	}
}
