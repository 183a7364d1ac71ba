package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/vagoth/vagoth/virt"
)

// console is a serial console whose guest says who it is and repeats what is
// typed.
type console struct {
	ctx   context.Context
	end   context.CancelCauseFunc
	state func() (virt.State, error)
	news  chan struct{} // something was typed

	mu  sync.Mutex
	out []byte
}

// consoleLook is how soon a console notices that its guest stopped.
const consoleLook = 20 * time.Millisecond

// maxTyped bounds what a guest repeats that nobody reads.
const maxTyped = 64 << 10

// Console attaches to a guest's console.
func (d *Driver) Console(ctx context.Context, h virt.Host, vg virt.Guest) (io.ReadWriteCloser, error) {
	name := ""
	err := d.onGuest(ctx, h, vg, "console", func(_ *state, g *guest, _ time.Time) (bool, error) {
		if !g.active() {
			return false, fmt.Errorf("%w: %s is %s: start it first", virt.ErrConflict, g.Name, g.State)
		}
		name = g.Name
		return false, nil
	})
	if err != nil {
		return nil, err
	}
	c := &console{news: make(chan struct{}, 1), out: []byte(name + " login: ")}
	c.ctx, c.end = context.WithCancelCause(ctx)
	c.state = func() (s virt.State, err error) {
		err = d.alter(nameOf(h), func(st *state, now time.Time) (bool, error) {
			g, err := st.find(vg.UUID, now)
			if err == nil {
				s = g.State
			}
			return false, err
		})
		return s, err
	}
	return c, nil
}

func (c *console) Read(p []byte) (int, error) {
	look := time.NewTicker(consoleLook)
	defer look.Stop()
	for {
		c.mu.Lock()
		n := copy(p, c.out)
		c.out = c.out[n:]
		c.mu.Unlock()
		if n > 0 || len(p) == 0 {
			return n, nil
		}
		select {
		case <-c.news:
		case <-look.C:
			if s, err := c.state(); errors.Is(err, virt.ErrNotFound) || err == nil && s != virt.Running && s != virt.Paused {
				return 0, io.EOF
			}
		case <-c.ctx.Done():
			return 0, io.EOF
		}
	}
}

func (c *console) Write(p []byte) (int, error) {
	if c.ctx.Err() != nil {
		return 0, io.ErrClosedPipe
	}
	c.mu.Lock()
	if len(c.out)+len(p) <= maxTyped {
		c.out = append(c.out, p...)
	}
	c.mu.Unlock()
	select {
	case c.news <- struct{}{}:
	default:
	}
	return len(p), nil
}

func (c *console) Close() error {
	c.end(io.ErrClosedPipe)
	return nil
}
