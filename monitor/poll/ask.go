package poll

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"strings"
	"time"
	"unicode"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/virt"
)

// answer is what a host said.
type answer struct {
	listing virt.Listing
	err     error
}

// grace is how long after its deadline a driver may take to say so itself.
func (m *Monitor) grace() time.Duration { return min(m.cfg.Timeout/10, 500*time.Millisecond) }

// ask asks one host within its deadline. The caller has the host's claim; a call
// that outlives the deadline keeps it until it returns.
func (m *Monitor) ask(ctx context.Context, n *registry.Node, f hostFacts) answer {
	id := n.ID()
	if f.err != nil {
		return answer{err: f.err}
	}
	driver, err := m.deps.Cluster.Parts().Driver(f.driver)
	if err != nil {
		return answer{err: err}
	}
	call, cancel := context.WithTimeout(ctx, m.cfg.Timeout)
	answers := make(chan answer, 1)
	m.calls.Add(1)
	m.share(id)
	go func() {
		defer m.calls.Done()
		defer cancel()
		a := answer{err: errors.New("the driver ended its goroutine")}
		defer func() {
			m.release(id) // first: whoever has the answer may ask again
			answers <- a
		}()
		a = m.status(call, driver, f.host)
	}()
	select {
	case a := <-answers:
		return a
	case <-call.Done():
	}
	t := time.NewTimer(m.grace())
	defer t.Stop()
	select {
	case a := <-answers:
		return a
	case <-t.C:
		return answer{err: fmt.Errorf("%w: it did not answer within %v", virt.ErrUnreachable, m.cfg.Timeout)}
	}
}

// status is one call of a driver, whose panic is an error of its host.
func (m *Monitor) status(ctx context.Context, d virt.Driver, h virt.Host) (a answer) {
	defer func() {
		if p := recover(); p != nil {
			m.log.ErrorContext(ctx, "driver panicked", "host", h.ID, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			a = answer{err: fmt.Errorf("the driver panicked: %v", p)}
		}
	}()
	a.listing, a.err = d.Status(ctx, h)
	return a
}

// maxText bounds what is kept of a text that comes from a host.
const maxText = 200

// plain makes one bounded line of printable text of what a host said.
func plain(s string) string {
	if len(s) > 4*maxText {
		s = s[:4*maxText]
	}
	s = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		if unicode.IsSpace(r) {
			return ' '
		}
		return '\ufffd'
	}, strings.ToValidUTF8(s, "\ufffd"))
	if len(s) > maxText {
		s = strings.ToValidUTF8(s[:maxText], "") + "…"
	}
	return s
}
