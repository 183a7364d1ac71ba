package agent

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vagoth/vagoth/internal/testlong"
	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt/mistify"
)

// naive is a store as simple as it can be.
type naive struct {
	guests map[string]string
	jobs   []*state // as they were queued
	ended  []string // as they ended
	fences map[string]trail.Token
	meta   map[string]string
}

// The store is what a naive one is, after every step, every opening and every
// snapshot.
func TestStoreMachine(t *testing.T) {
	log := slog.New(slog.NewTextHandler(io.Discard, nil))
	const keep = 4
	if err := flag.Set("rapid.checks", fmt.Sprint(testlong.Count(t, 200))); err != nil {
		t.Fatal(err)
	}
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "agent")
		if err != nil {
			t.Fatal(err)
		}
		defer os.RemoveAll(dir)
		s, err := openStore(context.Background(), dir, keep, log)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = s.close() }()
		m := &naive{guests: map[string]string{}, fences: map[string]trail.Token{}, meta: map[string]string{}}
		clock := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
		guestOf := rapid.Custom(func(t *rapid.T) string { return uuidOf(rapid.IntRange(0, 4).Draw(t, "guest")) })
		do := func(t *rapid.T, c *change) {
			if err := s.do(context.Background(), c); err != nil {
				t.Fatal(err)
			}
		}
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				g, err := newGuest(&mistify.Guest{ID: guestOf.Draw(t, "id"), Memory: rapid.UintRange(0, 9).Draw(t, "memory")})
				if err != nil {
					t.Fatal(err)
				}
				do(t, &change{put: g})
				m.guests[g.id] = string(g.data)
			},
			"drop": func(t *rapid.T) {
				id := guestOf.Draw(t, "id")
				do(t, &change{drop: id})
				delete(m.guests, id)
			},
			"queue": func(t *rapid.T) {
				st := &state{Job: mistify.Job{ID: newID(), GuestID: guestOf.Draw(t, "id"), Status: mistify.JobQueued, Action: "start"}}
				do(t, &change{jobs: []*state{st}})
				m.jobs = append(m.jobs, st)
			},
			"move": func(t *rapid.T) {
				if len(m.jobs) == 0 {
					return
				}
				i := rapid.IntRange(0, len(m.jobs)-1).Draw(t, "job")
				next := *m.jobs[i]
				next.Status = rapid.SampledFrom([]mistify.JobStatus{mistify.JobQueued, mistify.JobRunning, mistify.JobComplete, mistify.JobError}).Draw(t, "status")
				clock = clock.Add(time.Second)
				next.UpdatedAt = clock
				do(t, &change{jobs: []*state{&next}})
				if m.jobs[i].Status.Ended() {
					return // an end is final
				}
				m.jobs[i] = &next
				if next.Status.Ended() {
					m.ended = append(m.ended, next.ID)
				}
				if len(m.ended) > keep {
					m.jobs = slices.DeleteFunc(m.jobs, func(j *state) bool { return j.ID == m.ended[0] })
					m.ended = m.ended[1:]
				}
			},
			"fence": func(t *rapid.T) {
				f := fence{guestOf.Draw(t, "id"), trail.Token{Epoch: rapid.Uint64().Draw(t, "epoch"), Number: rapid.Uint64().Draw(t, "number")}}
				if rapid.Bool().Draw(t, "reset") {
					f.token = trail.Token{}
				}
				do(t, &change{fence: &f})
				if m.fences[f.guest] = f.token; f.token.IsZero() {
					delete(m.fences, f.guest)
				}
			},
			"meta": func(t *rapid.T) {
				m.meta = map[string]string{"k": rapid.StringN(0, 5, 20).Draw(t, "value")}
				do(t, &change{meta: maps.Clone(m.meta)})
			},
			"snapshot": func(t *rapid.T) {
				if err := s.journal.WriteSnapshot(context.Background(), s.journal.Stats().LastIndex, s.freeze()); err != nil {
					t.Fatal(err)
				}
			},
			"open again": func(t *rapid.T) {
				if err := s.close(); err != nil {
					t.Fatal(err)
				}
				if s, err = openStore(context.Background(), dir, keep, log); err != nil {
					t.Fatal(err)
				}
			},
			"": func(t *rapid.T) { m.compare(t, s) },
		})
	})
}

