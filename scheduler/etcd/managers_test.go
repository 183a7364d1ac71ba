package etcd

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
)

// Each manager tells of all of them: which is itself, and the one that leads.
func TestManagers(t *testing.T) {
	c := newCluster(t, time.Minute, nil)
	for range 3 {
		c.add(false)
	}
	leads := ""
	for i, m := range c.managers {
		var all []scheduler.Manager
		for end := time.Now().Add(time.Minute); len(all) < 3; time.Sleep(5 * time.Millisecond) {
			var err error
			if all, err = m.Managers(); err != nil || time.Now().After(end) {
				t.Fatalf("manager %d sees %+v, %v", i, all, err)
			}
		}
		leaders, selves := 0, 0
		for _, one := range all {
			if one.Self {
				selves++
			}
			if one.Leads {
				leaders++
				if leads == "" {
					leads = one.Name
				}
				if one.Name != leads {
					t.Errorf("manager %d says that %s leads, others %s", i, one.Name, leads)
				}
			}
		}
		if leaders != 1 || selves != 1 {
			t.Errorf("manager %d sees %+v", i, all)
		}
	}
}

// A package that is larger than a transaction of etcd may be is taken as one, and is
// there for the next leader, though the lease is gone under which its parts were
// written.
func TestLargePackage(t *testing.T) {
	c := newCluster(t, time.Minute, nil)
	c.snapshot = 1 << 40
	a, b := c.add(false), c.add(false)
	first := c.leader(-1, time.Minute)
	const jobs = 10_000
	p := scheduler.Package{ID: "large"}
	for i := range jobs {
		p.Jobs = append(p.Jobs, scheduler.Job{
			ID: fmt.Sprintf("job-%d", i), Queue: fmt.Sprintf("r-%d", i%50), Action: "x",
			Params: registry.TrustedDocument(fmt.Sprintf(`{"text":"%0200d"}`, i)),
		})
	}
	other := a
	if c.managers[first] == a {
		other = b
	}
	if _, err := other.Submit(t.Context(), p); err != nil { // over the leader
		t.Fatal(err)
	}
	old := c.managers[first].current().office
	c.stores[first].hold()
	defer c.stores[first].goOn()
	if err := c.stores[first].Revoke(t.Context(), old.session.lease); err != nil {
		t.Fatal(err)
	}
	c.leader(first, time.Minute)
	n := 0
	for st, err := range other.List(t.Context(), scheduler.Filter{Package: "large"}) {
		if err != nil {
			t.Fatal(err)
		}
		if st.State != scheduler.Waiting {
			t.Fatalf("%s is %s", st.ID, st.State)
		}
		n++
	}
	if n != jobs {
		t.Errorf("%d of %d jobs are there", n, jobs)
	}
}

// A manager that says something before its session is known here is one of the crew once it is.
func TestKnownLater(t *testing.T) {
	c := newCrew(nil, nil, map[string]member{})
	isGone := func() bool {
		select {
		case <-c.hand("m").gone:
			return true
		default:
			return false
		}
	}
	for i, alive := range []bool{false, true, true, false, false} {
		if isGone() == alive {
			t.Errorf("look %d: gone is %v, alive is %v", i, !alive, alive)
		}
		next := map[string]member{}
		if i < 2 {
			next["m"] = member{Name: "m"}
		}
		c.seen(next, int64(i))
	}
}

// A manager that ends does not wait for ever for somebody who leads.
func TestByeEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := &session{name: "m", alive: t.Context()}
		s := &Scheduler{
			cfg: Defaults(), log: slog.New(slog.DiscardHandler),
			closing: t.Context(), view: &view{session: v, next: make(chan struct{})},
		}
		began := time.Now()
		newWorker(s).bye(v)
		if took := time.Since(began); took != s.patience() {
			t.Errorf("it took %v", took)
		}
	})
}

// Where all managers end, one after the other, what ran is given back, and not lost: the
// last one to lead takes the answers of those that have gone.
func TestClosedTogether(t *testing.T) {
	started := make(chan struct{}, 100)
	c := newCluster(t, 30*time.Second, map[string]scheduler.Action{"gate": {Run: func(ctx context.Context, _ scheduler.Task) (any, error) {
		started <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}}})
	const jobs = 9
	for i := range jobs {
		if i == 0 {
			c.add(false)
			c.leader(-1, time.Minute)
		}
		if _, err := c.managers[0].Submit(t.Context(), scheduler.Package{Jobs: []scheduler.Job{{ID: fmt.Sprint("job-", i), Queue: fmt.Sprint("q", i), Action: "gate"}}}); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.managers[0].Close(); err != nil {
		t.Fatal(err)
	}
	for round := range 3 {
		from := len(c.managers)
		for range 3 {
			c.add(true)
		}
		for i := range jobs {
			select {
			case <-started:
			case <-time.After(time.Minute):
				t.Fatalf("round %d: after a minute %d of %d jobs run", round, i, jobs)
			}
		}
		for _, m := range c.managers[from:] {
			if err := m.Close(); err != nil {
				t.Fatal(err)
			}
		}
		m := c.add(false)
		for i := range jobs {
			if st, err := m.Status(t.Context(), fmt.Sprint("job-", i)); err != nil || st.State != scheduler.Waiting || st.Lost != 0 {
				t.Errorf("round %d: %s is %s after attempt %d, %d were lost (%v)", round, st.ID, st.State, st.Attempt, st.Lost, err)
			}
		}
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
