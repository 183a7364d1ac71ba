package serve_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/manager/standard"
	"github.com/vagoth/vagoth/monitor"
	"github.com/vagoth/vagoth/scheduler"
)

type noConfig struct{}

// brokenMonitor fails as soon as it runs.
type brokenMonitor struct {
	monitor.Monitor
	err error
}

func (m brokenMonitor) Run(context.Context) error { return m.err }
func (m brokenMonitor) Close() error              { return nil }

func failingMonitor(err error) component.Kind[monitor.Deps, monitor.Monitor] {
	return component.Define("fails", noConfig{}, func(context.Context, noConfig, monitor.Deps) (monitor.Monitor, error) {
		return brokenMonitor{err: err}, nil
	})
}

// work is a scheduler whose one job runs until it is handed back, or until deaf
// is closed if that is there.
type work struct {
	scheduler.Scheduler
	began      chan struct{}
	deaf       chan struct{}
	handedBack atomic.Bool
	closed     sync.Once
	listeners  []scheduler.Listener
}

func newWork() *work { return &work{began: make(chan struct{})} }

func (w *work) Run(ctx context.Context, _ scheduler.RunOptions) error {
	close(w.began)
	<-ctx.Done()
	if w.deaf != nil {
		<-w.deaf
	}
	w.handedBack.Store(true)
	return nil
}

func (w *work) Close() error {
	err := errors.New("it was closed twice")
	w.closed.Do(func() { err = nil })
	return err
}

func (w *work) Listeners() []scheduler.Listener { return w.listeners }

// menu is the standard one with w as its scheduler.
func (w *work) menu() manager.Menu {
	m := standard.Menu()
	m.Defaults.Scheduler = "work"
	m.Scheduler["work"] = component.Define("works", noConfig{}, func(context.Context, noConfig, scheduler.Deps) (scheduler.Scheduler, error) { return w, nil })
	return m
}
