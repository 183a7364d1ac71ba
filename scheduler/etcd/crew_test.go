package etcd

import (
	"context"
	"errors"
	"iter"
	"log/slog"
	"net"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/vagoth/vagoth/internal/journal"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/scheduler/engine"
)

// heldLog keeps nothing, and writes when it may.
type heldLog struct {
	turn chan struct{} // has room for one: who has it writes
	n    uint64
}

func (l *heldLog) AppendBatch(_ context.Context, records [][]byte) (uint64, error) {
	<-l.turn
	defer func() { l.turn <- struct{}{} }()
	l.n += uint64(len(records))
	return l.n, nil
}

func (l *heldLog) WriteSnapshot(context.Context, uint64, iter.Seq2[[]byte, error]) error { return nil }
func (l *heldLog) Stats() journal.Stats                                                  { return journal.Stats{} }
func (l *heldLog) Close() error                                                          { return nil }

// An answer is acknowledged when the log has it, and not before: whoever gave it keeps it
// for the next leader until then.
func TestAnswerWaitsForTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		alive, end := context.WithCancelCause(t.Context())
		v := &session{name: "leader", alive: alive, end: end}
		c := newCrew(&Scheduler{closing: t.Context(), log: slog.New(slog.DiscardHandler)}, v, map[string]member{"m": {Name: "m"}})
		l := &heldLog{turn: make(chan struct{}, 1)}
		l.turn <- struct{}{}
		deps := scheduler.Deps{Actions: map[string]scheduler.Action{"do": {Run: func(context.Context, scheduler.Task) (any, error) { return nil, nil }}}}
		e, err := engine.Open(t.Context(), Defaults().Queueing, deps, engine.Ground{Crew: c, Open: func(context.Context, journal.Loader) (engine.Log, error) { return l, nil }})
		if err != nil {
			t.Fatal(err)
		}
		c.take(e)
		orders := make(chan order, 1)
		joined, leave := context.WithCancel(t.Context())
		var work sync.WaitGroup
		work.Go(func() {
			_ = c.join(joined, "m", false, nil, func(o order) error { orders <- o; return nil })
		})
		if _, err := e.Submit(t.Context(), scheduler.Package{Jobs: []scheduler.Job{{ID: "a", Queue: "q", Action: "do"}}}); err != nil {
			t.Fatal(err)
		}
		o := <-orders
		<-l.turn
		heard := make(chan error, 1)
		work.Go(func() { heard <- c.answered(t.Context(), "m", o.Ref, &answer{}) })
		synctest.Wait()
		if len(heard) > 0 {
			t.Error("it was acknowledged before it was written")
		}
		l.turn <- struct{}{}
		if err := <-heard; err != nil {
			t.Error(err)
		}
		if st, err := e.Status(t.Context(), "a"); err != nil || st.State != scheduler.Succeeded {
			t.Errorf("it is %+v, %v", st, err)
		}
		leave()
		work.Wait()
		if err := e.Close(); err != nil {
			t.Error(err)
		}
		end(nil)
		c.driving.Wait()
	})
}

// A manager whose Run ends while nobody leads has a last word for the next leader: it has
// nothing. So what it was meant to get is given back, and not lost.
func TestLastWord(t *testing.T) {
	n, err := newTLS(Defaults())
	if err != nil {
		t.Fatal(err)
	}
	alive, end := context.WithCancelCause(t.Context())
	defer end(nil)
	v := &session{name: "m", alive: alive, end: end}
	s := &Scheduler{cfg: Defaults(), net: n, closing: t.Context(), log: slog.New(slog.DiscardHandler)}
	s.worker = newWorker(s)
	s.view = &view{session: v, next: make(chan struct{})}
	dead, err := net.Listen("tcp", "127.0.0.1:0") // who leads, and does not answer
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = dead.Close() }()
	s.show(&view{session: v, leader: member{Name: "dead", Address: dead.Addr().String()}})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Run(ctx, scheduler.RunOptions{}) }()
	asked, err := dead.Accept() // to join
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	_ = errors.Join(asked.Close(), dead.Close()) // it is gone
	c := newCrew(s, v, map[string]member{"m": {Name: "m"}})
	s.show(&view{session: v, leader: member{Name: "m"}, office: &office{session: v, crew: c}})
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := c.hands["m"]; h == nil || !h.joined || h.active {
		t.Errorf("the next leader knows of it: %+v", h)
	}
}
