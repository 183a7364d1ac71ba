package engine

import (
	"errors"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// What a job has besides queue, action and parameters, in one byte.
const (
	hasUrgent = 1 << iota
	hasKeep
	hasTimes // timeout, expiry
	hasRetry
	hasLimits
	hasKey
	hasTrail // of its own; else that of the job before
	hasID    // else the one before, which nobody writes
)

func putJobs(e *enc, jobs []scheduler.Job) {
	e.u(uint64(len(jobs)))
	var before trail.Trail
	for i := range jobs {
		putJob(e, &jobs[i], before)
		before = jobs[i].Trail
	}
}

func putJob(e *enc, j *scheduler.Job, before trail.Trail) {
	has := byte(hasID)
	flag := func(is bool, f byte) {
		if is {
			has |= f
		}
	}
	flag(j.Urgent, hasUrgent)
	flag(j.KeepQueued, hasKeep)
	flag(j.Timeout != 0 || !j.Expires.IsZero(), hasTimes)
	flag(j.Retry != scheduler.Retry{}, hasRetry)
	flag(len(j.Limits) > 0, hasLimits)
	flag(j.Key != "", hasKey)
	flag(j.Trail != before, hasTrail)
	e.byte(has)
	e.s(j.ID)
	e.s(j.Queue)
	e.s(j.Action)
	if j.Params.IsEmpty() {
		e.s("")
	} else {
		e.s(j.Params.String())
	}
	e.u(uint64(len(j.After)))
	for _, d := range j.After {
		e.s(d.ID)
		e.byte(byte(acceptOf(d.Accept)))
	}
	if has&hasTimes != 0 {
		e.i(int64(j.Timeout))
		e.i(nanos(j.Expires))
	}
	if has&hasRetry != 0 {
		e.u(uint64(j.Retry.Attempts))
		e.i(int64(j.Retry.Backoff))
		e.i(int64(j.Retry.Max))
		e.f(j.Retry.Jitter)
		e.bool(j.Retry.Park)
	}
	if has&hasLimits != 0 {
		e.u(uint64(len(j.Limits)))
		for _, l := range j.Limits {
			e.s(l)
		}
	}
	if has&hasKey != 0 {
		e.s(j.Key)
	}
	if has&hasTrail != 0 {
		e.s(j.Trail.Transaction)
		e.s(j.Trail.Source)
		e.s(j.Trail.Reason)
	}
}

func getJobs(d *dec) []scheduler.Job {
	jobs := make([]scheduler.Job, d.count())
	var before trail.Trail
	for i := range jobs {
		getJob(d, &jobs[i], before)
		before = jobs[i].Trail
	}
	return jobs
}

func getJob(d *dec, j *scheduler.Job, before trail.Trail) {
	has := d.byte()
	if d.err == nil && has&hasID == 0 {
		d.fail(errors.New("a job without its beginning"))
		return
	}
	j.Urgent, j.KeepQueued, j.Trail = has&hasUrgent != 0, has&hasKeep != 0, before
	j.ID, j.Queue, j.Action = d.s(), d.word(), d.word()
	if p := d.s(); p != "" {
		j.Params = registry.TrustedDocument(p)
	}
	if n := d.count(); n > 0 {
		j.After = make([]scheduler.Dependency, n)
		for i := range j.After {
			j.After[i] = scheduler.Dependency{ID: d.s(), Accept: accept(d.byte()).list()}
		}
	}
	if has&hasTimes != 0 {
		j.Timeout, j.Expires = scheduler.Span(d.i()), moment(d.i())
	}
	if has&hasRetry != 0 {
		j.Retry = scheduler.Retry{Attempts: int(d.small(1<<31, "a number of attempts")), Backoff: scheduler.Span(d.i()), Max: scheduler.Span(d.i()), Jitter: d.f(), Park: d.bool()}
	}
	if has&hasLimits != 0 {
		j.Limits = make([]string, d.count())
		for i := range j.Limits {
			j.Limits[i] = d.word()
		}
	}
	if has&hasKey != 0 {
		j.Key = d.s()
	}
	if has&hasTrail != 0 {
		j.Trail = trail.Trail{Transaction: d.s(), Source: d.word(), Reason: d.s()}
	}
}
