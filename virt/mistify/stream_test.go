package mistify

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/virt"
)

// endless gives bytes until it is closed, and says so.
type endless struct {
	ctx   context.Context
	ended chan<- struct{}
}

func (e endless) Read(p []byte) (int, error) {
	if err := e.ctx.Err(); err != nil {
		return 0, err
	}
	return len(p), nil
}

func (e endless) Close() error {
	e.ended <- struct{}{}
	return nil
}

func streams(ended chan<- struct{}) *Server {
	s := NewServer(ServerOptions{Grace: time.Second})
	RegisterStream(s, "Test.Download", "/snapshots/download", func(ctx context.Context, r *SnapshotRequest) (*Download, error) {
		text := strings.Repeat(r.ID+"\n", 10_000)
		d := &Download{ReadCloser: io.NopCloser(strings.NewReader(text)), ContentType: "text/plain", Length: int64(len(text))}
		switch r.Dest {
		case "unknown length":
			d.Length = -1
		case "short":
			d.Length++
		case "breaks":
			d.Length, d.ReadCloser = -1, io.NopCloser(io.MultiReader(strings.NewReader(text), badReader{}))
		case "panics":
			d.Length, d.ReadCloser = -1, io.NopCloser(io.MultiReader(strings.NewReader(text), badReader{panics: true}))
		case "none":
			return nil, fmt.Errorf("the snapshot %s: %w", r.ID, virt.ErrNotFound)
		case "nil":
			return nil, nil
		case "endless":
			d.Length, d.ReadCloser = -1, endless{ctx, ended}
		}
		return d, nil
	})
	return s
}

type badReader struct{ panics bool }

func (b badReader) Read([]byte) (int, error) {
	if b.panics {
		panic("oh")
	}
	return 0, errors.New("the disk is gone")
}

func TestStream(t *testing.T) {
	e := serve(t, streams(nil), Endpoint{})
	for _, path := range []string{"", "/snapshots/download"} {
		e.Path = path
		c := newRPC(t, e, RPCOptions{})
		want := strings.Repeat("guests/x\n", 10_000)
		for _, x := range []struct {
			dest, err string
			length    int64
			is        error
		}{
			{"", "", int64(len(want)), nil},
			{"unknown length", "", -1, nil},
			{"short", "the stream broke off", int64(len(want)) + 1, virt.ErrUnreachable},
			{"breaks", "the stream broke off", -1, virt.ErrUnreachable},
			{"panics", "the stream broke off", -1, virt.ErrUnreachable},
			{"none", "404 Not Found: the snapshot guests/x: not found", 0, virt.ErrNotFound},
			{"nil", "the method has no answer", 0, nil},
		} {
			t.Run(path+"/"+x.dest, func(t *testing.T) {
				d, err := c.Stream(context.Background(), "Test.Download", &SnapshotRequest{ID: "guests/x", Dest: x.dest})
				var got []byte
				if err == nil {
					if d.ContentType != "text/plain" || d.Length != x.length {
						t.Errorf("%q, %d bytes", d.ContentType, d.Length)
					}
					got, err = io.ReadAll(d)
					if err := d.Close(); err != nil {
						t.Error(err)
					}
					if !bytes.HasPrefix([]byte(want), got) || err == nil && string(got) != want {
						t.Errorf("%d bytes came, not those that were sent", len(got))
					}
				}
				if (x.err == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), x.err) || x.is != nil && !errors.Is(err, x.is) {
					t.Errorf("error %v, want %q, %v", err, x.err, x.is)
				}
				if c.Pending() != 0 {
					t.Error("the stream still has its place")
				}
			})
		}
	}
}

