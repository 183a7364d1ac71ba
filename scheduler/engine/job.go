package engine

import (
	"strings"
	"time"
	"unicode/utf8"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// Bounds of what a job may say of itself.
const (
	maxLines    = 1000     // of its log
	maxLogBytes = 64 << 10 // of its log
	maxText     = 4 << 10
	maxError    = 16 << 10
	maxAttempts = 10 // that are kept of a job
)

// job is one job. A million of them may be queued, so what most of them lack
// stands behind a pointer. Strings that many share are the same string.
type job struct {
	id          string
	queue       *queue
	pack        *pack
	action      string
	params      string
	source      string
	transaction string
	after       []dependency
	dependents  []edge // those that this job's end lets go on or ends
	more        *more  // what few jobs ask for
	past        *past  // what became of it; nil before the first hand-out or end
	run         *run   // the hand-out in force

	seq       uint64 // order of submission
	place     int64  // order in its queue
	submitted int64
	prev      *job // in its queue's list, or in the history
	next      *job
	older     *job // among all that are known of its queue
	newer     *job
	timer     *timer // expiry, end of a lease or of parking
	pos       int32  // in its queue's heap of ready jobs, -1 outside
	blockers  int32  // dependencies that have not ended
	index     int32  // within its package
	attempt   uint32 // of the last hand-out
	failed    uint32
	lost      uint32
	gen       uint32 // of the last snapshot that has it
	state     state
	gap       uint8 // hand-outs that a crash may have made unrecorded
	urgent    bool
	keep      bool // an urgent job that supersedes nothing
	remote    bool // only workers outside get it
	mine      bool // submitted or retried through this handle
	moved     bool // a retry has put it where it stands
	pending   bool // a record about it is being written
}

// dependency is what a job waits for, edge the same seen from the other end.
type dependency struct {
	id     string
	seq    uint64
	accept accept
	met    bool // it has ended in a way that lets the job go on, or is forgotten
}

type edge struct {
	job    *job
	accept accept
	at     uint16 // in the job's dependencies
}

// more is what few jobs ask for.
type more struct {
	timeout time.Duration
	expires int64 // 0 is never
	retry   scheduler.Retry
	limits  []string
	key     string
	reason  string
	cancel  string // why it is being cancelled, while it runs
}

// past is what became of a job.
type past struct {
	attempts []attempt
	started  int64
	ended    int64
	parked   int64
	order    uint64 // among those that have ended
	token    trail.Token
	said     uint64 // hash of the completion that ended the last attempt
	identity string // who took it, empty for somebody of this machine

	ready int64         // when its next attempt may begin, by the wall clock
	delay time.Duration // the backoff that ends then

	percent  int
	progress string
	result   string
	errText  string
	code     string
	cause    string
	skipped  bool // its dependents go on

	lines    []line
	logBytes int
	logCount int   // lines that it ever had
	err      error // the action's own, while the process remembers it
}

type attempt struct {
	number  uint32
	token   trail.Token
	worker  string
	began   int64
	ended   int64
	outcome string
}

type line struct {
	at      int64
	attempt uint32
	text    string
}

// state is a scheduler.State in one byte.
type state uint8

const (
	waiting state = iota
	running
	parked
	succeeded
	failed
	cancelled
	expired
)

func (s state) ended() bool { return s >= succeeded }

func (s state) word() scheduler.State {
	switch s {
	case running:
		return scheduler.Running
	case parked:
		return scheduler.Parked
	case succeeded:
		return scheduler.Succeeded
	case failed:
		return scheduler.Failed
	case cancelled:
		return scheduler.Cancelled
	case expired:
		return scheduler.Expired
	}
	return scheduler.Waiting
}

// accept is the set of ends that let a dependent go on, a bit for each.
type accept uint8

func acceptOf(list []scheduler.State) accept {
	if len(list) == 0 {
		return 1 << succeeded
	}
	var a accept
	for _, w := range list {
		for s := succeeded; s <= expired; s++ {
			if s.word() == w {
				a |= 1 << s
			}
		}
	}
	return a
}

func (a accept) takes(j *job) bool {
	return a&(1<<j.state) != 0 || j.past != nil && j.past.skipped
}

func (a accept) list() []scheduler.State {
	if a == 1<<succeeded {
		return nil
	}
	var list []scheduler.State
	for s := succeeded; s <= expired; s++ {
		if a&(1<<s) != 0 {
			list = append(list, s.word())
		}
	}
	return list
}

func (j *job) history() *past {
	if j.past == nil {
		j.past = &past{}
	}
	return j.past
}

func (j *job) wants() *more {
	if j.more == nil {
		j.more = &more{}
	}
	return j.more
}

func (j *job) limits() []string {
	if j.more == nil {
		return nil
	}
	return j.more.limits
}

func (j *job) retry() scheduler.Retry {
	if j.more == nil {
		return scheduler.Retry{}
	}
	return j.more.retry
}

func (j *job) expires() int64 {
	if j.more == nil {
		return 0
	}
	return j.more.expires
}

func (j *job) timeout() time.Duration {
	if j.more == nil {
		return 0
	}
	return j.more.timeout
}

// cancelling is why the job is to stop, empty if it is not.
func (j *job) cancelling() string {
	if j.more == nil {
		return ""
	}
	return j.more.cancel
}

// ready reports whether nothing but its turn keeps the job.
func (j *job) ready() bool { return j.state == waiting && j.blockers == 0 }

// call is the job as its submitter wants it.
func (j *job) call() scheduler.Job {
	c := scheduler.Job{
		ID: j.id, Queue: j.queue.name, Action: j.action, Params: registry.TrustedDocument(j.params),
		Urgent: j.urgent, KeepQueued: j.keep,
		Trail: trail.Trail{Transaction: j.transaction, Source: j.source},
	}
	if len(j.after) > 0 {
		c.After = make([]scheduler.Dependency, len(j.after))
		for i, d := range j.after {
			c.After[i] = scheduler.Dependency{ID: d.id, Accept: d.accept.list()}
		}
	}
	if m := j.more; m != nil {
		c.Timeout, c.Expires, c.Retry, c.Limits, c.Key, c.Trail.Reason = scheduler.Span(m.timeout), moment(m.expires), m.retry, m.limits, m.key, m.reason
	}
	return c
}

// moment is a time that is kept in nanoseconds; 0 is none.
func moment(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns)
}

// nanos keeps a time; what is too far away is as far as can be said.
func nanos(t time.Time) int64 {
	switch {
	case t.IsZero():
		return 0
	case t.Year() >= 2262:
		return 1<<63 - 1
	case t.Year() <= 1970:
		return 1
	}
	return t.UnixNano()
}

// cut shortens a text that somebody else has written.
func cut(s string, limit int) string {
	if len(s) > limit {
		s = s[:limit] + "…"
	}
	if !utf8.ValidString(s) {
		s = strings.ToValidUTF8(s, "\uFFFD")
	}
	return s
}
