package poll

import (
	"context"
	"testing"
	"time"

	"github.com/vagoth/vagoth/monitor"
)

// TestPollsAreTold: whoever wants to know is told of the polls by the schedule
// and of those that are asked for.
func TestPollsAreTold(t *testing.T) {
	c := newCluster(t, 2, 1)
	told := make(chan monitor.Report, 100)
	m, err := Open(t.Context(), Defaults(), monitor.Deps{Cluster: c, Polled: func(r monitor.Report) { told <- r }})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	hosts := func(want int) {
		t.Helper()
		select {
		case r := <-told:
			if len(r.Hosts) != want {
				t.Errorf("it was told of %d hosts, want %d", len(r.Hosts), want)
			}
		case <-time.After(10 * time.Second):
			t.Error("it was told of no poll")
		}
	}
	hosts(2) // the first one of the schedule
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if _, err := m.Poll(t.Context(), "host0001"); err != nil {
		t.Error(err)
	}
	hosts(1)
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}
