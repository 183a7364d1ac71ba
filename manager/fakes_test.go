package manager_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/manager/config"
	"github.com/vagoth/vagoth/monitor"
	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/virt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// ledger is what the components of a fake menu note.
type ledger struct {
	mu        sync.Mutex
	lines     []string
	failOpen  map[string]error
	failClose map[string]error
	deps      map[string]any
	poll      func(ctx context.Context, c virt.Cluster, jobs scheduler.Inspector) (monitor.Report, error)
}

func newLedger() *ledger {
	return &ledger{failOpen: map[string]error{}, failClose: map[string]error{}, deps: map[string]any{}}
}

func (l *ledger) note(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
}

func (l *ledger) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines)
}

func (l *ledger) open(what string, deps any) error {
	l.note("open %s", what)
	l.deps[what] = deps
	return l.failOpen[what]
}

func (l *ledger) close(what string) error {
	l.note("close %s", what)
	return l.failClose[what]
}

type fakeConfig struct {
	Size int `ini:"size" help:"a number" min:"1"`
}

// fake defines a kind that notes its opening.
func fake[D, T any](l *ledger, what func(D) string, make func(D) T) component.Kind[D, T] {
	return component.Define("notes what happens to it", fakeConfig{Size: 1}, func(_ context.Context, _ fakeConfig, deps D) (t T, err error) {
		if err := l.open(what(deps), deps); err != nil {
			return t, err
		}
		return make(deps), nil
	})
}

func named[D any](name string) func(D) string { return func(D) string { return name } }

type fakeRegistry struct {
	registry.Registry
	l *ledger
}

func (f fakeRegistry) Close() error { return f.l.close("registry") }

type fakeScheduler struct {
	scheduler.Scheduler
	l *ledger
}

func (f fakeScheduler) Close() error { return f.l.close("scheduler") }

func (f fakeScheduler) Status(context.Context, string) (scheduler.Status, error) {
	return scheduler.Status{}, scheduler.ErrNotFound
}

type fakeProvisioner struct{ provisioner.Provisioner }

// fakeAllocator has a Close although its contract has none.
type fakeAllocator struct {
	allocator.Allocator
	l *ledger
}

func (f fakeAllocator) Close() error { return f.l.close("allocator") }

type fakeDriver struct {
	virt.Driver
	name string
	l    *ledger
}

func (f fakeDriver) Close() error { return f.l.close("driver " + f.name) }

type fakeMonitor struct {
	monitor.Monitor
	l    *ledger
	deps monitor.Deps
}

func (f fakeMonitor) Close() error { return f.l.close("monitor") }

func (f fakeMonitor) Poll(ctx context.Context, _ ...string) (monitor.Report, error) {
	if f.l.poll == nil {
		return monitor.Report{}, nil
	}
	return f.l.poll(ctx, f.deps.Cluster, f.deps.Jobs)
}

func fakeMenu(l *ledger) manager.Menu {
	return manager.Menu{
		Registry: map[string]component.Kind[registry.Deps, registry.Registry]{
			"memory": fake(l, named[registry.Deps]("registry"), func(registry.Deps) registry.Registry { return fakeRegistry{l: l} }),
		},
		Scheduler: map[string]component.Kind[scheduler.Deps, scheduler.Scheduler]{
			"sync": fake(l, named[scheduler.Deps]("scheduler"), func(scheduler.Deps) scheduler.Scheduler { return fakeScheduler{l: l} }),
		},
		Provisioner: map[string]component.Kind[provisioner.Deps, provisioner.Provisioner]{
			"basic": fake(l, named[provisioner.Deps]("provisioner"), func(provisioner.Deps) provisioner.Provisioner { return fakeProvisioner{} }),
		},
		Allocator: map[string]component.Kind[allocator.Deps, allocator.Allocator]{
			"score": fake(l, named[allocator.Deps]("allocator"), func(allocator.Deps) allocator.Allocator { return fakeAllocator{l: l} }),
			"fixed": fake(l, named[allocator.Deps]("allocator"), func(allocator.Deps) allocator.Allocator { return fakeAllocator{l: l} }),
		},
		Monitor: map[string]component.Kind[monitor.Deps, monitor.Monitor]{
			"poll": fake(l, named[monitor.Deps]("monitor"), func(d monitor.Deps) monitor.Monitor { return fakeMonitor{l: l, deps: d} }),
		},
		Drivers: map[string]component.Kind[virt.DriverDeps, virt.Driver]{
			"sim": fake(l, func(d virt.DriverDeps) string { return "driver " + d.Name }, func(d virt.DriverDeps) virt.Driver { return fakeDriver{name: d.Name, l: l} }),
		},
		Classes: map[string]provisioner.Class{"vm": virt.VMClass(), "hypervisor": virt.HypervisorClass(), "any": provisioner.AnyClass(), "one": {Only: "single"}},
		Types:   map[string]string{virt.TypeVM: "vm", virt.TypeHypervisor: "hypervisor"},
		Actions: func(c virt.Cluster) map[string]scheduler.Action {
			return map[string]scheduler.Action{
				"vm_start": {Name: "vm_start", Run: func(context.Context, scheduler.Task) (any, error) { return c, nil }},
				"vm_stop":  {Name: "vm_stop", Urgent: true},
			}
		},
		Command: func(name string, argv []string, timeout, grace time.Duration) (scheduler.Action, error) {
			if argv[0][0] != '/' {
				return scheduler.Action{}, errors.New("the program's path is not absolute")
			}
			help := fmt.Sprint(argv)
			if grace != 0 {
				help += " grace " + grace.String()
			}
			return scheduler.Action{Name: name, Help: help, Timeout: timeout}, nil
		},
		URL: func(name, address string, token component.Secret, timeout time.Duration) (scheduler.Action, error) {
			if strings.Contains(address, "@") {
				return scheduler.Action{}, errors.New("the URL holds a user")
			}
			return scheduler.Action{Name: name, Help: fmt.Sprintf("[%s %q]", address, token.Reveal()), Timeout: timeout}, nil
		},
		Defaults: manager.Defaults{Registry: "memory", Scheduler: "sync", Provisioner: "basic", Allocator: "score", Monitor: "poll"},
	}
}

// read reads a file that is right; its directory is the test's own.
func read(t *testing.T, menu manager.Menu, text string) *manager.Settings {
	t.Helper()
	f, _ := config.Parse(t.TempDir()+"/vagoth.ini", []byte(text))
	s, err := manager.Read(f, menu)
	if err != nil {
		t.Fatal(err)
	}
	return s
}
