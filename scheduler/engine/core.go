package engine

import (
	"fmt"

	"github.com/vagoth/vagoth/scheduler"
)

// core is all that is on disk, in memory: jobs, queues, packages. It is changed
// by records only, and by nothing that is not in them, so that replaying the log
// gives the same core. It knows no clock, no worker and no configuration but
// what a queue's own section says.
type core struct {
	cfg *settings

	store  string // names the store, for cursors
	epoch  uint64 // rises whenever the store is opened
	number uint64 // of the last token in it
	seq    uint64 // of the last job
	order  uint64 // of the last end
	clean  bool   // nothing happened after the last Close

	retired     string // where its jobs were copied to, and go on
	draftsApart bool   // packages that are being built are no business of the log
	drafts      int64  // bytes of their file at the last Close

	jobs   map[string]*job
	table  table
	queues map[string]*queue
	modes  map[string]*queue // those of which an operator has set a mode
	packs  packs
	keys   map[key]*job
	stones stones  // keys whose jobs are forgotten
	ended  jobList // the history, oldest end first
	weight int64   // of it: bytes that results and logs take
	count  [expired + 1]int
	block  *int // jobs that wait for a dependency
	words  map[string]string
	remote func(action string, q *queue) bool // by configuration: only workers outside get such jobs

	since  counters
	moving *moving // a snapshot that is being written
	gen    uint32

	live    bool     // what follows is wanted
	changed []*job   // whose state changed
	dirty   []*queue // that may have something for a worker now, or no more

	released []release // attempts that are over
}

// release is an attempt that is over.
type release struct {
	job *job
	run *run
}

// key is an idempotency key, scoped to who uses it.
type key struct{ source, key string }

type counters struct {
	submitted, handed, lost uint64
	ended                   [expired + 1]uint64
}

func newCore(cfg *settings, remote func(action string, q *queue) bool) *core {
	return &core{
		cfg: cfg, remote: remote, clean: true, block: new(int), words: map[string]string{},
		jobs: map[string]*job{}, queues: map[string]*queue{}, modes: map[string]*queue{}, keys: map[key]*job{},
		packs: packs{byID: map[string]*pack{}, reserved: map[string]*pack{}}, stones: stones{byKey: map[key]*stone{}},
	}
}

// line puts a job, which is the newest, into the row of its queue: all jobs that
// are known of it, also those that have ended, in the order submitted.
func (q *queue) line(j *job) {
	if j.older = q.newest; j.older != nil {
		j.older.newer = j
	}
	q.newest = j
}

func (q *queue) unline(j *job) {
	if j.newer == nil {
		q.newest = j.older
	} else {
		j.newer.older = j.older
	}
	if j.older != nil {
		j.older.newer = j.newer
	}
	j.older, j.newer = nil, nil
}

// jobList is a list of jobs by their own links.
type jobList struct {
	first, last *job
	n           int
}

func (l *jobList) add(j *job) {
	j.prev = l.last
	if l.last == nil {
		l.first = j
	} else {
		l.last.next = j
	}
	l.last = j
	l.n++
}

func (l *jobList) remove(j *job) {
	if j.prev == nil {
		l.first = j.next
	} else {
		j.prev.next = j.next
	}
	if j.next == nil {
		l.last = j.prev
	} else {
		j.next.prev = j.prev
	}
	j.prev, j.next = nil, nil
	l.n--
}

// maxWords bounds the strings that are kept once for all.
const maxWords = 1 << 16

// word gives the one copy of a string that occurs often.
func (c *core) word(s string) string {
	if w, ok := c.words[s]; ok {
		return w
	}
	if len(c.words) >= maxWords {
		clear(c.words) // the ones in use are found again soon
	}
	c.words[s] = s
	return s
}

func (c *core) wordOf(b []byte) string {
	if w, ok := c.words[string(b)]; ok {
		return w
	}
	return c.word(string(b))
}

// queue returns the queue of a name, which need not have been there.
func (c *core) queue(name string) *queue {
	if q := c.queues[name]; q != nil {
		return q
	}
	name = c.word(name)
	q := &queue{name: name, cfg: c.cfg.queue(name), blockedAll: c.block, lane: -1, byHead: -1, busy: -1}
	q.bucket.rate = scheduler.Rate(q.cfg.Rate)
	c.queues[name] = q
	return q
}

// tidy forgets a queue of which nothing is to be remembered.
func (c *core) tidy(q *queue, now int64) {
	if q.idle() && q.newest == nil && !q.dirty && q.bucket.idle(now) && c.queues[q.name] == q {
		delete(c.queues, q.name)
	}
}

func (c *core) touchQueue(q *queue) {
	if c.live && !q.dirty {
		q.dirty = true
		c.dirty = append(c.dirty, q)
	}
}

// setMode is what an operator, or a snapshot, says of a queue.
func (c *core) setMode(q *queue, mode scheduler.QueueMode, reason string) {
	q.mode, q.reason = mode, reason
	if mode == "" {
		delete(c.modes, q.name)
	} else {
		c.modes[q.name] = q
	}
}

// touch is called before a job changes, so that a snapshot of the state before
// has it as it was.
func (c *core) touch(j *job) {
	if c.moving != nil && j.gen != c.gen {
		c.moving.save(c, j)
	}
}

func (c *core) change(j *job) {
	if c.live {
		c.changed = append(c.changed, j)
	}
}

func (c *core) setState(j *job, s state) {
	c.count[j.state]--
	c.count[s]++
	j.state = s
}

// taken reports whether an ID is that of a job, or kept for one of another
// package than the given.
func (c *core) taken(id string, but *pack) bool {
	p := c.packs.reserved[id]
	return c.jobs[id] != nil || p != nil && p != but
}

// find gives the job of a record.
func (c *core) find(seq uint64) (*job, error) {
	if j := c.table.get(seq); j != nil {
		return j, nil
	}
	return nil, fmt.Errorf("it speaks of job %d, which is not there", seq)
}

// misfit is a record that does not fit the state of its job.
func misfit(j *job, what string) error {
	return fmt.Errorf("it %s job %d (%s), which is %s", what, j.seq, j.id, j.state.word())
}
