// Package serve is the daemon: it opens a cluster, runs its workers and its
// monitor, and serves package api on a unix socket and, on demand, on a network.
//
// Run is the whole of it. It takes a function that reads the configuration, a
// context whose end is the wish to stop, and channels for the wishes to reload
// and to end at once; so it knows no signals, and tests run it in the process.
//
// # Why
//
// Whoever can open the socket is somebody whom the operating system let into the
// data directory, who could as well read the files there: the socket asks for
// nothing. Whoever comes over a network shows a token or a certificate, without
// exception, also on the loopback, where every user of the machine can connect.
//
// One process at a time holds a data directory. The daemon is found by its
// socket and not by a file with its number: a socket at which nobody answers is
// stale, whatever has become of the process.
//
// Only HTTP/1.1 is served: a connection is then one request at a time, and the
// bound on connections bounds what a client can ask for at once.
package serve

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/auth"
	"github.com/vagoth/vagoth/internal/gcroom"
	"github.com/vagoth/vagoth/internal/lockfile"
	"github.com/vagoth/vagoth/internal/spareprocs"
	"github.com/vagoth/vagoth/manager"
)

// Options are what does not stand in the file.
type Options struct {
	Load    func() (*manager.Settings, error) // reads and checks the file; again at each reload
	Version string
	LogTo   io.Writer
	Level   string // of the log: debug, info, warn, error; "" is what the file says
	Format  string // of the log: text, json; "" is what the file says
	Now     func() time.Time

	LockWait time.Duration   // how long to wait for another process that has the data directory
	Reload   <-chan struct{} // each value is a wish to reload; nil is none
	Abort    <-chan struct{} // closed: end at once, whatever runs
	Ready    func()          // called when all is served; nil is nobody
}

// ErrAborted: the daemon was told to end at once. What runs was not waited for,
// and the stores are as after a crash.
var ErrAborted = errors.New("ended at once: jobs that ran begin again when the data is next opened")

// Run serves until ctx ends, which is no error. It returns when everything has
// come to its end, or what is left of it when Abort is closed or the
// configured time for the shutdown is over.
func Run(ctx context.Context, o Options) error {
	done := make(chan error, 1)
	go func() { done <- run(ctx, o) }()
	select {
	case err := <-done:
		return err
	case <-o.Abort:
		return ErrAborted
	}
}

// Check checks what Run checks before it opens anything.
func Check(s *manager.Settings) error {
	_, err := prepare(s, Options{LogTo: io.Discard, Now: time.Now})
	return err
}

// daemon is one Run.
type daemon struct {
	o        Options
	log      *slog.Logger
	level    *slog.LevelVar
	settings *manager.Settings
	tokens   *auth.Store
	certs    *Certificates // nil without TLS

	m        *manager.Manager
	metrics  *api.Metrics
	socket   *Socket
	servers  []*Endpoint
	failed   chan error    // of a server or of the manager's work
	stopping chan struct{} // closed when the shutdown begins
	running  sync.WaitGroup

	mu      sync.Mutex
	current manager.Daemon // [serve], as it was reloaded last
}

func run(ctx context.Context, o Options) error {
	if o.Now == nil {
		o.Now = time.Now
	}
	s, err := o.Load()
	if err != nil {
		return err
	}
	d, err := prepare(s, o)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(s.Data, 0o700); err != nil {
		return fmt.Errorf("cannot make the data directory: %w", err)
	}
	// Not every store locks the directory, and the socket needs a lock.
	lock, err := lockfile.Acquire(ctx, filepath.Join(s.Data, "serve.lock"), o.LockWait)
	if err != nil {
		return unlessEnded(ctx, fmt.Errorf("cannot start: %w", err))
	}
	return errors.Join(d.serve(ctx), lock.Release())
}

