package docker_test

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// hung is a dockerd that does not answer when it is to make a container, and makes
// it when it is told to.
type hung struct {
	*bench
	f    *fake
	held []*http.Request
}

func newHung(t *testing.T) *hung {
	t.Helper()
	h := &hung{f: newFake(t)}
	h.bench = newBench(t, h.f.socket, nil)
	return h
}

// gives up the making of a guest's container for a job.
func (h *hung) givesUp(g *mistify.Guest, job string) {
	h.Helper()
	ctx, late := context.WithCancelCause(h.Context())
	h.f.put(func() {
		h.f.before = func(_ http.ResponseWriter, r *http.Request) bool {
			if r.URL.Path != "/v1.41/containers/create" {
				return false
			}
			body, err := io.ReadAll(r.Body)
			if err != nil {
				h.Error(err)
			}
			again := httptest.NewRequest(http.MethodPost, r.URL.String(), bytes.NewReader(body))
			h.f.put(func() { h.held = append(h.held, again) })
			late(context.DeadlineExceeded) // as when its time is over
			<-r.Context().Done()
			return true
		}
	})
	_, err := h.d.CreateContainer(ctx, &mistify.GuestRequest{Guest: g, Job: job})
	h.refused("making it", err, virt.ErrUnreachable)
	h.f.put(func() { h.f.before = nil })
}

// makes what it was asked for, long ago.
func (h *hung) makes() {
	h.Helper()
	for _, r := range h.held {
		h.f.ServeHTTP(httptest.NewRecorder(), r)
	}
	if len(h.held) == 0 || len(h.f.all()) == 0 {
		h.Fatal("nothing was made late")
	}
	h.held = nil
}

func (h *hung) undo(g *mistify.Guest, job string) {
	h.Helper()
	if _, err := h.d.UndoCreate(h.Context(), &mistify.GuestRequest{Guest: g, Job: job}); err != nil {
		h.Fatal(err)
	}
}

func (h *hung) seen() int {
	h.Helper()
	out, err := h.d.Status(h.Context(), &mistify.StatusRequest{})
	if err != nil {
		h.Fatal(err)
	}
	return len(out.Guests)
}

func (h *hung) notes() int {
	h.Helper()
	files, err := os.ReadDir(filepath.Join(h.o.Dir, "late"))
	if err != nil {
		h.Fatal(err)
	}
	return len(files)
}

func (h *hung) nothing() {
	h.Helper()
	if left, n := h.f.all(), h.notes(); len(left) > 0 || n > 0 {
		h.Errorf("left are %v and %d notes", left, n)
	}
}

