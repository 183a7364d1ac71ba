package agent

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/vagoth/vagoth/virt/mistify"
)

// undoing is the part of a job in which what its stages made is taken back. The
// job's Index is the stage whose undo is next, or runs.
type undoing struct {
	Stage string            // that failed
	Cause string            // how
	Kind  mistify.ErrorKind `json:",omitempty"`
	Tries int               `json:",omitempty"` // of this undo that failed
	Last  string            `json:",omitempty"` // how the last of them did
}

// maxCause bounds how much is kept of the error of the stage, so that what became
// of the undoing has room behind it.
const maxCause = 1024

// undoes finds the last stage up to index that has an undo; -1 if none has.
func (p *pipeline) undoes(index int) int {
	for i := min(index, len(p.stages)-1); i >= 0; i-- {
		if p.stages[i].Undo != "" {
			return i
		}
	}
	return -1
}

// now is the stage that a job is at, and how it is called; false if the config
// has none such any more.
func (p *pipeline) now(st *state) (at step, ok bool) {
	if p == nil || st.Index < 0 || st.Index >= len(p.stages) {
		return at, false
	}
	at = p.stages[st.Index]
	if st.Undo != nil {
		at.Method, at.text = at.Undo, at.undoText
	}
	return at, at.text == st.Stage
}

// failed makes next a job whose stage failed: one that takes back what was made,
// or where there is nothing to call for that, one that has ended.
func (a *Agent) failed(r *run, p *pipeline, next *state, err error) {
	first := -1
	if p != nil {
		first = p.undoes(next.Index)
	}
	if first < 0 {
		next.fail(err)
		return
	}
	next.Undo = &undoing{Stage: next.Stage, Cause: clipTo(err.Error(), maxCause), Kind: mistify.KindOf(err)}
	a.undoNext(r, p, next, first)
}

// undoNext makes the undo of a stage what is next in a job.
func (a *Agent) undoNext(r *run, p *pipeline, next *state, index int) {
	u := *next.Undo
	u.Tries, u.Last = 0, ""
	at := p.stages[index]
	next.Undo, next.Index, next.Stage = &u, index, at.undoText
	next.Status, next.Retries, next.RetryAt = mistify.JobQueued, 0, 0
	next.Message = clip("stage " + u.Stage + " failed: " + u.Cause + "; what was made is being removed")
	if r != nil && a.hold(r, next.queue(), at) {
		next.Status = mistify.JobRunning
	}
}

// afterUndo is what follows from the outcome of an undo, as after is of a stage.
func (a *Agent) afterUndo(r *run, p *pipeline, st *state, out outcome, err error) *change {
	next := *st
	next.UpdatedAt = since(a.now())
	c := &change{jobs: []*state{&next}}
	if err == nil && out.guest != nil {
		err = a.keep(c, &next, out)
	}
	if err == nil && out.retry > 0 {
		err = fmt.Errorf("it asks to be tried again: %s", out.message)
	}
	if err != nil {
		a.undoAgain(&next, err)
		return c
	}
	if below := p.undoes(st.Index - 1); below >= 0 {
		a.undoNext(r, p, &next, below)
		return c
	}
	made := next.Made
	next.undone("what had been made was removed")
	if made && a.store.guest(next.GuestID) != nil {
		a.drop(c, &next, false, errUnmade)
	}
	return c
}

var errUnmade = errors.New("the guest could not be made, and what there was of it was removed before the job's turn came")

// undoAgain makes next a job whose undo is tried again later, or given up. What
// stands below is left then: it may be in use by what could not be removed.
func (a *Agent) undoAgain(next *state, err error) {
	u := *next.Undo
	u.Tries++
	u.Last = clipTo(err.Error(), maxCause/2)
	next.Undo = &u
	if u.Tries >= a.cfg.UndoTries {
		next.undone(fmt.Sprintf("what it had made could not be removed, %s failed %d times: %s; look, and delete the guest", strings.TrimPrefix(next.Stage, undoWord), u.Tries, u.Last))
		return
	}
	wait := min(time.Second<<min(u.Tries-1, 10), a.cfg.MaxRetryWait)
	next.Status, next.Attempt, next.RetryAt = mistify.JobQueued, next.Attempt+1, a.now().Add(wait).UnixMilli()
	next.Message = clip(fmt.Sprintf("stage %s failed: %s; what was made could not be removed yet and is tried again: %s", u.Stage, u.Cause, u.Last))
}

// undone ends a job whose undoing is over.
func (st *state) undone(how string) {
	u := st.Undo
	st.end(mistify.JobError)
	st.Stage, st.Kind = u.Stage, u.Kind
	st.Message = clip(u.Cause + "; " + how)
}

// undoWord begins the name of an undo as people read it.
const undoWord = "undo of "
