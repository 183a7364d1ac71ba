package fetch

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// Fetcher downloads into one folder, and takes there what is sent. Its methods are safe for concurrent use.
type Fetcher struct {
	root   *os.Root
	o      Options
	client *http.Client
	places chan struct{}
	wg     sync.WaitGroup

	mu      sync.Mutex
	closed  bool
	flights map[string]*flight
}

// flight is one download with those who wait for it, or content that is taken.
type flight struct {
	item      Item
	content   io.ReadCloser // nil for a download
	ended     chan struct{}
	err       error // once it ended
	cancel    context.CancelCauseFunc
	waiters   int
	abandoned bool
	done      atomic.Int64
	total     atomic.Int64
}

var (
	errClosed  = errors.New("the sub-agent ends")
	errNobody  = errors.New("nobody waits for it any more")
	errStalled = errors.New("too little came for too long")
)

// Open sweeps the folder of what an earlier process left half done. Only one
// Fetcher uses a folder at a time.
func Open(root *os.Root, o Options) (*Fetcher, error) {
	f := &Fetcher{root: root, o: o.filled(), flights: map[string]*flight{}}
	f.places = make(chan struct{}, f.o.Concurrent)
	f.client = f.newClient()
	if err := f.sweep(); err != nil {
		return nil, fmt.Errorf("cannot sweep the folder %s: %w", root.Name(), err)
	}
	return f, nil
}

// Close ends all downloads, and the taking of what is sent, and waits for them.
func (f *Fetcher) Close() error {
	f.mu.Lock()
	f.closed = true
	for _, one := range f.flights {
		one.cancel(errClosed)
	}
	f.mu.Unlock()
	f.wg.Wait()
	f.client.CloseIdleConnections()
	return nil
}

// Fetch downloads an item and lets finish make something of it, or with no
// finish renames it to its name. Calls for one name share one download; one with
// another URL, size or sum is a virt.ErrConflict meanwhile. A download ends early
// when nobody waits for it any more.
func (f *Fetcher) Fetch(ctx context.Context, item Item, finish Finish) error {
	item, err := f.check(item)
	if err == nil {
		err = f.checkSource(item)
	}
	if err != nil {
		return err
	}
	for {
		one, joined, err := f.join(ctx, item, finish)
		if err != nil {
			return err
		}
		if !joined {
			select {
			case <-one.ended:
				continue
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		select {
		case <-one.ended:
			return one.err
		case <-ctx.Done():
		}
		f.mu.Lock()
		if one.waiters--; one.waiters == 0 {
			one.abandoned = true
			one.cancel(errNobody)
		}
		last := one.abandoned
		f.mu.Unlock()
		if last {
			<-one.ended // so that nothing is left of it when we return
		}
		return fmt.Errorf("the download of %s was given up: %w", item.Name, ctx.Err())
	}
}

// join takes part in the download of an item, which it begins if there is none.
// One that nobody waited for any more cannot be joined, only its end awaited.
func (f *Fetcher) join(ctx context.Context, item Item, finish Finish) (one *flight, joined bool, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return nil, false, fmt.Errorf("cannot download %s: %w", item.Name, errClosed)
	}
	if one := f.flights[item.Name]; one != nil {
		if one.item != item {
			return nil, false, taken(item.Name)
		}
		if !one.abandoned {
			one.waiters++
		}
		return one, !one.abandoned, nil
	}
	return f.begin(context.WithoutCancel(ctx), &flight{item: item}, finish), true, nil
}

// begin begins a flight. The caller holds the lock.
func (f *Fetcher) begin(ctx context.Context, one *flight, finish Finish) *flight {
	work, cancel := context.WithCancelCause(ctx)
	one.ended, one.cancel, one.waiters = make(chan struct{}), cancel, 1
	one.total.Store(-1)
	f.flights[one.item.Name] = one
	f.wg.Go(func() {
		defer cancel(nil)
		err := f.run(work, one, finish)
		switch {
		case err != nil && one.content != nil:
			err = fmt.Errorf("cannot take what was sent as %s: %w", one.item.Name, err)
		case err != nil:
			err = fmt.Errorf("cannot download %s from %s: %w", one.item.Name, shown(one.item.URL), err)
		}
		f.mu.Lock()
		one.err = err
		delete(f.flights, one.item.Name)
		f.mu.Unlock()
		close(one.ended)
	})
	return one
}

func taken(name string) error {
	return fmt.Errorf("%w: %s is being downloaded from another source, or with another size or sum, or is being sent: wait for it", virt.ErrConflict, name)
}

// run does one flight, when there is a place for it.
func (f *Fetcher) run(ctx context.Context, one *flight, finish Finish) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("it panicked: %v", v)
		}
	}()
	select {
	case f.places <- struct{}{}:
		defer func() { <-f.places }()
	case <-ctx.Done():
		return context.Cause(ctx)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, f.o.Timeout, fmt.Errorf("it took longer than %s: %w", f.o.Timeout, context.DeadlineExceeded))
	defer cancel()
	return f.download(ctx, one, finish)
}

