package hostagent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/vagoth/vagoth/auth"
	"github.com/vagoth/vagoth/cmd/vagoth/serve"
	"github.com/vagoth/vagoth/internal/lockfile"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/virt/agent"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent"
)

// Options are what does not stand in the file.
type Options struct {
	Load    func() (*Settings, error) // reads and checks the files; again at each reload
	Version string
	LogTo   io.Writer
	Level   string // of the log: debug, info, warn, error; "" is what the file says
	Format  string // of the log: text, json; "" is what the file says
	Now     func() time.Time

	LockWait time.Duration        // how long to wait for another process that has the store
	Reload   <-chan struct{}      // each value is a wish to reload; nil is none
	Abort    <-chan struct{}      // closed: end at once, whatever runs
	Ready    func(address string) // called when all is served; nil is nobody
}

// ErrAborted: the agent was told to end at once. What ran is settled at the next
// start, as after a crash.
var ErrAborted = errors.New("ended at once: what ran is settled when the agent is started again")

// Run serves until ctx ends, which is no error.
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
func Check(s *Settings) error {
	_, err := prepare(s, Options{LogTo: io.Discard, Now: time.Now})
	return err
}

// daemon is one Run.
type daemon struct {
	o        Options
	settings *Settings
	log      *slog.Logger
	level    *slog.LevelVar
	tokens   *auth.Store
	certs    *serve.Certificates // nil without TLS

	subagents []subagent.SubAgent // inside the process
	agent     *agent.Agent
	endpoint  *serve.Endpoint
	socket    *serve.Socket
	failed    chan error
	draining  chan struct{} // closed when the shutdown begins
	running   sync.WaitGroup
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
	for _, w := range s.Warnings {
		d.log.Warn(w)
	}
	err = d.open(ctx)
	if err == nil {
		err = d.serve(ctx)
	}
	err = errors.Join(err, d.close())
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil // it only says that it was to end before it had begun
	}
	return err
}

// prepare checks everything that needs no store.
func prepare(s *Settings, o Options) (*daemon, error) {
	d := &daemon{o: o, settings: s, failed: make(chan error, 2), draining: make(chan struct{})}
	level, format := s.Net.LogLevel, s.Net.LogFormat
	if o.Level != "" {
		level = o.Level
	}
	if o.Format != "" {
		format = o.Format
	}
	var err error
	if d.log, d.level, err = serve.NewLog(o.LogTo, level, format); err != nil {
		return nil, err
	}
	if d.tokens, err = auth.Open(s.tokensFile(), auth.Options{Log: d.log, Now: o.Now}); err != nil {
		return nil, fmt.Errorf("[agent] tokens: %w", err)
	}
	if err := s.checkAccess(d.tokens.HasTokens()); err != nil {
		return nil, err
	}
	if err := agent.CheckStore(s.store()); err != nil {
		return nil, err
	}
	d.certs, err = serve.OpenCertificates(s.certificateFiles(), d.tokens.HasTokens)
	return d, err
}

// open opens the sub-agents, the agent and the listener. What was opened when it
// fails is closed by close.
func (d *daemon) open(ctx context.Context) error {
	s := d.settings
	d.systemd().Status("opening the store in " + s.store())
	// QEMU gets through to the disks below, as whichever user it runs.
	if err := os.MkdirAll(s.Data, 0o711); err != nil {
		return fmt.Errorf("cannot make the data directory: %w", err)
	}
	local := map[string]http.Handler{}
	for _, in := range s.inside {
		sub, err := in.open(ctx, subagent.Deps{
			Name: in.service, Data: filepath.Join(s.Data, "subagents", in.service), Log: d.log.With("subagent", in.service), Now: d.o.Now,
		})
		if err != nil {
			return fmt.Errorf("[subagent.%s] cannot open %s: %w", in.service, in.kind, err)
		}
		d.subagents = append(d.subagents, sub)
		server := mistify.NewServer(mistify.ServerOptions{Log: d.log.With("subagent", in.service)})
		sub.Register(server)
		local[in.service] = server
	}
	deps := agent.Deps{
		Data: s.Data, Log: d.log, Now: d.o.Now, Version: d.o.Version,
		Local: local, Auth: s.callers(d.tokens), Draining: d.draining,
	}
	if err := os.MkdirAll(filepath.Dir(s.store()), 0o711); err != nil {
		return fmt.Errorf("cannot make the directory of the store: %w", err)
	}
	a, err := openWithin(ctx, s.Agent, deps, d.o.LockWait)
	if err != nil {
		return err
	}
	d.agent = a
	l, socket, err := listen(ctx, s.Agent.Listen)
	if err != nil {
		return err
	}
	d.socket = socket
	limits := serve.Limits{MaxConnections: s.Net.MaxConnections, HeaderTimeout: s.Net.HeaderTimeout, BodyTimeout: s.Net.BodyTimeout, IdleTimeout: s.Net.IdleTimeout}
	if d.certs != nil {
		d.endpoint = serve.NewEndpoint("agent", l, d.certs.Config(), a.Handler(), limits, d.log)
	} else {
		d.endpoint = serve.NewEndpoint("agent", l, nil, a.Handler(), limits, d.log)
	}
	return nil
}

// lockAgain is how often a store that another process has is tried.
const lockAgain = 100 * time.Millisecond

