package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vagoth/vagoth/scheduler"
)

// progress says how far a long work is: one line on a terminal that is drawn
// again, and lines now and then elsewhere.
type progress struct {
	a            *app
	mu           sync.Mutex
	total        int
	done, failed int
	moving       map[string]string // what the jobs do that were asked about last
	drawn        time.Time
	lineAt       time.Time
	lineSaid     string
	hinted       bool
}

// What is drawn.
const (
	drawEvery = 100 * time.Millisecond
	drawWidth = 79
	drawMost  = 3 // jobs that are named
)

func (a *app) progress(total int) *progress {
	return &progress{a: a, total: total, moving: map[string]string{}}
}

// step counts one that is done.
func (p *progress) step(failed bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done++
	if failed {
		p.failed++
	}
	if p.total > 1 {
		p.draw()
	}
}

// tell notes what a job does that has not ended. began is when the waiting did.
func (p *progress) tell(j *awaited, began time.Time) {
	text := what(j.st)
	if text == "" {
		text = string(j.st.State)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.a.env.Terminal {
		p.moving[j.name] = text
		p.draw()
		return
	}
	if p.total == 0 {
		return
	}
	now := p.a.env.Now()
	if p.total > waitFew {
		if p.lineAt.IsZero() {
			p.lineAt = began
		}
		if s := p.count(); s != p.lineSaid && now.Sub(p.lineAt) >= waitLine {
			p.lineAt, p.lineSaid = now, s
			p.a.say("%s", s)
		}
		return
	}
	if j.saidAt.IsZero() {
		j.saidAt = began
	}
	if text != j.said && now.Sub(j.saidAt) >= waitLine {
		j.said, j.saidAt = text, now
		p.a.say("%s: %s", j.name, text)
		if j.st.State == scheduler.Waiting && !p.a.daemon() && !p.hinted {
			p.hinted = true
			p.a.say("this command runs only what it has queued itself: if it waits for what others did, start vagoth serve")
		}
	}
}

// forget a job that has ended.
func (p *progress) forget(j *awaited) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.moving, j.name)
}

func (p *progress) count() string {
	return fmt.Sprintf("%d of %d, %d failed", p.done, p.total, p.failed)
}

func (p *progress) draw() {
	now := p.a.env.Now()
	if !p.a.env.Terminal || now.Sub(p.drawn) < drawEvery && p.done < p.total {
		return
	}
	p.drawn = now
	var parts []string
	if p.total > 1 {
		parts = append(parts, p.count())
	}
	names := slices.Sorted(maps.Keys(p.moving))
	for _, name := range names[:min(len(names), drawMost)] {
		parts = append(parts, name+": "+p.moving[name])
	}
	_, _ = fmt.Fprintf(p.a.env.Err, "\r%s\x1b[K", short(strings.Join(parts, "; "), drawWidth))
}

func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.a.env.Terminal && !p.drawn.IsZero() {
		_, _ = fmt.Fprint(p.a.env.Err, "\r\x1b[K")
	}
}
