package manager_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/monitor"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
)

func count(lines []string, line string) (n int) {
	for _, l := range lines {
		if l == line {
			n++
		}
	}
	return n
}

// The monitor is opened once and closed last; each round opens the rest and
// closes it again before the report is told.
func TestLoopRounds(t *testing.T) {
	l := newLedger()
	s := read(t, fakeMenu(l), full)
	var clusters []virt.Cluster
	transactions := map[string]bool{}
	l.poll = func(ctx context.Context, c virt.Cluster, jobs scheduler.Inspector) (monitor.Report, error) {
		l.note("poll")
		if p := c.Parts(); p.Registry == nil || len(p.Drivers) != 2 {
			t.Errorf("the parts of a round: %+v", p)
		}
		if _, err := jobs.Status(ctx, "x"); !errors.Is(err, scheduler.ErrNotFound) {
			t.Errorf("the inspector of a round: %v", err)
		}
		if q, ok := jobs.(interface {
			Queue(context.Context, string) (scheduler.QueueStatus, error)
		}); !ok {
			t.Error("a round cannot ask for a queue")
		} else if _, err := q.Queue(ctx, "x"); !errors.Is(err, scheduler.ErrUnsupported) {
			t.Errorf("the queue of a scheduler that does not tell: %v", err)
		}
		tr := trail.From(ctx)
		if tr.Source != "me" || tr.Reason != "to see" {
			t.Errorf("the trail of a round: %+v", tr)
		}
		transactions[tr.Transaction] = true
		clusters = append(clusters, c)
		return monitor.Report{Written: len(clusters)}, nil
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(trail.With(context.Background(), trail.New("me", "to see")))
		defer cancel()
		began, told := time.Now(), 0
		err := manager.Loop(ctx, s, manager.Options{}, 10*time.Second, func(r monitor.Report, err error) {
			told++
			if err != nil || r.Written != told {
				t.Errorf("round %d: %+v, %v", told, r, err)
			}
			if lines := l.all(); lines[len(lines)-1] != "close registry" {
				t.Errorf("the round was told of before it was closed: %q", lines)
			}
			if told == 3 {
				cancel()
			}
		})
		if err != nil || told != 3 {
			t.Errorf("%d rounds, %v", told, err)
		}
		if took := time.Since(began); took != 20*time.Second {
			t.Errorf("three rounds took %s", took)
		}
	})
	lines := l.all()
	if lines[0] != "open monitor" || lines[len(lines)-1] != "close monitor" || count(lines, "open monitor") != 1 {
		t.Errorf("the monitor was not opened once for all: %q", lines)
	}
	if count(lines, "open registry") != 3 || count(lines, "close registry") != 3 || count(lines, "poll") != 3 || len(transactions) != 3 {
		t.Errorf("the rounds: %q, transactions %v", lines, transactions)
	}
}

// A round that fails is told, and the loop goes on.
func TestLoopGoesOn(t *testing.T) {
	l := newLedger()
	s := read(t, fakeMenu(l), "")
	full, dead := errors.New("disk full"), errors.New("dead")
	round := 0
	l.poll = func(context.Context, virt.Cluster, scheduler.Inspector) (monitor.Report, error) {
		if round == 1 {
			return monitor.Report{Written: 7}, dead
		}
		return monitor.Report{}, nil
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		var got []string
		err := manager.Loop(ctx, s, manager.Options{}, time.Second, func(r monitor.Report, err error) {
			got = append(got, fmt.Sprint(r.Written, " ", err))
			round++
			l.failOpen["registry"], l.failClose["registry"] = nil, nil
			switch round {
			case 2:
				l.failOpen["registry"] = full
			case 3:
				l.failClose["registry"] = full
			case 5:
				cancel()
			}
		})
		want := []string{"0 <nil>", "7 dead", "0 cannot open registry memory: disk full", "0 cannot close registry: disk full", "0 <nil>"}
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("got %q, %v, want %q", got, err, want)
		}
	})
}