// openWithin opens the agent, waiting for another process to leave its store.
func openWithin(ctx context.Context, cfg agent.Config, deps agent.Deps, wait time.Duration) (*agent.Agent, error) {
	tick := time.NewTicker(lockAgain)
	defer tick.Stop()
	for began := time.Now(); ; {
		a, err := agent.Open(ctx, cfg, deps)
		var held *lockfile.HeldError
		if err == nil || !errors.As(err, &held) || time.Since(began) >= wait {
			return a, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-tick.C:
		}
	}
}

// serve serves what is open, and shuts it down.
func (d *daemon) serve(ctx context.Context) error {
	endpoint := d.endpoint
	d.endpoint = nil // from here on it is served, and so shut down and not abandoned
	work, endWork := context.WithCancel(context.WithoutCancel(ctx))
	defer endWork()
	worked := make(chan struct{})
	go func() {
		defer close(worked)
		if err := d.agent.Run(work); err != nil {
			d.fail(err)
		}
	}()
	d.running.Go(func() {
		if err := endpoint.Serve(); err != nil {
			d.fail(err)
		}
	})
	d.running.Go(func() {
		d.systemd().Watchdog(work, "the agent", func(context.Context) error { return nil })
	})
	d.log.Info("serving", "version", d.o.Version, "address", endpoint.Address(), "store", d.settings.store(), "pid", os.Getpid())
	d.systemd().Ready("serving at %s", endpoint.Address())
	if d.o.Ready != nil {
		d.o.Ready(endpoint.Address())
	}
	err := d.until(ctx)
	return errors.Join(err, d.shutdown(endpoint, endWork, worked))
}

// until returns when the agent is to end: without an error when ctx ends.
func (d *daemon) until(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-d.failed:
			d.log.Error("the agent ends", "error", err)
			return err
		case <-d.o.Reload:
			d.reload()
		}
	}
}

func (d *daemon) fail(err error) {
	select {
	case d.failed <- err:
	default: // the first one ends it
	}
}

// shutdown lets nobody new in, lets running stages and requests end, and cuts
// off what does not.
func (d *daemon) shutdown(endpoint *serve.Endpoint, endWork context.CancelFunc, worked <-chan struct{}) error {
	began := time.Now()
	span := d.settings.Net.ShutdownTimeout
	d.systemd().Stopping("waiting for what runs")
	d.log.Info("stopping", "within", span)
	close(d.draining)
	ctx, cancel := context.WithTimeout(context.Background(), span)
	defer cancel()
	left := make(chan error, 1)
	go func() { left <- endpoint.Shutdown(ctx) }() // stops accepting now
	endWork()
	<-worked // bounded by stop_grace
	err := <-left
	if err != nil {
		err = fmt.Errorf("requests did not end within shutdown_timeout (%s): they were cut off", span)
	}
	endpoint.Close(scheduler.ErrClosed)
	d.running.Wait()
	if err == nil {
		d.log.Info("stopped", "took", time.Since(began).Round(time.Millisecond))
	}
	return err
}

// close closes what was opened, the last first.
func (d *daemon) close() error {
	var errs []error
	if d.endpoint != nil {
		errs = append(errs, d.endpoint.Abandon())
	}
	if d.socket != nil {
		errs = append(errs, d.socket.Remove())
	}
	if d.agent != nil {
		errs = append(errs, d.agent.Close())
	}
	for i := len(d.subagents) - 1; i >= 0; i-- {
		errs = append(errs, d.subagents[i].Close())
	}
	return errors.Join(errs...)
}

func (d *daemon) systemd() serve.Systemd { return serve.Systemd{Log: d.log} }

// reload takes tokens, certificates and the log's level as they are now. If any
// of it is wrong all of it stays as it was.
func (d *daemon) reload() {
	d.systemd().Reloading()
	restart, err := d.take()
	switch {
	case err != nil:
		d.log.Error("nothing was reloaded: the old configuration stays", "error", err)
		d.systemd().Ready("serving; the last reload failed: %s", err)
		return
	case len(restart) > 0:
		d.log.Warn("reloaded; what else has changed is taken when the agent is started again", "changed", strings.Join(restart, ", "))
	default:
		d.log.Info("reloaded")
	}
	d.systemd().Ready("serving")
}

func (d *daemon) take() (restart []string, err error) {
	next, err := d.o.Load()
	if err != nil {
		return nil, err
	}
	if next.tokensFile() != d.settings.tokensFile() || next.asks() != d.settings.asks() {
		return nil, errors.New("[agent] tokens, client_ca or listen: who is asked who he is, and by which file, is decided at the start: start the agent again")
	}
	if err := d.tokens.Reload(); err != nil {
		return nil, fmt.Errorf("[agent] tokens: %w", err)
	}
	if err := next.checkAccess(d.tokens.HasTokens()); err != nil {
		return nil, err
	}
	takeCertificates, err := d.certs.Reload(next.certificateFiles())
	if err != nil {
		return nil, err
	}
	if d.o.Level == "" {
		if err := serve.SetLevel(d.level, next.Net.LogLevel); err != nil {
			return nil, err
		}
	}
	takeCertificates()
	for _, key := range d.settings.changed(next) {
		switch key {
		case "[agent] client_ca", "[agent] log_level":
		case "[agent] tls_cert", "[agent] tls_key":
			if (d.certs != nil) == (next.Net.TLSCert != "") {
				continue
			}
			restart = append(restart, key) // a listener begins with TLS or without
		default:
			restart = append(restart, key)
		}
	}
	return restart, nil
}
