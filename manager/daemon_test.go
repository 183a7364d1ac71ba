package manager_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/manager/config"
	"github.com/vagoth/vagoth/monitor"
	"github.com/vagoth/vagoth/scheduler"
)

type queueConfig struct {
	Rate string `ini:"rate" help:"hand-outs"`
}

type worksConfig struct {
	Size   int                    `ini:"size" help:"a number"`
	Queues map[string]queueConfig `sections:"queue" help:"queues by name"`
}

// worker is a scheduler that runs and reloads.
type worker struct {
	fakeScheduler
	run    func(ctx context.Context) error
	took   []worksConfig
	refuse error
}

func (w *worker) Run(ctx context.Context, o scheduler.RunOptions) error {
	if o.Submitted {
		return errors.New("it was to run everything")
	}
	return w.run(ctx)
}

func (w *worker) Reload(_ context.Context, cfg worksConfig) error {
	if w.refuse == nil {
		w.took = append(w.took, cfg)
	}
	return w.refuse
}

// watcher is a monitor with a schedule.
type watcher struct {
	monitor.Monitor
	run func(ctx context.Context) error
}

func (w watcher) Run(ctx context.Context) error { return w.run(ctx) }
func (w watcher) Close() error                  { return nil }

func untilEnd(ctx context.Context) error {
	<-ctx.Done()
	return ctx.Err()
}

// working is a fake menu with a worker and a watcher.
func working(w *worker, m watcher) manager.Menu {
	l := newLedger()
	w.l = l
	menu := fakeMenu(l)
	menu.Scheduler["sync"] = component.Define("works", worksConfig{Size: 1}, func(context.Context, worksConfig, scheduler.Deps) (scheduler.Scheduler, error) { return w, nil })
	menu.Monitor["poll"] = component.Define("watches", fakeConfig{Size: 1}, func(context.Context, fakeConfig, monitor.Deps) (monitor.Monitor, error) { return m, nil })
	return menu
}