// Rounds never overlap, and one that takes longer than the time between two
// leaves a gap in which others get the lock.
func TestLoopLongRounds(t *testing.T) {
	l := newLedger()
	s := read(t, fakeMenu(l), "")
	running := false
	l.poll = func(ctx context.Context, _ virt.Cluster, _ scheduler.Inspector) (monitor.Report, error) {
		if running {
			t.Error("two rounds overlap")
		}
		running = true
		time.Sleep(25 * time.Second) // in the bubble's time
		running = false
		return monitor.Report{}, nil
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(context.Background())
		defer cancel()
		var ends []time.Time
		err := manager.Loop(ctx, s, manager.Options{}, 10*time.Second, func(monitor.Report, error) {
			if ends = append(ends, time.Now()); len(ends) == 3 {
				cancel()
			}
		})
		if err != nil {
			t.Error(err)
		}
		for i, e := range ends[1:] {
			if gap := e.Sub(ends[i]) - 25*time.Second; gap < 100*time.Millisecond || gap > time.Second {
				t.Errorf("the data directory was free for %s", gap)
			}
		}
	})
}

// ctx ends a loop between two rounds, and during one, which is then no failure.
func TestLoopEnds(t *testing.T) {
	for _, when := range []time.Duration{0, 5 * time.Second, 15 * time.Second} {
		l := newLedger()
		s := read(t, fakeMenu(l), "")
		polls := 0
		l.poll = func(ctx context.Context, _ virt.Cluster, _ scheduler.Inspector) (monitor.Report, error) {
			if polls++; polls == 1 {
				return monitor.Report{}, nil
			}
			<-ctx.Done()
			return monitor.Report{}, fmt.Errorf("given up: %w", ctx.Err())
		}
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(context.Background(), when)
			defer cancel()
			began := time.Now()
			err := manager.Loop(ctx, s, manager.Options{}, 10*time.Second, func(_ monitor.Report, err error) {
				if err != nil {
					t.Errorf("after %s: %v", when, err)
				}
			})
			if took := time.Since(began); err != nil || took != when {
				t.Errorf("the loop ended after %s with %v, want %s", took, err, when)
			}
		})
		if lines := l.all(); lines[len(lines)-1] != "close monitor" || count(lines, "open registry") != count(lines, "close registry") {
			t.Errorf("not all was closed: %q", lines)
		}
	}
}

func TestLoopRefuses(t *testing.T) {
	l := newLedger()
	s := read(t, fakeMenu(l), "")
	never := func(monitor.Report, error) { t.Error("a round was told of") }
	if err := manager.Loop(t.Context(), s, manager.Options{}, 0, never); err == nil || !strings.Contains(err.Error(), "above 0") {
		t.Error(err)
	}
	broken := errors.New("broken")
	l.failOpen["monitor"] = broken
	if err := manager.Loop(t.Context(), s, manager.Options{}, time.Second, never); !errors.Is(err, broken) {
		t.Error(err)
	}
	l.failOpen["monitor"], l.failClose["monitor"] = nil, broken
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := manager.Loop(ctx, s, manager.Options{}, time.Second, never); !errors.Is(err, broken) {
		t.Error(err)
	}
}

// early is a monitor that asks before there is anything to ask.
func TestLoopBeforeTheFirstRound(t *testing.T) {
	l := newLedger()
	s := read(t, fakeMenu(l), "")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := manager.Loop(ctx, s, manager.Options{}, time.Second, nil); err != nil {
		t.Fatal(err)
	}
	d, ok := l.deps["monitor"].(monitor.Deps)
	if !ok {
		t.Fatal("no monitor was opened")
	}
	if p := d.Cluster.Parts(); p.Registry != nil {
		t.Errorf("parts: %+v", p)
	}
	_, one := d.Jobs.Status(t.Context(), "x")
	_, two := d.Jobs.Wait(t.Context(), "x")
	_, three := d.Jobs.Log(t.Context(), "x")
	var four error
	for _, err := range d.Jobs.List(t.Context(), scheduler.Filter{}) {
		four = err
	}
	q, ok := d.Jobs.(interface {
		Queue(context.Context, string) (scheduler.QueueStatus, error)
	})
	if !ok {
		t.Fatal("the monitor of a loop cannot ask for a queue")
	}
	_, five := q.Queue(t.Context(), "x")
	for i, err := range []error{one, two, three, four, five} {
		if !errors.Is(err, scheduler.ErrClosed) {
			t.Errorf("question %d: %v", i, err)
		}
	}
}
