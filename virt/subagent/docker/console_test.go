package docker_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/test/testbed"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/docker"
)

func (b *bench) console(g *mistify.Guest) (io.ReadWriteCloser, error) {
	return b.d.Console(b.Context(), &mistify.ConsoleRequest{Guest: g})
}

// shown attaches, and reads until text has come.
func (b *bench) shown(g *mistify.Guest, typed, text string) io.ReadWriteCloser {
	b.Helper()
	rw, err := b.console(g)
	if err != nil {
		b.Fatal(err)
	}
	if _, err := io.WriteString(rw, typed); err != nil && typed != "" {
		b.Fatal(err)
	}
	stop := time.AfterFunc(time.Minute, func() { _ = rw.Close() })
	defer stop.Stop()
	var all []byte
	for buf := make([]byte, 3); !bytes.Contains(all, []byte(text)); {
		n, err := rw.Read(buf)
		all = append(all, buf[:n]...)
		if err != nil {
			b.Fatalf("it shows %q (%v), want %q", all, err, text)
		}
	}
	return rw
}

// A console is that of the terminal, or what is printed and says so; and it ends
// with its container.
func TestConsole(t *testing.T) {
	f := newFake(t)
	b := newBench(t, f.socket, nil)
	plain, with := guest(), guest()
	with.Console.Terminal = true
	for _, g := range []*mistify.Guest{plain, with} {
		_, err := b.console(g)
		b.refused("one that is not there", err, virt.ErrNotFound)
		b.must(b.d.CreateContainer, g, "shutoff")
		_, err = b.console(g)
		b.refused("one that is off", err, virt.ErrConflict)
		b.must(b.d.StartContainer, g, "running")
		b.must(b.d.PauseContainer, g, "paused")
		if _, err = b.console(g); !errors.Is(err, virt.ErrConflict) || !strings.Contains(err.Error(), "resume it first") {
			t.Errorf("one that is held: %v", err)
		}
		b.must(b.d.UnpauseContainer, g, "running")
	}
	if box, ok := f.boxNamed(with.ID); !ok || !box.Tty || !box.OpenStdin {
		t.Errorf("it was made as %+v", box)
	}
	one, two := b.shown(with, "hello\x10\x11\x1d", "/ # hello\x10\x11\x1d"), b.shown(plain, "", "nothing can be typed")
	if _, err := two.Write([]byte("x")); !errors.Is(err, virt.ErrUnsupported) || !strings.Contains(err.Error(), `"terminal": true`) {
		t.Errorf("typed where there is no terminal: %v", err)
	}
	b.must(b.d.StopContainer, with, "shutoff")
	b.must(b.d.StopContainer, plain, "shutoff")
	if rest, err := io.ReadAll(one); err != nil || len(rest) > 0 {
		t.Errorf("the end of one is %q (%v)", rest, err)
	}
	if rest, err := io.ReadAll(two); err != nil || !strings.HasSuffix(string(rest), "\r\nsays oops") {
		t.Errorf("the other showed %q (%v)", rest, err)
	}
	for _, rw := range []io.Closer{one, two} {
		if err := rw.Close(); err != nil {
			t.Error(err)
		}
	}
	// Its own console is a part of what it was made as.
	changed := *with
	changed.Console.Terminal = false
	b.fails("without its terminal", b.d.CreateContainer, &changed, virt.ErrConflict)

	// One that is closed from here reads as ended.
	b.must(b.d.StartContainer, with, "running")
	rw := b.shown(with, "", "/ # ")
	if err := rw.Close(); err != nil {
		t.Error(err)
	}
	if n, err := rw.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("after its end it reads %d (%v)", n, err)
	}
}

