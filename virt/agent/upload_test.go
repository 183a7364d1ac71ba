package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

func uploadHost(t *testing.T) *host {
	t.Helper()
	cfg := testConfig()
	cfg.MaxStreams = 1
	cfg.InfoTimeout, cfg.StreamStall = 300*time.Millisecond, 3*time.Second
	return newHost(t, hostOptions{cfg: &cfg})
}

func (h *host) free() {
	h.t.Helper()
	h.until("its place is free", func() bool { return len(h.agent.services["test"].places) == 0 && h.agent.streams.len() == 0 })
}

// What is sent arrives as it was sent, with what it must be; nothing of it is kept.
func TestPutImage(t *testing.T) {
	h := uploadHost(t)
	for _, n := range []int{0, 1, 3 << 20} {
		data := bytes.Repeat([]byte{'x'}, n)
		got, err := h.client.PutImage(t.Context(), mistify.ImageRequest{ID: "one", Size: uint64(n), SHA256: "ab"}, io.NopCloser(bytes.NewReader(data)))
		if err != nil || got.ID != "one" || got.Volume != string(data) || got.Size != uint64(n) || got.Snapshot != "ab" {
			t.Errorf("%d bytes: %.20q, %v", n, got.Volume, err)
		}
	}
	if seen := h.sub.seen(); len(seen) != 3 || seen[0] != "Test.PutImage one" {
		t.Errorf("the sub-agent was asked %q", seen)
	}
	for path, what := range map[string]string{
		"/images/..%2Fone/content":    "image",
		"/images/one/content?size=-1": "no number of bytes",
		"/images/one/content?size=5":  "the body has 3 bytes",
	} {
		if a := h.want(400, "PUT", path, "abc"); !strings.Contains(a.body, what) {
			t.Errorf("%s: %s", path, a.body)
		}
	}
	if n := len(h.sub.seen()); n != 3 {
		t.Errorf("the sub-agent was asked %d times", n)
	}
	h.free()
}

// A refusal comes at once, though much is still to be sent.
func TestPutImageRefused(t *testing.T) {
	h := uploadHost(t)
	h.sub.set(func(s *sub) {
		s.taken = func(*mistify.ImageRequest, io.Reader) error { return fmt.Errorf("%w: it is there", virt.ErrConflict) }
	})
	in := io.NopCloser(io.LimitReader(endlessly{}, 1<<40))
	if _, err := h.client.PutImage(t.Context(), mistify.ImageRequest{ID: "one"}, in); !errors.Is(err, virt.ErrConflict) || !strings.Contains(err.Error(), "it is there") {
		t.Errorf("%v", err)
	}
	h.free()
}

type endlessly struct{}

func (endlessly) Read(p []byte) (int, error) { return len(p), nil }

// What breaks off, or stands still, is never whole, and gives its place back.
func TestPutImageCut(t *testing.T) {
	for _, how := range []string{"breaks", "stalls", "given up"} {
		t.Run(how, func(t *testing.T) {
			h := uploadHost(t)
			begun, ended := make(chan struct{}), make(chan error, 1)
			h.sub.set(func(s *sub) {
				s.taken = func(_ *mistify.ImageRequest, in io.Reader) error {
					_, err := io.ReadFull(in, make([]byte, 4))
					close(begun)
					if err == nil {
						_, err = io.Copy(io.Discard, in)
					}
					ended <- err
					return errors.Join(err, errors.New("that was not all"))
				}
			})
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			r, w := io.Pipe()
			answered := make(chan error, 1)
			go func() {
				_, err := h.client.PutImage(ctx, mistify.ImageRequest{ID: "one"}, r)
				answered <- err
			}()
			_, _ = io.WriteString(w, "some")
			<-begun
			if a := h.want(429, "PUT", "/images/two/content", "abc"); !strings.Contains(a.body, "max_streams") {
				t.Errorf("a second one: %s", a.body)
			}
			switch how {
			case "breaks":
				_ = w.CloseWithError(errors.New("the disk is gone"))
			case "given up":
				cancel()
			}
			if err := <-ended; err == nil {
				t.Error("it passes for a whole one")
			}
			if err := <-answered; err == nil || how == "stalls" && !errors.Is(err, virt.ErrInvalid) {
				t.Errorf("the answer is %v", err)
			}
			_ = w.Close()
			h.free()
		})
	}
}

// A sub-agent that has all of it and never answers does not hold its client for ever.
func TestPutImageSilence(t *testing.T) {
	cfg := testConfig()
	cfg.AsyncTimeout = 300 * time.Millisecond
	h := newHost(t, hostOptions{cfg: &cfg})
	over := make(chan struct{})
	defer close(over)
	h.sub.set(func(s *sub) {
		s.taken = func(_ *mistify.ImageRequest, in io.Reader) error {
			_, err := io.Copy(io.Discard, in)
			<-over
			return err
		}
	})
	h.want(504, "PUT", "/images/one/content", "abc")
	h.free()
}

// An agent that takes no images says so.
func TestPutImageUnknown(t *testing.T) {
	cfg := testConfig()
	delete(cfg.Actions, mistify.ActionPutImage)
	h := newHost(t, hostOptions{cfg: &cfg})
	_, err := h.client.PutImage(t.Context(), mistify.ImageRequest{ID: "one"}, http.NoBody)
	if !errors.Is(err, virt.ErrUnsupported) {
		t.Errorf("%v", err)
	}
}