// Under returns the downloads under way, and what is being sent.
func (f *Fetcher) Under() map[string]Progress {
	f.mu.Lock()
	defer f.mu.Unlock()
	list := map[string]Progress{}
	for name, one := range f.flights {
		list[name] = Progress{Done: one.done.Load(), Total: one.total.Load(), Waiting: one.waiters}
	}
	return list
}

// check refuses an item that cannot be, from wherever it comes.
func (f *Fetcher) check(item Item) (Item, error) {
	if err := mistify.CheckImageID("", item.Name); err != nil || strings.Contains(item.Name, "@") {
		return item, &mistify.NameError{What: "name of a download", Given: item.Name, Want: "1 to 255 letters, digits, -, _, : and single dots, a letter or digit first"}
	}
	if len(item.Name) > 200 {
		return item, fmt.Errorf("%w: the name of a download has %d bytes, at most 200 are taken", virt.ErrInvalid, len(item.Name))
	}
	if item.Size < 0 || item.Size > f.o.MaxBytes {
		return item, fmt.Errorf("%w: the download %s would have %d bytes, at most %d are taken", virt.ErrInvalid, item.Name, item.Size, f.o.MaxBytes)
	}
	if item.SHA256 == "" {
		return item, nil
	}
	item.SHA256 = strings.ToLower(item.SHA256)
	if sum, err := hex.DecodeString(item.SHA256); err != nil || len(sum) != 32 {
		return item, fmt.Errorf("%w: %.80q is no sha256: it must have 64 hex digits", virt.ErrInvalid, item.SHA256)
	}
	return item, nil
}

// checkSource refuses an item that cannot be downloaded.
func (f *Fetcher) checkSource(item Item) error {
	if err := checkURL(item.URL); err != nil {
		return err
	}
	if item.SHA256 == "" && f.o.RequireSum {
		return fmt.Errorf("%w: the download %s has no sha256, and the config wants one", virt.ErrInvalid, item.Name)
	}
	return nil
}

const maxURL = 4096

func checkURL(text string) error {
	if len(text) > maxURL {
		return fmt.Errorf("%w: the source has %d bytes, at most %d are taken", virt.ErrInvalid, len(text), maxURL)
	}
	u, err := url.Parse(text)
	switch {
	case err != nil:
		return fmt.Errorf("%w: the source is no URL", virt.ErrInvalid)
	case u.Scheme != "http" && u.Scheme != "https":
		return fmt.Errorf("%w: the source's scheme is %.20q: it must be http or https", virt.ErrInvalid, u.Scheme)
	case u.Hostname() == "":
		return fmt.Errorf("%w: the source names no host", virt.ErrInvalid)
	}
	return nil
}

// shown is a URL without what can be a secret: user, password and query.
func shown(text string) string {
	u, err := url.Parse(text)
	if err != nil {
		return "a source that is no URL"
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: path.Clean("/" + u.Path)}).String()
}