// Whoever stops reading stops the sub-agent.
func TestStreamGivenUp(t *testing.T) {
	for _, how := range []string{"closed", "cancelled"} {
		t.Run(how, func(t *testing.T) {
			ended := make(chan struct{}, 1)
			c := newRPC(t, serve(t, streams(ended), Endpoint{}), RPCOptions{})
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			d, err := c.Stream(ctx, "Test.Download", &SnapshotRequest{Dest: "endless"})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := io.CopyN(io.Discard, d, 1<<20); err != nil {
				t.Fatal(err)
			}
			if how == "cancelled" {
				cancel()
				if _, err := io.Copy(io.Discard, d); !errors.Is(err, context.Canceled) {
					t.Errorf("the reader gets %v", err)
				}
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
			select {
			case <-ended:
			case <-time.After(10 * time.Second):
				t.Error("the sub-agent goes on")
			}
			if err := d.Close(); err != nil || c.Pending() != 0 {
				t.Errorf("closed twice: %v, %d pending", err, c.Pending())
			}
		})
	}
}

// A peer that goes silent ends the stream; a reader that takes its time does not.
func TestStreamStall(t *testing.T) {
	const head = "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"
	for name, peer := range map[string]func(net.Conn){
		"in the middle": func(c net.Conn) { _, _ = io.WriteString(c, head+"half") },
		"at the start":  func(net.Conn) {},
		"in an error":   func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 500 No\r\nContent-Length: 10\r\n\r\n") },
	} {
		t.Run(name, func(t *testing.T) {
			c := newRPC(t, raw(t, peer), RPCOptions{Stall: 50 * time.Millisecond})
			d, err := c.Stream(context.Background(), "A.B", &SnapshotRequest{})
			if err == nil {
				_, err = io.Copy(io.Discard, d)
				_ = d.Close()
			}
			if err == nil || name != "in an error" && !errors.Is(err, errStalled) {
				t.Errorf("error %v", err)
			}
		})
	}
	t.Run("a slow reader", func(t *testing.T) {
		ended := make(chan struct{}, 1)
		c := newRPC(t, serve(t, streams(ended), Endpoint{}), RPCOptions{Stall: 50 * time.Millisecond})
		d, err := c.Stream(context.Background(), "Test.Download", &SnapshotRequest{Dest: "endless"})
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, err := io.CopyN(io.Discard, d, 1<<20); err != nil {
				t.Fatal(err)
			}
			time.Sleep(150 * time.Millisecond) // that is the reader's slowness
		}
		_ = d.Close()
		<-ended
	})
}

func TestStreamContentType(t *testing.T) {
	for given, want := range map[string]string{
		"application/x-zfs": "application/x-zfs", "": octets, "a b; c": octets, strings.Repeat("a", 300) + "/b": octets,
	} {
		c := newRPC(t, raw(t, says("HTTP/1.1 200 OK\r\nContent-Type: "+given+"\r\nContent-Length: 0\r\n\r\n")), RPCOptions{})
		d, err := c.Stream(context.Background(), "A.B", &SnapshotRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if d.ContentType != want {
			t.Errorf("%q became %q", given, d.ContentType)
		}
		_ = d.Close()
	}
}

// A stream's own path takes the bare request, and the envelope in which Mistify
// once sent it; at RPCPath a stream is a method like others.
func TestStreamRequests(t *testing.T) {
	s := streams(nil)
	for body, path := range map[string]string{
		`{"id":"a"}`: "/snapshots/download",
		`{"method":"Other.Name","params":[{"id":"a"}],"id":1}`:    "/snapshots/download",
		`{"method":"Test.Download","params":[{"id":"a"}],"id":1}`: RPCPath,
	} {
		status, answer, h := ask(s, func(r *http.Request) { r.URL.Path = path }, body)
		if status != http.StatusOK || answer != strings.Repeat("a\n", 10_000) || h.Get("Content-Length") != "20000" || h.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s at %s: %d, %d bytes, %v", body, path, status, len(answer), h)
		}
	}
	for body, want := range map[string]string{``: "no params", `null`: "no params", `[`: "breaks off", `[{}`: "breaks off", `[{}]]`: "after its end", `[null]`: "a list of one object", `[ null ]`: "a list of one object", `[]`: "a list of one object", `[{},{}]`: "a list of one object", `{"id":7}`: "id cannot be a number"} {
		status, answer, _ := ask(s, func(r *http.Request) { r.URL.Path = "/snapshots/download" }, body)
		if status != http.StatusBadRequest || !strings.Contains(answer, want) {
			t.Errorf("%q: %d %q, want %q", body, status, answer, want)
		}
	}
}