func TestLate(t *testing.T) {
	for name, do := range map[string]func(h *hung, g *mistify.Guest){
		"a listing removes it": func(h *hung, g *mistify.Guest) {
			h.undo(g, "first")
			h.makes()
			if n := h.seen(); n != 0 {
				h.Errorf("%d strangers are listed", n)
			}
		},
		"a look at it removes it": func(h *hung, g *mistify.Guest) {
			h.undo(g, "first")
			h.makes()
			out, err := h.d.Status(h.Context(), &mistify.StatusRequest{ID: g.ID})
			if err != nil || len(out.Guests) != 0 {
				h.Errorf("%+v (%v)", out, err)
			}
		},
		"after the agent was started anew": func(h *hung, g *mistify.Guest) {
			h.undo(g, "first")
			h.close()
			h.makes()
			h.open()
			h.seen()
		},
		"a delete without a container": func(h *hung, g *mistify.Guest) {
			if _, err := h.d.DeleteContainer(h.Context(), &mistify.GuestRequest{Guest: g}); err != nil {
				h.Error(err)
			}
			h.makes()
			h.seen()
		},
		"a delete of what came": func(h *hung, g *mistify.Guest) {
			h.undo(g, "first")
			h.makes()
			if _, err := h.d.DeleteContainer(h.Context(), &mistify.GuestRequest{Guest: g}); err != nil {
				h.Error(err)
			}
		},
		"an undo of what came": func(h *hung, g *mistify.Guest) {
			h.makes()
			h.undo(g, "first")
		},
		"the next job makes another": func(h *hung, g *mistify.Guest) {
			h.undo(g, "first")
			h.makes()
			was, _ := h.f.boxNamed(g.ID)
			if _, err := h.d.CreateContainer(h.Context(), &mistify.GuestRequest{Guest: g, Job: "second"}); err != nil {
				h.Fatal(err)
			}
			if is, _ := h.f.boxNamed(g.ID); is.ID == was.ID || is.Labels["vagoth.job"] != "second" {
				h.Errorf("the container of the second job is %+v", is)
			}
			if h.seen() != 1 {
				h.Error("it is not listed")
			}
			h.undo(g, "first") // late, too
			if h.seen() != 1 {
				h.Error("another job's undo removed it")
			}
			h.undo(g, "second")
		},
		"the next job was faster": func(h *hung, g *mistify.Guest) {
			h.undo(g, "first")
			h.makeFor(g, "second")
			h.makes() // in vain, as the name is taken
			if h.seen() != 1 {
				h.Error("it is not listed")
			}
			if _, err := h.d.DeleteContainer(h.Context(), &mistify.GuestRequest{Guest: g}); err != nil {
				h.Error(err)
			}
			if h.notes() != 1 {
				h.Error("what the first job asked for can still come, and is forgotten")
			}
			h.givesUp(g, "first")
			h.makes()
			h.undo(g, "first")
		},
		"the same job adopts it": func(h *hung, g *mistify.Guest) {
			h.makes()
			was, _ := h.f.boxNamed(g.ID)
			h.makeFor(g, "first")
			if is, _ := h.f.boxNamed(g.ID); is.ID != was.ID {
				h.Errorf("it was made again: %+v", is)
			}
			if h.seen() != 1 || h.notes() != 0 {
				h.Errorf("it is listed %d times, with %d notes", h.seen(), h.notes())
			}
			h.undo(g, "first")
		},
		"one that nobody took back is a guest": func(h *hung, g *mistify.Guest) {
			h.makes()
			if h.seen() != 1 {
				h.Error("it is not listed")
			}
			h.undo(g, "first")
		},
		"another job's undo takes nothing back": func(h *hung, g *mistify.Guest) {
			h.undo(g, "other")
			h.makes()
			if h.seen() != 1 {
				h.Error("it is not listed")
			}
			h.undo(g, "first")
		},
		"its name is free for another guest": func(h *hung, g *mistify.Guest) {
			h.undo(g, "first")
			h.makes()
			other := guest()
			other.Name = g.Name
			h.makeFor(other, "other")
			h.undo(other, "other")
			h.seen()
		},
	} {
		t.Run(name, func(t *testing.T) {
			h, g := newHung(t), guest()
			h.givesUp(g, "first")
			if h.notes() != 1 {
				t.Fatalf("%d notes", h.notes())
			}
			do(h, g)
			h.nothing()
		})
	}
}

func (h *hung) makeFor(g *mistify.Guest, job string) {
	h.Helper()
	if _, err := h.d.CreateContainer(h.Context(), &mistify.GuestRequest{Guest: g, Job: job}); err != nil {
		h.Fatal(err)
	}
}

// TestLateNotes has notes that nobody can use, and one of a dockerd that is long
// gone.
func TestLateNotes(t *testing.T) {
	h, g := newHung(t), guest()
	h.givesUp(g, "first")
	h.undo(g, "first")
	h.close()
	for name, text := range map[string]string{guest().ID + ".json": "{", "x.json": "{}", guest().ID: "{}", guest().ID + ".json.half": "{}"} {
		if err := os.WriteFile(filepath.Join(h.o.Dir, "late", name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	h.open()
	if h.notes() != 1 {
		t.Errorf("%d notes are kept", h.notes())
	}
	h.close()
	h.o.Now = func() time.Time { return time.Now().Add(8 * 24 * time.Hour) }
	h.open()
	h.nothing()
}
