package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/vagoth/vagoth/auth"
	"github.com/vagoth/vagoth/internal/journal"
)

// Deps is what an agent is given.
type Deps struct {
	Data    string           // directory; the store is in it unless the config says where. Empty keeps nothing.
	Log     *slog.Logger     // nil discards
	Now     func() time.Time // nil is the machine's clock
	Version string

	// Local are the sub-agents inside this process, by the name of their service:
	// JSON-RPC over HTTP, without a socket between.
	Local map[string]http.Handler

	// Auth says who asks. nil is for loopback: everybody may everything but what
	// pages of other sites ask for.
	Auth auth.Authenticator

	// Draining is closed when the server begins to shut down: whoever waits for a
	// job is answered.
	Draining <-chan struct{}
}

// Agent is the agent of one host.
type Agent struct {
	cfg      Config
	deps     Deps
	log      *slog.Logger
	now      func() time.Time
	store    *store
	services map[string]*service
	actions  map[string]*pipeline

	locks   *gates // of guests: what is decided about one is decided by one at a time
	info    *gates // of guests: questions at once
	streams *gates // of guests: downloads at once
	typists *gates // of guests: consoles at once
	settled settled

	mu      sync.Mutex
	run     *run            // nil unless Run runs
	runners map[string]bool // the queues that somebody works on
	held    map[string]bool // those whose first job was begun, with a place of its service, when it was queued
	work    sync.WaitGroup  // runners
}

// run is one call of Run.
type run struct {
	soft context.Context //nolint:containedctx // ended: nothing is begun any more
	hard context.Context //nolint:containedctx // ended: what runs is given up
}

// hostQueue is the queue, and the GuestID, of jobs that are of no guest, as
// Mistify calls it.
const hostQueue = "agent"

// Open reads what the agent remembers and decides about the jobs that ran when
// it was stopped. It does nothing until Run.
func Open(ctx context.Context, cfg Config, deps Deps) (*Agent, error) {
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	cfg = cfg.withDefaults()
	if deps.Log == nil {
		deps.Log = slog.New(slog.DiscardHandler)
	}
	if deps.Now == nil {
		deps.Now = time.Now
	}
	a := &Agent{
		cfg: cfg, deps: deps, log: deps.Log, now: deps.Now,
		locks: newGates(1), info: newGates(cfg.MaxInfo), streams: newGates(cfg.MaxStreams), typists: newGates(cfg.MaxStreams),
		runners: map[string]bool{}, held: map[string]bool{},
	}
	var err error
	if a.services, err = openServices(cfg, deps.Local); err == nil {
		a.actions, err = openPipelines(cfg, a.services)
	}
	if err == nil {
		err = CheckStore(a.dir())
	}
	if err == nil {
		a.store, err = openStore(ctx, a.dir(), cfg.KeepJobs, a.log)
	}
	if err == nil {
		if err = a.recover(ctx); err != nil {
			_ = a.store.close() // the first error is the one to tell
		}
	}
	if err != nil {
		a.closeServices()
		return nil, err
	}
	return a, nil
}

// dir is where the store is: where the config says, or below the data.
func (a *Agent) dir() string {
	switch {
	case a.cfg.Store != "":
		return string(a.cfg.Store)
	case a.deps.Data != "":
		return filepath.Join(a.deps.Data, "agent")
	}
	return ""
}

// CheckStore refuses a store that is something else, such as the database of a
// Mistify agent, whose dbpath is a file.
func CheckStore(path string) error {
	if st, err := os.Stat(path); err == nil && !st.IsDir() {
		return fmt.Errorf("the agent's store %s is a file, and must be a directory: move the file away (the guests of another agent are not taken over), or name another path", path)
	}
	return nil
}

// Close ends what Open began. Run has returned before.
func (a *Agent) Close() error {
	a.closeServices()
	return a.store.close()
}

func (a *Agent) closeServices() {
	for _, s := range a.services {
		s.close()
	}
}

// Run works on the jobs until ctx ends, and then until those that run have come
// to the end of a stage, but for no longer than stop_grace. It fails when nothing
// can be written any more.
func (a *Agent) Run(ctx context.Context) error {
	hard, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	soft, stop := context.WithCancel(ctx)
	defer stop()
	a.mu.Lock()
	if a.run != nil {
		a.mu.Unlock()
		return errors.New("the agent runs already")
	}
	a.run = &run{soft: soft, hard: hard}
	a.mu.Unlock()
	for _, q := range a.store.busy() {
		a.wake(q)
	}
	var err error
	select {
	case <-ctx.Done():
	case <-a.store.failed:
		err = fmt.Errorf("the agent's store takes nothing any more: %w", journal.ErrFailed)
	}
	stop()
	grace := time.AfterFunc(a.cfg.StopGrace, giveUp)
	defer grace.Stop()
	a.mu.Lock()
	a.run = nil // no runner begins any more
	a.mu.Unlock()
	a.work.Wait()
	return err
}

// wake lets somebody work on a queue, unless somebody does. It is false if
// nobody does, because the agent does not run.
func (a *Agent) wake(queue string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.runners[queue] {
		return true
	}
	if a.run == nil {
		return false
	}
	a.runners[queue] = true
	r := a.run
	a.work.Go(func() { a.runQueue(r, queue) })
	return true
}

func newID() string { return uuid.NewString() }
