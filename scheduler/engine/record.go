package engine

import (
	"fmt"
	"time"

	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// record is one line of the log: what happened, with everything that was decided
// in it (times, random delays, who was superseded), so that replaying it needs
// neither configuration nor clock.
type record interface {
	kind() kind
	put(e *enc)
	get(d *dec)
	// apply changes the memory. An error says that the record does not fit what
	// is there, which only a mistake in the program or in the store can cause.
	apply(c *core) error
}

// format is the version of the records.
const format = 1

type kind byte

const (
	kindOpened kind = iota + 1
	kindClosed
	kindSubmitted
	kindHanded
	kindSettled
	kindStopping
	kindRetried
	kindMode
	kindLines
	kindBuilt
	kindAdded
	kindDiscarded
	kindBundle // several of the others, each after its length
	kindRetired
)

func newRecord(k kind) (record, error) {
	switch k {
	case kindOpened:
		return &opened{}, nil
	case kindClosed:
		return &closed{}, nil
	case kindSubmitted:
		return &submitted{}, nil
	case kindHanded:
		return &handed{}, nil
	case kindSettled:
		return &settled{}, nil
	case kindStopping:
		return &stopping{}, nil
	case kindRetried:
		return &retried{}, nil
	case kindMode:
		return &moded{}, nil
	case kindLines:
		return &lines{}, nil
	case kindBuilt:
		return &built{}, nil
	case kindAdded:
		return &added{}, nil
	case kindDiscarded:
		return &discarded{}, nil
	case kindRetired:
		return &retired{}, nil
	}
	return nil, fmt.Errorf("its kind %d is unknown: a newer program has written it", k)
}

func encode(e *enc, r record) {
	e.byte(format)
	e.byte(byte(r.kind()))
	r.put(e)
}

func decode(d *dec) (record, error) {
	if f := d.byte(); d.err == nil && f != format {
		return nil, fmt.Errorf("its format is %d, this program reads %d: a newer program has written it", f, format)
	}
	k := kind(d.byte())
	if d.err != nil {
		return nil, d.err
	}
	r, err := newRecord(k)
	if err != nil {
		return nil, err
	}
	r.get(d)
	return r, d.end()
}

// unbundle calls f with the record, or with each of those that it bundles.
func unbundle(rec []byte, f func([]byte) error) error {
	if len(rec) < 2 || rec[0] != format || kind(rec[1]) != kindBundle {
		return f(rec)
	}
	for d := (&dec{b: rec[2:]}); len(d.b) > 0; {
		one := d.bytes()
		if d.err != nil {
			return d.err
		}
		if err := f(one); err != nil {
			return err
		}
	}
	return nil
}

// opened begins an epoch.
type opened struct {
	store string
	epoch uint64
	at    int64
	kept  []string // members of the crew whose attempts go on; only written if there are some
}

func (r *opened) kind() kind { return kindOpened }

func (r *opened) put(e *enc) {
	e.s(r.store)
	e.u(r.epoch)
	e.i(r.at)
	if len(r.kept) > 0 {
		e.u(uint64(len(r.kept)))
		for _, name := range r.kept {
			e.s(name)
		}
	}
}

func (r *opened) get(d *dec) {
	r.store, r.epoch, r.at = d.s(), d.u(), d.i()
	if d.more() {
		r.kept = make([]string, d.count())
		for i := range r.kept {
			r.kept[i] = d.s()
		}
	}
}

// closed ends an epoch in good order.
type closed struct {
	at     int64
	drafts int64 // bytes of the file of the packages that are being built; 0: there is none
}

func (r *closed) kind() kind { return kindClosed }
func (r *closed) put(e *enc) { e.i(r.at); e.i(r.drafts) }
func (r *closed) get(d *dec) {
	r.at = d.i()
	if d.more() {
		r.drafts = d.i()
	}
}

// retired says where the jobs went on, or with nothing that they go on here after all.
type retired struct{ to string }

func (r *retired) kind() kind { return kindRetired }
func (r *retired) put(e *enc) { e.s(r.to) }
func (r *retired) get(d *dec) { r.to = d.s() }

func (r *retired) apply(c *core) error {
	c.retired = r.to
	return nil
}

// submitted is a package, all of it.
type submitted struct {
	pack    string
	at      int64
	created int64
	base    uint64 // the number of its first job
	jobs    []scheduler.Job
	deps    [][]uint64 // the numbers of what each depends on
	over    []overtaken
	mine    bool   // not written, as it concerns this process alone
	taken   []*job // not written: what was made of it
}

// overtaken is a job that lost its sense since an urgent one overtook it.
type overtaken struct{ victim, by uint64 }

func (r *submitted) kind() kind { return kindSubmitted }

func (r *submitted) put(e *enc) {
	e.s(r.pack)
	e.i(r.at)
	e.i(r.created)
	e.u(r.base)
	putJobs(e, r.jobs)
	for i := range r.jobs {
		for _, seq := range r.deps[i] {
			e.u(seq)
		}
	}
	e.u(uint64(len(r.over)))
	for _, o := range r.over {
		e.u(o.victim)
		e.u(o.by)
	}
}

func (r *submitted) get(d *dec) {
	r.pack, r.at, r.created, r.base = d.s(), d.i(), d.i(), d.u()
	r.jobs = getJobs(d)
	r.deps = make([][]uint64, len(r.jobs))
	for i := range r.jobs {
		if n := len(r.jobs[i].After); n > 0 {
			r.deps[i] = make([]uint64, n)
			for k := range r.deps[i] {
				r.deps[i][k] = d.u()
			}
		}
	}
	r.over = make([]overtaken, d.count())
	for i := range r.over {
		r.over[i] = overtaken{d.u(), d.u()}
	}
}

// handed is a hand-out. It is applied before it is written, so applying it again
// changes nothing.
type handed struct {
	seq     uint64
	number  uint64 // of the token
	attempt uint32
	at      int64
	worker  string
	remote  bool
	length  time.Duration

	identity string // who took it; only written if there is one
}

func (r *handed) kind() kind { return kindHanded }

func (r *handed) put(e *enc) {
	e.u(r.seq)
	e.u(r.number)
	e.u(uint64(r.attempt))
	e.i(r.at)
	e.s(r.worker)
	e.bool(r.remote)
	e.i(int64(r.length))
	if r.identity != "" {
		e.s(r.identity)
	}
}

func (r *handed) get(d *dec) {
	r.seq, r.number, r.attempt, r.at = d.u(), d.u(), uint32(d.small(1<<32-1, "an attempt")), d.i()
	r.worker, r.remote, r.length = d.word(), d.bool(), time.Duration(d.i())
	if d.more() {
		r.identity = d.word()
	}
}

// how an attempt, or a job that waits, comes to rest.
type how uint8

const (
	howEnds  how = iota // as state says
	howFails            // and begins again later
	howLost             // without an answer; it begins again
	howBack             // handed back; it begins again
	howParks
)

// settled is the end of an attempt or of a job.
type settled struct {
	seq      uint64
	at       int64
	how      how
	state    state // of howEnds
	err      string
	code     string
	cause    string
	result   string
	said     uint64
	ready    int64 // of howFails: when it begins again
	delay    time.Duration
	percent  int
	progress string
	skipped  bool
	failed   bool   // the attempt failed
	lost     bool   // the attempt ended without an answer
	maybe    bool   // nothing if the job has ended already, by another record of the same command
	note     string // a line for the job's log

	goErr error // not written
}

func (r *settled) kind() kind { return kindSettled }

func (r *settled) put(e *enc) {
	e.u(r.seq)
	e.i(r.at)
	e.byte(byte(r.how))
	e.byte(byte(r.state))
	e.s(r.err)
	e.s(r.code)
	e.s(r.cause)
	e.s(r.result)
	e.u(r.said)
	e.i(r.ready)
	e.i(int64(r.delay))
	e.u(uint64(r.percent))
	e.s(r.progress)
	e.bool(r.skipped)
	e.bool(r.failed)
	e.bool(r.lost)
	e.bool(r.maybe)
	e.s(r.note)
}

func (r *settled) get(d *dec) {
	r.seq, r.at, r.how, r.state = d.u(), d.i(), how(d.byte()), state(d.byte())
	r.err, r.code, r.cause, r.result = d.s(), d.word(), d.s(), d.s()
	r.said, r.ready, r.delay = d.u(), d.i(), time.Duration(d.i())
	r.percent, r.progress, r.skipped, r.failed, r.lost, r.maybe, r.note = int(d.small(100, "a percentage")), d.s(), d.bool(), d.bool(), d.bool(), d.bool(), d.s()
	if r.how > howParks || r.state > expired {
		d.fail(fmt.Errorf("an end %d, %d that is none", r.how, r.state))
	}
}

// stopping asks a job that runs to end.
type stopping struct {
	seq uint64
	why string
}

func (r *stopping) kind() kind { return kindStopping }
func (r *stopping) put(e *enc) { e.u(r.seq); e.s(r.why) }
func (r *stopping) get(d *dec) { r.seq, r.why = d.u(), d.s() }

// retried gives jobs another round.
type retried struct {
	seqs []uint64
	note string
	at   int64
	mine bool // not written, as it concerns this process alone
}

func (r *retried) kind() kind { return kindRetried }

func (r *retried) put(e *enc) {
	e.u(uint64(len(r.seqs)))
	for _, s := range r.seqs {
		e.u(s)
	}
	e.s(r.note)
	e.i(r.at)
}

func (r *retried) get(d *dec) {
	r.seqs = make([]uint64, d.count())
	for i := range r.seqs {
		r.seqs[i] = d.u()
	}
	r.note, r.at = d.s(), d.i()
}

// moded is what an operator made of a queue.
type moded struct {
	queue, mode, reason string
}

func (r *moded) kind() kind { return kindMode }
func (r *moded) put(e *enc) { e.s(r.queue); e.s(r.mode); e.s(r.reason) }

func (r *moded) get(d *dec) {
	r.queue, r.mode, r.reason = d.word(), d.word(), d.s()
	switch scheduler.QueueMode(r.mode) {
	case scheduler.Open, scheduler.Paused, scheduler.Draining:
	default:
		d.fail(fmt.Errorf("a mode %.32q of a queue", r.mode))
	}
}

// lines are for a job's log. They are applied before they are written; first
// says which they are, so that applying them again changes nothing.
type lines struct {
	seq   uint64
	first int
	list  []line
}

func (r *lines) kind() kind { return kindLines }

func (r *lines) put(e *enc) {
	e.u(r.seq)
	e.u(uint64(r.first))
	putLines(e, r.list)
}

func (r *lines) get(d *dec) {
	r.seq, r.first, r.list = d.u(), int(d.small(1<<40, "a number of lines")), getLines(d)
}

func putLines(e *enc, list []line) {
	e.u(uint64(len(list)))
	for _, l := range list {
		e.i(l.at)
		e.u(uint64(l.attempt))
		e.s(l.text)
	}
}

func getLines(d *dec) []line {
	list := make([]line, d.count())
	for i := range list {
		list[i] = line{at: d.i(), attempt: uint32(d.u()), text: d.s()}
	}
	return list
}

// built is a package that is made step by step.
type built struct {
	pack    string
	at      int64
	expires int64
	trail   trail.Trail
	jobs    []scheduler.Job
}

func (r *built) kind() kind { return kindBuilt }

func (r *built) put(e *enc) {
	e.s(r.pack)
	e.i(r.at)
	e.i(r.expires)
	e.s(r.trail.Transaction)
	e.s(r.trail.Source)
	e.s(r.trail.Reason)
	putJobs(e, r.jobs)
}

func (r *built) get(d *dec) {
	r.pack, r.at, r.expires = d.s(), d.i(), d.i()
	r.trail = trail.Trail{Transaction: d.s(), Source: d.word(), Reason: d.s()}
	r.jobs = getJobs(d)
}

// added are more jobs of such a package.
type added struct {
	pack string
	jobs []scheduler.Job
}

func (r *added) kind() kind { return kindAdded }
func (r *added) put(e *enc) { e.s(r.pack); putJobs(e, r.jobs) }
func (r *added) get(d *dec) { r.pack, r.jobs = d.s(), getJobs(d) }

// discarded is the end of a package that was never enqueued.
type discarded struct{ pack string }

func (r *discarded) kind() kind { return kindDiscarded }
func (r *discarded) put(e *enc) { e.s(r.pack) }
func (r *discarded) get(d *dec) { r.pack = d.s() }
