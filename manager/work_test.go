package manager_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/scheduler"
)

// fakeRunner is a scheduler with workers.
type fakeRunner struct {
	fakeScheduler
	began chan struct{}
	fail  error
}

func (f fakeRunner) Run(ctx context.Context, o scheduler.RunOptions) error {
	f.l.note("run %+v", o)
	close(f.began)
	if f.fail != nil {
		return f.fail
	}
	<-ctx.Done()
	f.l.note("run ended")
	return ctx.Err()
}

func runnerMenu(l *ledger, fail error) (manager.Menu, chan struct{}) {
	began := make(chan struct{})
	menu := fakeMenu(l)
	menu.Scheduler = map[string]component.Kind[scheduler.Deps, scheduler.Scheduler]{
		"sync": fake(l, named[scheduler.Deps]("scheduler"), func(scheduler.Deps) scheduler.Scheduler {
			return fakeRunner{fakeScheduler{l: l}, began, fail}
		}),
	}
	return menu, began
}

// What is submitted through a manager that works is run until Close, which
// waits for the workers before it closes what they need. The context that
// opened it ends nothing.
func TestWork(t *testing.T) {
	l := newLedger()
	menu, began := runnerMenu(l, nil)
	ctx, cancel := context.WithCancel(t.Context())
	m, err := manager.Open(ctx, read(t, menu, ""), manager.Options{Work: true})
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	<-began
	if count(l.all(), "run ended") != 0 {
		t.Error("the workers ended with the context of opening")
	}
	if err := errors.Join(m.Close(), m.Close()); err != nil {
		t.Error(err)
	}
	lines := strings.Join(l.all(), ", ")
	if want := "run {Submitted:true}, run ended, close monitor, close scheduler, close allocator, close registry"; !strings.HasSuffix(lines, want) {
		t.Errorf("got %s\nwant it to end with %s", lines, want)
	}
}

func TestWorkIsOffUnlessAskedFor(t *testing.T) {
	l := newLedger()
	menu, _ := runnerMenu(l, nil)
	m, err := manager.Open(t.Context(), read(t, menu, ""), manager.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil || strings.Contains(strings.Join(l.all(), ","), "run") {
		t.Error(err, l.all())
	}
	m, err = manager.Open(t.Context(), read(t, fakeMenu(newLedger()), ""), manager.Options{Work: true}) // its scheduler has no workers
	if err != nil {
		t.Fatal(err)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

func TestWorkThatFailsIsTold(t *testing.T) {
	l := newLedger()
	broken := errors.New("broken")
	menu, began := runnerMenu(l, broken)
	m, err := manager.Open(t.Context(), read(t, menu, ""), manager.Options{Work: true})
	if err != nil {
		t.Fatal(err)
	}
	<-began
	if err := m.Close(); !errors.Is(err, broken) {
		t.Errorf("closed with %v", err)
	}
}
