package worker

import (
	"fmt"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"

	"github.com/vagoth/vagoth/scheduler"
)

// What a task keeps between two heartbeats.
const (
	maxLines = 1_000
	maxLine  = 4 << 10
	maxBytes = 256 << 10 // of all lines
	maxWords = 1 << 10
	maxError = 8 << 10
)

// task is an attempt in the hands of its function. Once the attempt is over it
// takes nothing more.
type task struct {
	job scheduler.Job

	mu      sync.Mutex
	closed  bool
	percent int
	words   string
	fresh   bool // the progress was not told yet
	lines   []string
	bytes   int // of lines
	dropped int
	changed chan struct{} // room for one
}

func newTask(l scheduler.Lease) *task {
	t := &task{changed: make(chan struct{}, 1)}
	t.job = scheduler.Job{ID: l.Job, Queue: l.Queue, Action: l.Action, Params: l.Params, Trail: l.Trail}
	t.job.Trail.Job, t.job.Trail.Attempt, t.job.Trail.Token = l.Job, l.Attempt, l.Token
	return t
}

// Job implements scheduler.Task.
func (t *task) Job() scheduler.Job { return t.job }

// Progress implements scheduler.Task.
func (t *task) Progress(percent int, text string) {
	t.do(func() {
		percent, text = min(max(percent, 0), 100), cut(oneLine(printable(text)), maxWords)
		t.fresh = t.fresh || percent != t.percent || text != t.words
		t.percent, t.words = percent, text
	})
}

// Log implements scheduler.Task.
func (t *task) Log(text string) {
	t.do(func() {
		for line := range strings.SplitSeq(strings.TrimRight(text, "\r\n"), "\n") {
			t.add(cut(printable(line), maxLine))
		}
	})
}

// add is for the holder of mu.
func (t *task) add(line string) {
	if len(t.lines) == maxLines || t.bytes+len(line) > maxBytes {
		t.dropped++
		return
	}
	t.lines, t.bytes = append(t.lines, line), t.bytes+len(line)
}

func (t *task) do(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	f()
	select {
	case t.changed <- struct{}{}:
	default:
	}
}

func (t *task) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closed = true
}

// beat is what the next heartbeat says.
func (t *task) beat(h scheduler.Hold) scheduler.Beat {
	t.mu.Lock()
	defer t.mu.Unlock()
	b := scheduler.Beat{Hold: h}
	if t.fresh {
		b.Percent, b.Progress = t.percent, t.words
		t.fresh = false
	}
	return b
}

// untold says that the progress of a heartbeat that failed is to be told again.
func (t *task) untold() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.fresh = true
}

// take returns the lines that were not sent yet.
func (t *task) take() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	lines := t.lines
	if t.dropped > 0 {
		lines = append(lines, fmt.Sprintf("… and %d more lines, which came too fast", t.dropped))
	}
	t.lines, t.bytes, t.dropped = nil, 0, 0
	return lines
}

// putBack is for lines that could not be sent.
func (t *task) putBack(lines []string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	later := t.lines
	t.lines, t.bytes = nil, 0
	for _, line := range lines {
		t.add(line)
	}
	for _, line := range later {
		t.add(line)
	}
}

// printable replaces what could play tricks on a terminal.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) && r != '\t' {
			return ' '
		}
		return r
	}, strings.TrimRight(s, "\r"))
}

func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }

// cut shortens s to about limit bytes, at the end of a rune.
func cut(s string, limit int) string {
	s = strings.ToValidUTF8(s, "�")
	if len(s) <= limit {
		return s
	}
	for !utf8.RuneStart(s[limit]) {
		limit--
	}
	return s[:limit] + "…"
}