func (m *naive) compare(t *rapid.T, s *store) {
	ids := slices.Sorted(maps.Keys(m.guests))
	var all []string
	for _, id := range ids {
		all = append(all, m.guests[id])
	}
	if got, want := string(s.guestList()), "["+strings.Join(all, ",")+"]\n"; got != want {
		t.Fatalf("guests %s, want %s", got, want)
	}
	if got := s.latest("", 1000); len(got) != len(m.jobs) {
		t.Fatalf("%d jobs, want %d", len(got), len(m.jobs))
	}
	open, byQueue := 0, map[string][]string{}
	for i, j := range m.jobs {
		got := s.latest("", 1000)[len(m.jobs)-1-i]
		if got.ID != j.ID || got.Status != j.Status {
			t.Fatalf("job %d is %s %s, want %s %s", i, got.ID, got.Status, j.ID, j.Status)
		}
		if s.job(j.ID) == nil || s.job(j.ID).Status != j.Status {
			t.Fatalf("job %s is not found", j.ID)
		}
		if !j.Status.Ended() {
			open++
			byQueue[j.GuestID] = append(byQueue[j.GuestID], j.ID)
		}
	}
	if _, n := s.lengths(""); n != open {
		t.Fatalf("%d jobs have not ended, want %d", n, open)
	}
	for n := range 5 {
		id := uuidOf(n)
		var got []string
		for _, st := range s.waiting(id) {
			got = append(got, st.ID)
		}
		if !slices.Equal(got, byQueue[id]) {
			t.Fatalf("queue %s: %v, want %v", id, got, byQueue[id])
		}
		if s.token(id) != m.fences[id] {
			t.Fatalf("fence of %s: %v, want %v", id, s.token(id), m.fences[id])
		}
	}
	if !maps.Equal(s.metadata(), m.meta) {
		t.Fatalf("metadata %v, want %v", s.metadata(), m.meta)
	}
}

// A change costs the same with ten jobs in the log or a thousand.
func TestConstantCost(t *testing.T) {
	s := newStore(slog.New(slog.DiscardHandler), 100_000)
	put := func() {
		st := &state{Job: mistify.Job{ID: newID(), GuestID: vm1, Status: mistify.JobComplete}}
		if err := s.do(t.Context(), &change{jobs: []*state{st}}); err != nil {
			t.Fatal(err)
		}
	}
	put()
	few := testing.AllocsPerRun(200, put)
	for range 5000 {
		put()
	}
	if many := testing.AllocsPerRun(200, put); many > few+5 {
		t.Errorf("%v allocations with many jobs in the log, and %v with few", many, few)
	}
}

// The fences of guests that are gone do not grow without end.
func TestFencesAreBounded(t *testing.T) {
	s := newStore(slog.New(slog.DiscardHandler), 10)
	for n := range keptFences + 100 {
		g, err := newGuest(&mistify.Guest{ID: uuidOf(n)})
		if err != nil {
			t.Fatal(err)
		}
		s.apply(&change{put: g, fence: &fence{uuidOf(n), trail.Token{Epoch: 1}}})
		s.apply(&change{drop: uuidOf(n)})
	}
	if len(s.fences) != keptFences || len(s.gone) != keptFences || s.token(uuidOf(50)) != (trail.Token{}) || s.token(uuidOf(keptFences)) == (trail.Token{}) {
		t.Errorf("%d fences", len(s.fences))
	}
}

// The log is cut when it has grown, while changes go on, and nothing is lost.
func TestSnapshotBesideChanges(t *testing.T) {
	dir := t.TempDir()
	s, err := openStore(t.Context(), dir, 10, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	big := strings.Repeat("x", 60<<10)
	for n := range 2 * snapshotEvery / len(big) {
		g, err := newGuest(&mistify.Guest{ID: uuidOf(n % 20), State: fmt.Sprint(n), Metadata: map[string]string{"big": big}})
		if err != nil {
			t.Fatal(err)
		}
		if err := s.do(t.Context(), &change{put: g}); err != nil {
			t.Fatal(err)
		}
	}
	before := bytes.Clone(s.guestList())
	if err := s.close(); err != nil {
		t.Fatal(err)
	}
	if snaps, err := filepath.Glob(filepath.Join(dir, "snap-*")); err != nil || len(snaps) == 0 {
		t.Errorf("no snapshot was written: %v", err)
	}
	if s, err = openStore(t.Context(), dir, 10, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.close() }()
	if !bytes.Equal(before, s.guestList()) {
		t.Error("the guests are not what they were")
	}
}

// A record is read as it was written, and any other bytes are refused.
func FuzzRecord(f *testing.F) {
	g, err := newGuest(&mistify.Guest{ID: vm1, Type: "vm"})
	if err != nil {
		f.Fatal(err)
	}
	c := &change{put: g, drop: ct1, jobs: []*state{{Job: mistify.Job{ID: none}}}, fence: &fence{vm1, trail.Token{Epoch: 1, Number: 300}}, meta: map[string]string{"a": "b"}}
	data, err := c.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Add([]byte{recordFormat})
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := decodeChange(data)
		if err != nil {
			return
		}
		again, err := c.encode()
		if err != nil {
			t.Fatal(err)
		}
		d, err := decodeChange(again)
		if err != nil {
			t.Fatal(err)
		}
		if third, err := d.encode(); err != nil || !bytes.Equal(again, third) {
			t.Fatalf("%q became %q, %v", again, third, err)
		}
		newStore(slog.New(slog.DiscardHandler), 10).apply(c)
	})
}
