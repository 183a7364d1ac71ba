package libvirt

import (
	"context"
	"fmt"
	"sync"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/vagoth/vagoth/virt"
)

const (
	keepIdle   = 2                // connections without a call, of one address
	idleFor    = time.Minute      // as long as they are kept
	checkAfter = 15 * time.Second // idle for longer, a connection has to answer first
	checkFor   = 5 * time.Second  // and this soon
)

// use is a share of an address's connections.
type use int

const (
	looks   use = iota // only looks
	changes            // changes something
	moves              // a migration: takes hours, and is bounded apart
)

// pool is the connections to one address.
type pool struct {
	endpoint endpoint
	cfg      Config
	now      func() time.Time
	slots    [3]chan struct{}
	storing  chan struct{} // one at a time makes the storage pool
	making   chan struct{} // one at a time makes and wipes disks

	mu     sync.Mutex
	idle   []*conn // the last one used at the end
	live   map[*conn]struct{}
	calls  sync.WaitGroup
	closed bool
	caps   map[string]known // by virtualisation type
	has    measured
}

// conn is one connection. It serves one call at a time.
type conn struct {
	*golibvirt.Libvirt
	guard  *guard
	driver string // the URI that is open on it
	used   time.Time
}

func newPool(e endpoint, cfg Config, now func() time.Time) *pool {
	p := &pool{endpoint: e, cfg: cfg, now: now, storing: make(chan struct{}, 1), making: make(chan struct{}, 1), live: map[*conn]struct{}{}, caps: map[string]known{}}
	for i := range p.slots {
		p.slots[i] = make(chan struct{}, cfg.Connections)
	}
	return p
}

// do runs f with a connection of its own. When ctx or the time for a call ends,
// the connection is closed and f returns at once. Its error says what was meant
// to be done, where, and what it came to.
func (p *pool) do(ctx context.Context, u use, what string, f func(context.Context, *conn) error) error {
	timeout := p.cfg.Timeout
	if u == moves {
		timeout = p.cfg.MigrateTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := p.run(ctx, u, f)
	if err == nil {
		return nil
	}
	return &Error{What: what, Address: p.endpoint.String(), Err: err}
}

func (p *pool) run(ctx context.Context, u use, f func(context.Context, *conn) error) error {
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return unreachable(errClosed)
	}
	p.calls.Add(1)
	p.mu.Unlock()
	defer p.calls.Done()

	select {
	case p.slots[u] <- struct{}{}:
		defer func() { <-p.slots[u] }()
	case <-ctx.Done():
		return unreachable(fmt.Errorf("no connection was free in time: %w", context.Cause(ctx)))
	}
	c, err := p.take(ctx)
	if err != nil {
		return unreachable(err)
	}
	err = c.call(ctx, func() error { return f(ctx, c) })
	p.put(c)
	return err
}

// call runs f under ctx. It turns what the connection broke of into an
// ErrUnreachable.
func (c *conn) call(ctx context.Context, f func() error) (err error) {
	stop := context.AfterFunc(ctx, func() { c.guard.fail(deadline(ctx)) })
	defer func() {
		stop()
		if r := recover(); r != nil {
			c.guard.fail(malformed("%.200v", r))
			err = errMalformed
		}
		if broken := c.guard.broken(); broken != nil && err != nil {
			err = unreachable(broken)
			return
		}
		if err = translate(err); isBroken(err) {
			c.guard.fail(err)
		}
	}()
	if err := ctx.Err(); err != nil {
		return err
	}
	return f()
}

func deadline(ctx context.Context) error {
	if ctx.Err() == context.DeadlineExceeded {
		return fmt.Errorf("it did not answer in time: %w", ctx.Err())
	}
	return context.Cause(ctx)
}

// take gives an idle connection that is alive, or a new one.
func (p *pool) take(ctx context.Context) (*conn, error) {
	for {
		c := p.takeIdle()
		if c == nil {
			return p.dial(ctx)
		}
		if p.now().Sub(c.used) < checkAfter {
			return c, nil
		}
		checkCtx, cancel := context.WithTimeout(ctx, checkFor)
		err := c.call(checkCtx, func() error { _, err := c.ConnectGetLibVersion(); return err })
		cancel()
		if err == nil && c.guard.broken() == nil {
			return c, nil
		}
		p.drop(c)
	}
}

func (p *pool) takeIdle() *conn {
	p.mu.Lock()
	var dead []*conn
	var found *conn
	for found == nil && len(p.idle) > 0 {
		c := p.idle[len(p.idle)-1]
		p.idle = p.idle[:len(p.idle)-1]
		if c.guard.broken() != nil {
			dead = append(dead, c)
			continue
		}
		found = c
	}
	p.mu.Unlock()
	for _, c := range dead {
		p.drop(c)
	}
	return found
}

// put gives a connection back, and closes those that were idle for long.
func (p *pool) put(c *conn) {
	now := p.now()
	p.mu.Lock()
	var dead []*conn
	if c.guard.broken() != nil || p.closed {
		dead = append(dead, c)
	} else {
		c.used = now
		p.idle = append(p.idle, c)
	}
	kept := p.idle[:0]
	for i, o := range p.idle {
		if len(p.idle)-i > keepIdle || now.Sub(o.used) > idleFor {
			dead = append(dead, o)
		} else {
			kept = append(kept, o)
		}
	}
	p.idle = kept
	p.mu.Unlock()
	for _, c := range dead {
		p.drop(c)
	}
}

// drop closes a connection and waits for its goroutines.
func (p *pool) drop(c *conn) {
	p.mu.Lock()
	delete(p.live, c)
	p.mu.Unlock()
	_ = c.guard.Close()
	<-c.Disconnected()
}

// dial makes a connection and opens the hypervisor on it.
func (p *pool) dial(ctx context.Context) (*conn, error) {
	raw, err := p.dialTransport(ctx)
	if err != nil {
		return nil, err
	}
	g := newGuard(raw, limits{domains: p.cfg.MaxDomains})
	c := &conn{Libvirt: golibvirt.NewWithDialer(dialed{g}), guard: g, driver: p.endpoint.driver, used: p.now()}
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		_ = g.Close()
		return nil, errClosed
	}
	p.live[c] = struct{}{}
	p.mu.Unlock()
	err = c.call(ctx, func() error { return c.ConnectToURI(golibvirt.ConnectURI(p.endpoint.driver)) })
	if err != nil {
		g.fail(err)
	}
	g.open()
	if err != nil {
		p.drop(c)
		return nil, err
	}
	return c, nil
}

func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	all := make([]*conn, 0, len(p.live))
	for c := range p.live {
		all = append(all, c)
	}
	p.mu.Unlock()
	for _, c := range all {
		_ = c.guard.Close()
	}
	p.calls.Wait()
	for _, c := range all {
		p.drop(c)
	}
}

func unreachable(err error) error {
	if err == nil || isUnreachable(err) {
		return err
	}
	return fmt.Errorf("%w: %w", virt.ErrUnreachable, err)
}
