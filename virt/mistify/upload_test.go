package mistify

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vagoth/vagoth/virt"
)

// uploads is a server that answers the sum of what it was sent.
func uploads() *Server {
	s := NewServer(ServerOptions{Grace: time.Second})
	Register(s, "Test.GetImage", func(context.Context, *ImageRequest) (*ImageResponse, error) { return &ImageResponse{}, nil })
	RegisterUpload(s, "Test.PutImage", func(ctx context.Context, r *ImageRequest, in io.ReadCloser) (*ImageResponse, error) {
		switch r.ID {
		case "refused":
			return nil, fmt.Errorf("%w: the image %s is there", virt.ErrConflict, r.ID)
		case "nil":
			return nil, nil //nolint:nilnil // it is what is tested
		case "given-up":
			defer context.AfterFunc(ctx, func() { _ = in.Close() })()
		case "closes":
			time.AfterFunc(10*time.Millisecond, func() { _ = in.Close() })
		}
		sum := sha256.New()
		n, err := io.Copy(sum, in)
		if err != nil {
			return nil, fmt.Errorf("after %d bytes: %w", n, err)
		}
		return &ImageResponse{Images: []Image{{ID: r.ID, Volume: hex.EncodeToString(sum.Sum(nil)), Size: uint64(n)}}}, nil
	})
	return s
}

// piped serves over pipes inside of the process, as an agent does it.
func piped(t *testing.T, s *Server) RPCOptions {
	t.Helper()
	var work sync.WaitGroup
	t.Cleanup(work.Wait)
	return RPCOptions{Name: "inside", Dial: func(context.Context) (net.Conn, error) {
		here, there := net.Pipe()
		l := &oneConn{conn: make(chan net.Conn, 1), ended: make(chan struct{})}
		l.conn <- there
		server := &http.Server{Handler: s, ReadHeaderTimeout: time.Minute, ConnState: func(_ net.Conn, st http.ConnState) {
			if st == http.StateClosed {
				_ = l.Close()
			}
		}}
		work.Go(func() { _ = server.Serve(l) })
		return here, nil
	}}
}

type oneConn struct {
	conn  chan net.Conn
	ended chan struct{}
	once  sync.Once
}

func (l *oneConn) Accept() (net.Conn, error) {
	select {
	case c := <-l.conn:
		return c, nil
	case <-l.ended:
		return nil, net.ErrClosed
	}
}
func (l *oneConn) Close() error   { l.once.Do(func() { close(l.ended) }); return nil }
func (l *oneConn) Addr() net.Addr { return &net.UnixAddr{} }

func TestUpload(t *testing.T) {
	for name, c := range map[string]*RPC{
		"socket": newRPC(t, serve(t, uploads(), Endpoint{}), RPCOptions{}),
		"inside": newRPC(t, Endpoint{}, piped(t, uploads())),
	} {
		t.Run(name, func(t *testing.T) {
			put := func(id string, in io.Reader) (Image, error) {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				var r ImageResponse
				err := c.Upload(ctx, "Test.PutImage", &ImageRequest{ID: id}, io.NopCloser(in), &r)
				if err != nil || len(r.Images) != 1 {
					return Image{}, err
				}
				return r.Images[0], nil
			}
			for _, n := range []int{0, 1, 64 << 10, 5_000_001} {
				data := bytes.Repeat([]byte("\n{x"), n/3+1)[:n]
				sum := sha256.Sum256(data)
				if got, err := put("i", bytes.NewReader(data)); err != nil || got.Size != uint64(n) || got.Volume != hex.EncodeToString(sum[:]) {
					t.Errorf("%d bytes: %+v, %v", n, got, err)
				}
			}
			large := strings.NewReader(strings.Repeat("x", 9<<20))
			if _, err := put("refused", large); !errors.Is(err, virt.ErrConflict) || !strings.Contains(err.Error(), "the image refused is there") {
				t.Errorf("one that is refused before all was sent: %v", err)
			}
			if _, err := put("nil", strings.NewReader("x")); err == nil || !strings.Contains(err.Error(), "no answer") {
				t.Errorf("no answer: %v", err)
			}
			if _, err := put("cut", io.MultiReader(strings.NewReader("half of it"), badReader{})); err == nil || !strings.Contains(err.Error(), "the disk is gone") {
				t.Errorf("content that cannot be read: %v", err)
			}
			if n := c.Pending(); n != 0 {
				t.Errorf("%d calls are under way", n)
			}
			var r ImageResponse
			if err := c.Upload(t.Context(), "Test.PutImage", &ImageRequest{ID: "i"}, io.NopCloser(strings.NewReader("")), &r); !errors.Is(err, ErrNoDeadline) {
				t.Errorf("without a deadline: %v", err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			for method, what := range map[string]string{"Test.GetImage": "takes none", "Test.Other": "there is no method"} {
				if err := c.Upload(ctx, method, &ImageRequest{ID: "i"}, io.NopCloser(strings.NewReader("x")), &r); err == nil || !strings.Contains(err.Error(), what) {
					t.Errorf("%s with content: %v", method, err)
				}
			}
			if err := c.Call(ctx, "Test.PutImage", &ImageRequest{ID: "i"}, &r); err == nil || !strings.Contains(err.Error(), "takes content") {
				t.Errorf("without content: %v", err)
			}
		})
	}
}

// Content whose reader waits for ever ends when the server closes it, or the caller's
// time is over, and no reader of it is left.
func TestUploadStalls(t *testing.T) {
	for name, c := range map[string]*RPC{
		"socket": newRPC(t, serve(t, uploads(), Endpoint{}), RPCOptions{}),
		"inside": newRPC(t, Endpoint{}, piped(t, uploads())),
	} {
		for id, what := range map[string]string{"closes": "after 5 bytes", "given-up": "given up"} {
			t.Run(name+"/"+id, func(t *testing.T) {
				r, w := io.Pipe()
				begun := make(chan struct{})
				var work sync.WaitGroup
				work.Go(func() {
					_, _ = io.WriteString(w, "hello")
					close(begun)
				})
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				if id == "given-up" {
					work.Go(func() { <-begun; cancel() })
				}
				var got ImageResponse
				err := c.Upload(ctx, "Test.PutImage", &ImageRequest{ID: id}, r, &got)
				work.Wait()
				if err == nil || !strings.Contains(err.Error(), what) {
					t.Errorf("it ends with %v, want %q", err, what)
				}
			})
		}
	}
}
