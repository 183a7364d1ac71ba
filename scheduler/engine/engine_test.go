package engine

import (
	"context"
	"errors"
	"strings"
	gosync "sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

func testConfig() Config {
	cfg := Defaults()
	cfg.Queues = map[string]QueueConfig{"r*": {Remote: true}}
	cfg.Limits = map[string]LimitConfig{"one": {Slots: 1}}
	return cfg
}

// TestSubmittedOnly runs what came through this handle, and in its order.
func TestSubmittedOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		deps := scheduler.Deps{Data: dir, Actions: map[string]scheduler.Action{"do": {Name: "do", Run: func(context.Context, scheduler.Task) (any, error) { return nil, nil }}}}
		submit := func(b *Engine, id, queue string) {
			if _, err := b.Submit(t.Context(), scheduler.Package{Jobs: []scheduler.Job{{ID: id, Queue: queue, Action: "do"}}}); err != nil {
				t.Fatal(err)
			}
		}
		first, err := onDisk(t.Context(), testConfig(), deps, 0)
		if err != nil {
			t.Fatal(err)
		}
		submit(first, "old", "q")
		if err := first.Close(); err != nil {
			t.Fatal(err)
		}
		b, err := onDisk(t.Context(), testConfig(), deps, 0)
		if err != nil {
			t.Fatal(err)
		}
		var work gosync.WaitGroup
		work.Go(func() { _ = b.Run(context.WithoutCancel(t.Context()), scheduler.RunOptions{Submitted: true}) })
		submit(b, "mine", "other")
		submit(b, "behind", "q")
		synctest.Wait()
		for id, want := range map[string]scheduler.State{"old": scheduler.Waiting, "mine": scheduler.Succeeded, "behind": scheduler.Waiting} {
			if st, err := b.Status(t.Context(), id); err != nil || st.State != want {
				t.Errorf("%s is %s (%s), %v; want %s", id, st.State, st.Waiting, err, want)
			}
		}
		if st, _ := b.Status(t.Context(), "behind"); st.Waiting != "waiting for its turn in queue q behind job old" {
			t.Errorf("it says %q", st.Waiting)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		work.Wait()
	})
}

// TestKeysOutliveTheirJobs prunes a job whose idempotency key still counts.
func TestKeysOutliveTheirJobs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := testConfig()
		cfg.HistoryCount = 2
		ctx := trail.With(t.Context(), trail.Trail{Transaction: "t", Source: "ann"})
		dir := t.TempDir()
		b, err := onDisk(ctx, cfg, scheduler.Deps{Data: dir}, 1)
		if err != nil {
			t.Fatal(err)
		}
		done := func(j scheduler.Job) (scheduler.Status, error) {
			list, err := b.Submit(ctx, scheduler.Package{Jobs: []scheduler.Job{j}})
			if err != nil {
				return scheduler.Status{}, err
			}
			leases, err := b.Next(ctx, scheduler.Want{})
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range leases {
				if _, errs := b.Complete(ctx, scheduler.Completion{Hold: l.Hold}); errs[0] != nil {
					t.Fatal(errs[0])
				}
			}
			return list[0], nil
		}
		keyed := scheduler.Job{Queue: "r", Action: "far", Key: "k"}
		first, err := done(keyed)
		if err != nil {
			t.Fatal(err)
		}
		for range 5 {
			if _, err := done(scheduler.Job{Queue: "r", Action: "far"}); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := b.Status(ctx, first.ID); !errors.Is(err, scheduler.ErrNotFound) {
			t.Fatalf("it is still kept: %v", err)
		}
		for range 2 {
			if again, err := done(keyed); err != nil || again.ID != first.ID || again.State != scheduler.Succeeded {
				t.Errorf("the same content: %+v, %v", again, err)
			}
			other := keyed
			other.Action = "farther"
			if _, err := done(other); !errors.Is(err, scheduler.ErrConflict) {
				t.Errorf("other content: %v", err)
			}
			if err := b.Close(); err != nil {
				t.Fatal(err)
			}
			if b, err = onDisk(ctx, cfg, scheduler.Deps{Data: dir}, 1); err != nil {
				t.Fatal(err)
			}
		}
		time.Sleep(25 * time.Hour)
		if again, err := done(keyed); err != nil || again.ID == first.ID {
			t.Errorf("after a day: %+v, %v", again, err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
}

// TestUnknownRecordIsRefused opens a store with a record of a newer program.
func TestUnknownRecordIsRefused(t *testing.T) {
	dir := t.TempDir()
	b, err := onDisk(t.Context(), testConfig(), scheduler.Deps{Data: dir}, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.journal.AppendBatch(t.Context(), [][]byte{{format, 99}}); err != nil {
		t.Fatal(err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	_, err = onDisk(t.Context(), testConfig(), scheduler.Deps{Data: dir}, 0)
	if err == nil || !strings.Contains(err.Error(), "record 2 cannot be read: its kind 99 is unknown") {
		t.Errorf("it says %v", err)
	}
}

func TestListeners(t *testing.T) {
	cfg := testConfig()
	b := Memory(cfg, scheduler.Deps{})
	if l := b.Listeners(); len(l) != 0 {
		t.Errorf("by default it listens at %v", l)
	}
	_ = b.Close()
	cfg.SpinListen = "127.0.0.1:8081"
	b = Memory(cfg, scheduler.Deps{})
	defer b.Close()
	if l := b.Listeners(); len(l) != 1 || l[0].Address != cfg.SpinListen || l[0].Handler == nil {
		t.Errorf("it listens at %v", l)
	}
	for _, bad := range []string{"0.0.0.0:8081", "8081", "192.0.2.1:1", ":8081"} {
		cfg.SpinListen = bad
		if err := cfg.Validate(); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}