// unlessEnded is nil if err only says that the daemon was to end before it had
// begun.
func unlessEnded(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

// prepare checks everything that needs no store.
func prepare(s *manager.Settings, o Options) (*daemon, error) {
	d := &daemon{o: o, settings: s, current: s.Daemon, failed: make(chan error, 1), stopping: make(chan struct{})}
	if err := d.openLog(); err != nil {
		return nil, err
	}
	var err error
	if d.tokens, err = auth.Open(string(s.Daemon.Tokens), auth.Options{Log: d.log, Now: o.Now}); err != nil {
		return nil, fmt.Errorf("[serve] tokens: %w", err)
	}
	if err := checkListen(s.Daemon, d.tokens.HasTokens()); err != nil {
		return nil, err
	}
	d.certs, err = OpenCertificates(files(s.Daemon), d.tokens.HasTokens)
	return d, err
}

// serve opens the cluster, serves it and closes it.
func (d *daemon) serve(ctx context.Context) error {
	defer gcroom.Take().Release()
	spareprocs.Take()
	defer spareprocs.Release()
	d.systemd().Status("opening the stores in " + d.settings.Data)
	timings := api.NewTimings()
	m, err := manager.Open(ctx, d.settings, manager.Options{
		Log: d.log, Now: d.o.Now, LockWait: d.o.LockWait, Wrote: timings.Wrote, Polled: timings.Polled,
	})
	if err != nil {
		return unlessEnded(ctx, err)
	}
	d.m, d.metrics = m, api.NewMetrics(m, timings)
	if err := d.listen(ctx); err != nil {
		return errors.Join(unlessEnded(ctx, err), d.closeListeners(), m.Close())
	}
	work, endWork := context.WithCancel(context.WithoutCancel(ctx))
	defer endWork()
	worked := make(chan struct{})
	go func() {
		defer close(worked)
		if err := m.Run(work); err != nil {
			d.fail(err)
		}
	}()
	d.start()
	watch, endWatch := context.WithCancel(work)
	defer endWatch()
	d.running.Go(func() { d.systemd().Watchdog(watch, "the registry", d.healthy) })
	d.running.Go(func() { d.metrics.Run(watch, d.log) })
	d.announce()

	err = d.until(ctx)
	endWatch()
	return errors.Join(err, d.shutdown(endWork, worked))
}

// until returns when the daemon is to end: without an error when ctx ends.
func (d *daemon) until(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-d.failed:
			d.log.Error("the daemon ends", "error", err)
			return err
		case <-d.o.Reload:
			d.reload(ctx)
		}
	}
}

// fail notes the first error that ends the daemon.
func (d *daemon) fail(err error) {
	select {
	case d.failed <- err:
	default:
		d.log.Error("something else failed too", "error", err)
	}
}

// announce tells people and systemd that all is served.
func (d *daemon) announce() {
	d.log.Info("serving", "version", d.o.Version, "data", d.settings.Data, "pid", os.Getpid())
	for _, s := range d.servers {
		d.log.Info("listening", "on", s.name, "address", s.address)
	}
	d.systemd().Ready("serving at %s", d.settings.Daemon.Socket)
	if d.o.Ready != nil {
		d.o.Ready()
	}
}

// openLog makes the log; what the command line says comes before the file.
func (d *daemon) openLog() (err error) {
	format := d.o.Format
	if format == "" {
		format = d.settings.Daemon.LogFormat
	}
	level := d.o.Level
	if level == "" {
		level = d.settings.Daemon.LogLevel
	}
	d.log, d.level, err = NewLog(d.o.LogTo, level, format)
	return err
}

// setLevel takes the level of a file that was read again.
func (d *daemon) setLevel(fromFile string) error {
	if d.o.Level != "" {
		return nil
	}
	return SetLevel(d.level, fromFile)
}

// NewLog is a log in one of the formats text and json, with a level that can be
// set while it is used.
func NewLog(w io.Writer, level, format string) (*slog.Logger, *slog.LevelVar, error) {
	v := new(slog.LevelVar)
	if err := SetLevel(v, level); err != nil {
		return nil, nil, err
	}
	opts := &slog.HandlerOptions{Level: v}
	switch format {
	case "text":
		return slog.New(slog.NewTextHandler(w, opts)), v, nil
	case "json":
		return slog.New(slog.NewJSONHandler(w, opts)), v, nil
	}
	return nil, nil, fmt.Errorf("there is no log format %.32q: there are text and json", format)
}

// SetLevel reads a level by its name.
func SetLevel(v *slog.LevelVar, text string) error {
	var l slog.Level
	if err := l.UnmarshalText([]byte(text)); err != nil {
		return fmt.Errorf("there is no log level %.32q: there are debug, info, warn and error", text)
	}
	v.Set(l)
	return nil
}