func open(t *testing.T, menu manager.Menu, text string) *manager.Manager {
	t.Helper()
	m, err := manager.Open(t.Context(), read(t, menu, text), manager.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func TestRun(t *testing.T) {
	broken := errors.New("the disk is full")
	fail := func(context.Context) error { return broken }
	for _, tc := range []struct {
		name       string
		work, poll func(context.Context) error
		want       error
		says       string
	}{
		{"until ctx ends", untilEnd, untilEnd, nil, ""},
		{"the scheduler fails", fail, untilEnd, broken, "the scheduler's work ended: the disk is full"},
		{"the monitor fails", untilEnd, fail, broken, "the monitor ended: the disk is full"},
		{"a monitor without a schedule", untilEnd, func(context.Context) error { return nil }, nil, ""},
		{"one fails as the other is given up", func(ctx context.Context) error {
			<-ctx.Done()
			return broken
		}, untilEnd, broken, "the disk is full"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			m := open(t, working(&worker{run: tc.work}, watcher{run: tc.poll}), "")
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			err := m.Run(ctx)
			if !errors.Is(err, tc.want) || tc.want != nil && !strings.Contains(err.Error(), tc.says) {
				t.Errorf("Run returned %v, want %v", err, tc.want)
			}
		})
	}
}

// A scheduler that does not run by itself leaves the monitor alone to.
func TestRunWithoutRunner(t *testing.T) {
	ran := false
	menu := fakeMenu(newLedger())
	menu.Monitor["poll"] = working(&worker{}, watcher{run: func(context.Context) error {
		ran = true
		return nil
	}}).Monitor["poll"]
	if err := open(t, menu, "").Run(t.Context()); err != nil || !ran {
		t.Errorf("Run returned %v; the monitor ran: %v", err, ran)
	}
}

func TestDaemonSection(t *testing.T) {
	menu := fakeMenu(newLedger())
	s := read(t, menu, "data = store\n")
	want := manager.DaemonDefaults()
	want.Socket, want.Tokens = component.Path(filepath.Join(s.Data, "vagoth.sock")), component.Path(filepath.Join(s.Data, "tokens"))
	if got := s.Daemon; got.Socket != want.Socket || got.Tokens != want.Tokens || got.HeaderTimeout != 5*time.Second || got.MaxConnections < 100 {
		t.Errorf("without a section: %+v", got)
	}
	s = read(t, menu, "[serve]\nlisten = 127.0.0.1:1, [::1]:2\ntls_cert = c\ntls_key = k\nclient_ca = ca\nshutdown_timeout = 5s\n")
	d := s.Daemon
	if !slices.Equal(d.Listen, []string{"127.0.0.1:1", "[::1]:2"}) || string(d.TLSKey) != filepath.Join(filepath.Dir(s.File), "k") {
		t.Errorf("decoded %+v", d)
	}
	for _, bad := range []struct{ text, says string }{
		{"tls_cert = c\n", "go together"},
		{"client_ca = c\n", "need TLS"},
		{"log_level = loud\n", "loud"},
		{"header_timeout = 5\n", "header_timeout"},
		{"listn = x\n", `did you mean "listen"?`},
	} {
		f, _ := config.Parse("vagoth.ini", []byte("[serve]\n"+bad.text))
		if _, err := manager.Read(f, menu); err == nil || !strings.Contains(err.Error(), bad.says) {
			t.Errorf("%q: %v, want it to say %q", bad.text, err, bad.says)
		}
	}
}

// The manual has every key of [serve] with its default, and an example of a
// whole file has the section.
func TestDaemonInTheManual(t *testing.T) {
	page, err := os.ReadFile(filepath.Join("..", "docs", "daemon.md"))
	if err != nil {
		t.Fatal(err)
	}
	var example strings.Builder
	if err := manager.WriteExample(&example, fakeMenu(newLedger())); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(example.String(), "\n[serve]\n") {
		t.Errorf("the example lacks [serve]:\n%s", example.String())
	}
	for _, f := range component.Describe("", manager.DaemonDefaults()).Fields() {
		row := regexp.MustCompile("(?m)^\\|[^|]*`" + f.Key + "`[^|]*\\|([^|]*)\\|").FindStringSubmatch(string(page))
		if row == nil || f.Default != "" && !strings.Contains(row[1], "`"+f.Default+"`") {
			t.Errorf("docs/daemon.md has not %s with its default %q: %q", f.Key, f.Default, row)
		}
		if !strings.Contains(example.String(), f.Key+" =") {
			t.Errorf("the example lacks %s", f.Key)
		}
	}
}

func TestReload(t *testing.T) {
	const before = "[serve]\nlog_level = info\n[monitor]\nsize = 1\n[queue.disks]\nrate = 1/s\n"
	w := &worker{}
	menu := working(w, watcher{run: untilEnd})
	m := open(t, menu, before)
	reload := func(text string, refused error, want ...string) {
		t.Helper()
		w.refuse = refused
		restart, err := m.Reload(t.Context(), read(t, menu, text))
		if !errors.Is(err, refused) || !slices.Equal(restart, want) {
			t.Errorf("%q: restart for %q, %v; want %q, %v", text, restart, err, want, refused)
		}
	}
	reload(before, nil)
	if len(w.took) != 0 {
		t.Errorf("what did not change was reloaded: %+v", w.took)
	}
	fast := strings.Replace(before, "1/s", "9/s", 1)
	reload(fast, errors.New("too fast"))
	reload(fast, nil)
	if len(w.took) != 1 || w.took[0].Queues["disks"].Rate != "9/s" {
		t.Errorf("the scheduler was given %+v", w.took)
	}
	reload(strings.Replace(fast, "info", "debug", 1), nil) // the daemon's business
	other := strings.Replace(fast, "size = 1", "size = 2", 1) + "[scheduler]\nsize = 5\n"
	reload(other, nil, "[monitor] size", "[scheduler] size")
	reload(other, nil, "[monitor] size", "[scheduler] size") // it still waits
	if len(w.took) != 1 {
		t.Errorf("the scheduler was given more: %+v", w.took)
	}
	reload(before, nil)
	if len(w.took) != 2 || w.took[1].Queues["disks"].Rate != "1/s" {
		t.Errorf("going back gave it %+v", w.took)
	}
}

// A scheduler that takes no other configuration while it is open.
func TestReloadUnsupported(t *testing.T) {
	w := &worker{}
	menu := working(w, watcher{run: untilEnd})
	plain := menu.Scheduler["sync"]
	menu.Scheduler["sync"] = component.Define("does not reload", worksConfig{}, func(ctx context.Context, cfg worksConfig, d scheduler.Deps) (scheduler.Scheduler, error) {
		open, _ := plain.Decode(component.Source{})
		s, err := open(ctx, d)
		return struct{ scheduler.Scheduler }{s}, err
	})
	m := open(t, menu, "")
	restart, err := m.Reload(t.Context(), read(t, menu, "[queue.a]\nrate = 1/s\n"))
	if err != nil || !slices.Equal(restart, []string{"[queue.a] rate"}) {
		t.Errorf("restart for %q, %v", restart, err)
	}
}
