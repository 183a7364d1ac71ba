package etcd

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/test/etcdtest"
)

// While a copy is made no manager begins, and no other copy; where a manager lives no
// copy is made, until it has gone.
func TestStillAlone(t *testing.T) {
	cfg := Defaults()
	cfg.Endpoints, cfg.Session, cfg.Timeout = []string{etcdtest.Embedded(t)}, shortest, time.Second
	deps := scheduler.Deps{Actions: map[string]scheduler.Action{"far": {Name: "far", Remote: true}}}
	s, err := OpenStill(t.Context(), cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	if other, err := OpenStill(t.Context(), cfg, deps); err == nil || !strings.Contains(err.Error(), "a copy is being made") {
		t.Errorf("a second copy: %v, %v", other, err)
	}
	m, err := Open(t.Context(), cfg, deps)
	if err == nil { // it waits for who leads, and must not lead itself
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		if _, err := m.Submit(ctx, scheduler.Package{Jobs: []scheduler.Job{{Queue: "q", Action: "far"}}}); err == nil {
			t.Error("a manager took a job while a copy is being made")
		}
		cancel()
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Submit(t.Context(), scheduler.Package{}); !errors.Is(err, scheduler.ErrUnsupported) {
		t.Errorf("it takes jobs: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if m, err = Open(t.Context(), cfg, deps); err != nil {
		t.Fatal(err)
	}
	if s, err := OpenStill(t.Context(), cfg, deps); err == nil {
		t.Error("a store that is in use was opened for a copy", s.Close())
	}
	if _, err := m.Submit(t.Context(), scheduler.Package{Jobs: []scheduler.Job{{ID: "a", Queue: "q", Action: "far"}}}); err != nil {
		t.Error(err)
	}
	gone := make(chan error, 1)
	go func() { gone <- m.Close() }()
	deps.LockWait = time.Minute
	s, err = OpenStill(t.Context(), cfg, deps)
	if err != nil {
		t.Fatal(err)
	}
	if held, err := s.Held(t.Context()); err != nil || held.Jobs != 1 {
		t.Errorf("it holds %+v, %v", held, err)
	}
	if err := errors.Join(<-gone, s.Close()); err != nil {
		t.Error(err)
	}
}
