package action

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	gosync "sync"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
)

// maxCommandLines bounds how many lines of one attempt of a command go to the
// job's log.
const maxCommandLines = 10_000

// talk is what a command writes to its standard output: lines of progress and
// log as they come, and all else kept for the result.
type talk struct {
	log   *commandLog
	limit int

	mu    gosync.Mutex
	line  []byte // not ended yet
	rest  bytes.Buffer
	over  bool
	depth int  // of braces and brackets that are open in rest
	text  bool // rest ends inside of a string
	slash bool // and with a backslash
}

func (t *talk) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(p)
	for len(p) > 0 {
		end := bytes.IndexByte(p, '\n') + 1
		whole := end > 0
		if !whole {
			end = len(p)
		}
		if len(t.line)+end > t.limit { // no message, and too long for a result
			t.keep(t.line)
			t.keep(p[:end])
			t.line = t.line[:0]
		} else if t.line = append(t.line, p[:end]...); whole {
			t.take()
		}
		p = p[end:]
	}
	return n, nil
}

func (t *talk) flush() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.take()
}

// take reads the line: a message if it is one, and stands between two objects and
// not within one; else it is a part of the result.
func (t *talk) take() {
	if t.depth > 0 || t.text || !t.message(bytes.TrimSpace(t.line)) {
		t.keep(t.line)
	}
	t.line = t.line[:0]
}

// message acts on a line that is progress or log, and reports whether it is.
func (t *talk) message(line []byte) bool {
	if len(line) < 2 || line[0] != '{' || line[len(line)-1] != '}' {
		return false
	}
	var m struct {
		Progress *string  `json:"progress"`
		Percent  *float64 `json:"percent"`
		Log      *string  `json:"log"`
	}
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&m); err != nil || m.Progress == nil && m.Percent == nil && m.Log == nil {
		return false
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return false
	}
	if m.Log != nil {
		t.log.add(*m.Log)
	}
	if m.Progress != nil || m.Percent != nil {
		t.log.progress(m.Progress, m.Percent)
	}
	return true
}

// keep adds to the rest, and follows where it ends.
func (t *talk) keep(p []byte) {
	if room := t.limit - t.rest.Len(); len(p) > room {
		t.over = true
		p = p[:room]
	}
	t.rest.Write(p)
	for _, c := range p {
		switch {
		case t.slash:
			t.slash = false
		case t.text:
			t.text = c != '"'
			t.slash = c == '\\'
		case c == '"':
			t.text = t.depth > 0 // outside of an object it is no JSON that counts
		case c == '{' || c == '[':
			t.depth++
		case c == '}' || c == ']':
			t.depth = max(0, t.depth-1)
		}
	}
}

// result is the last of the objects that are no messages; nil if there is none.
func (t *talk) result() (any, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return nil, fmt.Errorf("it wrote more than %d bytes to its standard output", t.limit)
	}
	var res any
	for d := json.NewDecoder(&t.rest); ; {
		var one json.RawMessage
		err := d.Decode(&one)
		if errors.Is(err, io.EOF) {
			return res, nil
		}
		if err == nil {
			res, err = registry.ParseDocument(one)
		}
		if err != nil {
			return nil, fmt.Errorf("what it wrote to its standard output is no result: %w", err)
		}
	}
}

// commandLog is the job's log and progress, in the hands of a program.
type commandLog struct {
	task scheduler.Task

	mu      gosync.Mutex
	lines   int
	percent int
	words   string
}

func newCommandLog(t scheduler.Task) *commandLog { return &commandLog{task: t} }

func (l *commandLog) add(line string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch l.lines++; {
	case l.lines <= maxCommandLines:
		l.task.Log(printable(cut(line, maxCommandLine)))
	case l.lines == maxCommandLines+1:
		l.task.Log("… further lines are not kept")
	}
}

// progress keeps what is not said.
func (l *commandLog) progress(words *string, percent *float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if words != nil {
		l.words = printable(cut(*words, maxMessage))
	}
	if percent != nil {
		l.percent = int(min(100, max(0, *percent)))
	}
	l.task.Progress(l.percent, l.words)
}