// A container that ends while somebody attaches is told so, and what dockerd says
// instead of attaching is bounded and no console.
func TestConsoleHostile(t *testing.T) {
	f := newFake(t)
	b := newBench(t, f.socket, func(o *docker.Options) { o.Timeout = time.Second })
	g := guest()
	b.must(b.d.CreateContainer, g, "shutoff")
	b.must(b.d.StartContainer, g, "running")
	long := strings.Repeat("x", 1<<20)
	raw := func(text string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			line, _, _ := http.NewResponseController(w).Hijack()
			_, _ = io.WriteString(line, text)
			_ = line.Close()
		}
	}
	attached := func(text string) func(http.ResponseWriter) {
		return func(w http.ResponseWriter) {
			line := upgrade(w)
			_, _ = io.WriteString(line, text)
			_ = line.Close()
		}
	}
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter)
		want   error // of attaching
		reads  error // of reading then
	}{
		"ends meanwhile": {func(w http.ResponseWriter) {
			f.put(func() {
				for _, b := range f.containers {
					b.State = "exited"
				}
			})
			_ = upgrade(w).Close()
		}, virt.ErrConflict, nil},
		"begins again meanwhile": {func(w http.ResponseWriter) {
			f.put(func() {
				for _, b := range f.containers {
					b.began = b.began.Add(time.Second)
				}
			})
			_ = upgrade(w).Close()
		}, virt.ErrConflict, nil},
		"refuses":          {func(w http.ResponseWriter) { wrong(w, 409, "container is paused\x1b[31m%s", long[:1000]) }, virt.ErrConflict, nil},
		"refuses at large": {func(w http.ResponseWriter) { wrong(w, 409, "%s", long) }, virt.ErrUnreachable, nil},
		"does not know":    {func(w http.ResponseWriter) { wrong(w, 404, "No such container") }, virt.ErrNotFound, nil},
		"no upgrade":       {func(w http.ResponseWriter) { w.WriteHeader(200) }, virt.ErrUnreachable, nil},
		"redirects":        {func(w http.ResponseWriter) { w.Header().Set("Location", "http://127.0.0.1:1/"); w.WriteHeader(307) }, virt.ErrUnreachable, nil},
		"headers":          {raw("HTTP/1.1 101 UPGRADED\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nX: " + long + "\r\n\r\n"), virt.ErrUnreachable, nil},
		"garbage":          {raw("\x00\xff\r\n\r\n"), virt.ErrUnreachable, nil},
		"a piece of none":  {attached("\x07\x00\x00\x00\x00\x00\x00\x01x"), nil, virt.ErrUnreachable},
		"a piece cut":      {attached("\x01\x00\x00\x00\xff\xff\xff\xffx"), nil, io.ErrUnexpectedEOF},
		"a head cut":       {attached("\x01\x00\x00"), nil, io.ErrUnexpectedEOF},
		"empty pieces":     {attached(strings.Repeat("\x01\x00\x00\x00\x00\x00\x00\x00", 1000)), nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			f.put(func() {
				for _, b := range f.containers {
					b.State = "running"
				}
				f.before = func(w http.ResponseWriter, r *http.Request) bool {
					if strings.HasSuffix(r.URL.Path, "/attach") {
						c.answer(w)
						return true
					}
					return false
				}
			})
			rw, err := b.console(g)
			if err != nil {
				if !errors.Is(err, c.want) || c.want == nil || len(err.Error()) > 1500 || strings.ContainsRune(err.Error(), '\x1b') {
					t.Errorf("got error %.2000q, want one that is %v", err, c.want)
				}
				return
			}
			defer func() { _ = rw.Close() }()
			if _, err := io.ReadAll(rw); c.want != nil || !errors.Is(err, c.reads) {
				t.Errorf("it is attached and reads as %v, want %v and %v", err, c.want, c.reads)
			}
		})
	}
	t.Run("hangs", func(t *testing.T) {
		f.put(func() {
			for _, b := range f.containers {
				b.State = "running"
			}
			f.before = func(_ http.ResponseWriter, r *http.Request) bool {
				if strings.HasSuffix(r.URL.Path, "/attach") {
					<-r.Context().Done()
					return true
				}
				return false
			}
		})
		_, err := b.console(g)
		b.refused("a dockerd that hangs", err, virt.ErrUnreachable)
	})
}

// Whatever dockerd sends as what a container prints, the pieces come in their order,
// or there is an error; and no more is read than was asked for.
func FuzzFrames(f *testing.F) {
	frame := func(kind byte, text string) []byte {
		return append(binary.BigEndian.AppendUint32([]byte{kind, 0, 0, 0}, uint32(len(text))), text...)
	}
	f.Add(append(frame(1, "hello"), frame(2, "")...), 3)
	f.Add(frame(3, "x"), 1)
	f.Add([]byte{1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 'x'}, 100)
	f.Fuzz(func(t *testing.T, data []byte, size int) {
		size = min(max(size, 1), 1<<16)
		var want []byte
		rest, whole := data, true
		for len(rest) > 0 && whole {
			if whole = len(rest) >= 8 && rest[0] < 3 && rest[1]|rest[2]|rest[3] == 0; !whole {
				break
			}
			n := int(min(binary.BigEndian.Uint32(rest[4:]), uint32(len(rest)-8)))
			whole = n == int(binary.BigEndian.Uint32(rest[4:]))
			want, rest = append(want, rest[8:8+n]...), rest[8+n:]
		}
		got, err := io.ReadAll(onlyRead{docker.Frames(bytes.NewReader(data)), size})
		if !bytes.Equal(got, want) || (err == nil) != whole {
			t.Errorf("%q is read as %q (%v), want %q, whole %v", data, got, err, want, whole)
		}
	})
}

// onlyRead reads in pieces.
type onlyRead struct {
	r    io.Reader
	size int
}

func (o onlyRead) Read(p []byte) (int, error) { return o.r.Read(p[:min(len(p), o.size)]) }

// consoles attaches to real ones.
func (b *bench) consoles(k *testbed.Docker) {
	b.Helper()
	plain, with := guest(), guest()
	plain.Image, with.Image, with.Console.Terminal = testbed.Busybox, testbed.Busybox, true
	for _, g := range []*mistify.Guest{plain, with} {
		b.must(b.d.CreateContainer, g, "shutoff")
		_, err := b.console(g)
		b.refused("one that is off", err, virt.ErrConflict)
		b.must(b.d.StartContainer, g, "running")
	}
	// Ctrl-P and Ctrl-Q, which detach where nobody has asked for anything else. The
	// container reads nothing; its terminal shows what it was given.
	one := b.shown(with, "o\x10\x11\x15this is one\r", "this is one")
	two := b.shown(with, "this is two\r", "this is two")
	three := b.shown(plain, "", "nothing can be typed")
	if _, err := three.Write([]byte("x")); !errors.Is(err, virt.ErrUnsupported) {
		b.Errorf("typed where there is no terminal: %v", err)
	}
	b.must(b.d.PoweroffContainer, with, "shutoff")
	b.must(b.d.PoweroffContainer, plain, "shutoff")
	for _, rw := range []io.ReadWriteCloser{one, two, three} {
		if _, err := io.Copy(io.Discard, rw); err != nil {
			b.Errorf("a console whose container ends reads as %v", err)
		}
		if err := rw.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			b.Error(err)
		}
	}
	for _, g := range []*mistify.Guest{plain, with} {
		b.must(b.d.DeleteContainer, g, "")
	}
	if left := k.Ask(b.T, http.MethodGet, fmt.Sprintf("/containers/json?all=1&filters=%%7B%%22name%%22%%3A%%5B%%22%s%%22%%5D%%7D", with.ID), nil); strings.TrimSpace(string(left)) != "[]" {
		b.Errorf("%s is left", left)
	}
}
