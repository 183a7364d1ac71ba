package etcd

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/vagoth/vagoth/trail"
)

// maxRequest bounds what another manager sends.
const maxRequest = 256 << 20

// serve answers another manager: a value on each line, and the last line says that it
// is the last.
func (s *Scheduler) serve(w http.ResponseWriter, r *http.Request) {
	if !s.begins() {
		return
	}
	defer s.served.Done()
	out := json.NewEncoder(w)
	answer := func(v any) error {
		b, err := json.Marshal(v)
		if err != nil {
			return err
		}
		return out.Encode(item{Value: b})
	}
	flush := http.NewResponseController(w)
	send := func(v any) error {
		if err := answer(v); err != nil {
			return err
		}
		return flush.Flush()
	}
	err := s.routed(r, send, answer)
	_ = out.Encode(item{Err: newFarError(err), End: true}) // who asked finds that there is no end
}

// begins counts a request, unless the scheduler is closed.
func (s *Scheduler) begins() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.sealed {
		s.served.Add(1)
	}
	return !s.sealed
}

func (s *Scheduler) routed(r *http.Request, send, answer func(any) error) error {
	v := s.current()
	for wait := time.After(time.Second); v.office == nil && v.link == nil; v = s.current() { // it may be about to lead
		select {
		case <-v.next:
		case <-wait:
			return errGone
		case <-s.closing.Done():
			return errGone
		case <-r.Context().Done():
			return r.Context().Err()
		}
	}
	if v.office == nil || !v.office.session.valid() {
		return errGone
	}
	from := s.net.from(r, v.members)
	if from == "" { // it may have come this moment
		now, err := s.look(r.Context())
		if err != nil {
			return fmt.Errorf("%w: %w", errGone, err)
		}
		if from = s.net.from(r, now.members); from == "" {
			return fmt.Errorf("%w: who asks is none of the managers that live", errGone)
		}
		v.office.crew.seen(now.members, now.revision)
	}
	do, ok := routes()[strings.TrimPrefix(r.URL.Path, "/")]
	if !ok {
		return fmt.Errorf("there is no call %.64q: give all managers the same version", r.URL.Path)
	}
	var q request
	if err := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxRequest)).Decode(&q); err != nil {
		return fmt.Errorf("a manager asks what cannot be read: %w", err)
	}
	ctx, cancel := context.WithCancelCause(trail.With(r.Context(), q.Trail))
	defer cancel(nil)
	defer context.AfterFunc(v.office.session.alive, func() { cancel(errMaybe) })()
	if q.Caller != (ref{}) {
		ctx = v.office.engine.As(ctx, q.Caller.Job, q.Caller.Token)
	}
	err := do(asked{ctx: ctx, from: from, office: v.office, args: q.Args, send: send, answer: answer})
	if v.office.session.alive.Err() != nil && err != nil {
		return fmt.Errorf("%w: %w", errMaybe, err)
	}
	return err
}
