package poll

import (
	"context"
	"fmt"
	"iter"
	"log/slog"
	"testing"

	"github.com/vagoth/vagoth/monitor"
	"github.com/vagoth/vagoth/scheduler"
)

// queued is a scheduler with a million jobs: it may be asked for queues, and for
// a list only where it does not tell of these.
type queued struct {
	scheduler.Inspector
	st    scheduler.QueueStatus
	err   error
	lists bool
	asked []string
	t     *testing.T
}

func (q *queued) Queue(_ context.Context, name string) (scheduler.QueueStatus, error) {
	q.asked = append(q.asked, name)
	return q.st, q.err
}

func (q *queued) List(_ context.Context, f scheduler.Filter) iter.Seq2[scheduler.Status, error] {
	return func(yield func(scheduler.Status, error) bool) {
		if !q.lists || f.Queue != "web1" {
			q.t.Errorf("all jobs were listed for %+v", f)
		}
		yield(scheduler.Status{}, nil)
	}
}

// A scheduler that tells of its queues is asked for the VM's own, and only what
// can begin without a person counts.
func TestInFlightAsksForTheQueue(t *testing.T) {
	for _, c := range []struct {
		what  string
		st    scheduler.QueueStatus
		err   error
		lists bool
		want  bool
	}{
		{"empty", scheduler.QueueStatus{}, nil, false, false},
		{"waiting", scheduler.QueueStatus{Depth: 1}, nil, false, true},
		{"blocked by another job", scheduler.QueueStatus{Depth: 1, Blocked: 1, BlockedBy: []string{"j"}}, nil, false, true},
		{"paused with a job", scheduler.QueueStatus{Mode: scheduler.Paused, Depth: 3}, nil, false, true},
		{"running", scheduler.QueueStatus{Running: "j"}, nil, false, true},
		{"in the hands of a worker outside", scheduler.QueueStatus{Remote: true, Running: "j"}, nil, false, true},
		{"parked", scheduler.QueueStatus{Parked: 2}, nil, false, false},
		{"no name of a queue", scheduler.QueueStatus{}, fmt.Errorf("%w: a name", scheduler.ErrInvalid), false, false},
		{"closed", scheduler.QueueStatus{}, scheduler.ErrClosed, false, true},
		{"does not tell", scheduler.QueueStatus{}, scheduler.ErrUnsupported, true, true},
	} {
		q := &queued{st: c.st, err: c.err, lists: c.lists, t: t}
		m := &Monitor{deps: monitor.Deps{Jobs: q}, log: slog.New(slog.DiscardHandler)}
		if got := m.inFlight(t.Context(), "web1"); got != c.want || len(q.asked) != 1 || q.asked[0] != "web1" {
			t.Errorf("%s: in flight %t, asked for %q", c.what, got, q.asked)
		}
	}
}
