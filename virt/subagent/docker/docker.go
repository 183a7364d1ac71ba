package docker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	moby "github.com/moby/moby/client"

	"github.com/vagoth/vagoth/internal/lockfile"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/subagent/fetch"
	"github.com/vagoth/vagoth/virt/subagent/store"
)

// Options modify Open. All but Dir can be left out.
type Options struct {
	Dir             string
	Socket          string        // /var/run/docker.sock if ""
	Timeout         time.Duration // of one call that copies nothing; 1 minute if 0
	TransferTimeout time.Duration // of one that does; 1 hour if 0
	Stall           time.Duration // how long dockerd may say nothing meanwhile; 2 minutes if 0
	Grace           time.Duration // how long a container has to end before it is killed
	Patience        time.Duration // how long dockerd may be gone before that ends jobs
	Registries      []string      // hosts that images are pulled from; any if empty
	MaxContainers   int           // in a listing; 10,000 if 0
	MaxAnswer       int64         // bytes of one answer; 32 MiB if 0
	MaxPIDs         int64         // of a container; 0 is any number
	MaxLog          int64         // bytes of a container's output that are kept; 16 MiB if 0
	Fetch           fetch.Options
	Log             *slog.Logger
	Now             func() time.Time
}

// Docker is the sub-agent. Its methods are those of the actions; they are safe
// for concurrent use.
type Docker struct {
	o     Options
	guard *guard
	up    chan struct{} // has a place for who reaches dockerd anew
	api   atomic.Pointer[moby.Client]
	gone  outage

	dir     *os.Root
	inbox   *os.Root
	lock    *lockfile.Lock
	fetcher *fetch.Fetcher
	locks   store.Locks // of guests and images
	coming  coming
	limits  limits
	late    expected // containers that were given up
}

// The folders of a sub-agent's directory.
const (
	sources  = "images"
	lates    = "late"
	incoming = "incoming"
	lockName = "lock"
)

// lockWait is how long a directory that is in use is waited for: a process that
// was killed needs a moment to be gone.
const lockWait = 2 * time.Second

// Open makes the folders that are not there. dockerd is not asked for anything.
// One process uses a directory at a time.
func Open(ctx context.Context, o Options) (*Docker, error) {
	o.Socket = cmp.Or(o.Socket, "/var/run/docker.sock")
	o.Timeout = cmp.Or(o.Timeout, time.Minute)
	o.TransferTimeout = cmp.Or(o.TransferTimeout, time.Hour)
	o.Stall = cmp.Or(o.Stall, 2*time.Minute)
	o.MaxContainers = cmp.Or(o.MaxContainers, 10_000)
	o.MaxAnswer = cmp.Or(o.MaxAnswer, 32<<20)
	o.MaxLog = cmp.Or(o.MaxLog, 16<<20)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Fetch.Log == nil {
		o.Fetch.Log = o.Log
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Dir == "" {
		return nil, fmt.Errorf("%w: the sub-agent of containers has no directory", virt.ErrInvalid)
	}
	d := &Docker{o: o, guard: newGuard(o.Socket, o.MaxAnswer), up: make(chan struct{}, 1)}
	if err := d.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open the directory %s: %w", o.Dir, err), d.Close())
	}
	return d, nil
}

func (d *Docker) open(ctx context.Context) (err error) {
	if err := os.MkdirAll(d.o.Dir, 0o700); err != nil {
		return err
	}
	if d.lock, err = lockfile.Acquire(ctx, filepath.Join(d.o.Dir, lockName), lockWait); err != nil {
		return err
	}
	if d.dir, err = os.OpenRoot(d.o.Dir); err != nil {
		return err
	}
	for _, name := range [...]string{sources, lates, incoming} {
		if err := d.dir.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	if d.inbox, err = d.dir.OpenRoot(incoming); err != nil {
		return err
	}
	if err := d.readLate(); err != nil {
		return err
	}
	d.fetcher, err = fetch.Open(d.inbox, d.o.Fetch)
	return err
}

// Close ends the downloads under way, and lets another process have the directory.
// No call is under way any more.
func (d *Docker) Close() error {
	var errs []error
	if d.fetcher != nil {
		errs = append(errs, d.fetcher.Close())
	}
	for _, root := range []*os.Root{d.inbox, d.dir} {
		if root != nil {
			errs = append(errs, root.Close())
		}
	}
	if d.lock != nil {
		errs = append(errs, d.lock.Release())
	}
	return errors.Join(errs...)
}

// reach returns a client that knows which version of the interface dockerd speaks.
// Until then nothing is asked: the client would guess a version.
func (d *Docker) reach(ctx context.Context) (*moby.Client, error) {
	if c := d.api.Load(); c != nil {
		return c, nil
	}
	select {
	case d.up <- struct{}{}:
		defer func() { <-d.up }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if c := d.api.Load(); c != nil {
		return c, nil
	}
	c, err := moby.New(moby.WithHost("unix://"+d.o.Socket), moby.WithUserAgent("vagoth"),
		moby.WithHTTPClient(&http.Client{Transport: d.guard, CheckRedirect: moby.CheckRedirect}))
	if err != nil {
		return nil, err
	}
	if _, err := c.Ping(ctx, moby.PingOptions{NegotiateAPIVersion: true}); err != nil {
		return nil, err
	}
	d.api.Store(c)
	return c, nil
}

// ask calls dockerd, with a deadline.
func ask[T any](ctx context.Context, d *Docker, what string, within time.Duration, do func(context.Context, *moby.Client) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, within, &lateError{within})
	defer cancel()
	c, err := d.reach(ctx)
	var got T
	if err == nil {
		got, err = do(ctx, c)
	}
	if err == nil {
		d.gone.over()
		return got, nil
	}
	err = d.fault(ctx, what, err)
	if isGone(err) {
		d.gone.begun(d.o.Now())
		d.api.CompareAndSwap(c, nil) // the next one may be another version
	}
	var none T
	return none, err
}

// quick is ask for what copies nothing.
func quick[T any](ctx context.Context, d *Docker, what string, do func(context.Context, *moby.Client) (T, error)) (T, error) {
	return ask(ctx, d, what, d.o.Timeout, do)
}

// outage is since when dockerd cannot be reached.
type outage struct {
	mu    sync.Mutex
	since time.Time
}

func (o *outage) begun(now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.IsZero() {
		o.since = now
	}
}

func (o *outage) over() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.since = time.Time{}
}

// lasts is how long dockerd has been gone.
func (o *outage) lasts(now time.Time) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.since.IsZero() {
		return 0
	}
	return now.Sub(o.since)
}
