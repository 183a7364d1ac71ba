package engine

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/vagoth/vagoth/scheduler"
)

func ids(t *testing.T, b *Engine, f scheduler.Filter) []string {
	t.Helper()
	var list []string
	for st, err := range b.List(t.Context(), f) {
		if err != nil {
			t.Fatal(err)
		}
		list = append(list, st.ID)
	}
	return list
}

// TestListOfOneQueueLooksAtNoOther lists one queue and one package among many
// jobs, some of which end or are forgotten meanwhile.
func TestListOfOneQueueLooksAtNoOther(t *testing.T) {
	b := Memory(testConfig(), scheduler.Deps{})
	defer b.Close()
	ctx := t.Context()
	var mine []string
	for i := range 50 {
		p := scheduler.Package{ID: fmt.Sprint("p", i), Jobs: []scheduler.Job{{ID: fmt.Sprint("m", i), Queue: "r-mine", Action: "far"}}}
		for k := range 40 {
			p.Jobs = append(p.Jobs, scheduler.Job{ID: fmt.Sprintf("o%d-%d", i, k), Queue: fmt.Sprint("r-", k), Action: "far"})
		}
		if _, err := b.Submit(ctx, p); err != nil {
			t.Fatal(err)
		}
		mine = append([]string{fmt.Sprint("m", i)}, mine...)
	}
	end := func() {
		list, err := b.Next(ctx, scheduler.Want{Queues: []string{"r-mine"}})
		if err != nil || len(list) != 1 {
			t.Fatal(list, err)
		}
		if _, errs := b.Complete(ctx, scheduler.Completion{Hold: list[0].Hold}); errs[0] != nil {
			t.Fatal(errs[0])
		}
	}
	end() // m0
	end() // m1
	f := scheduler.Filter{Queue: "r-mine"}
	if got := ids(t, b, f); !slices.Equal(got, mine) {
		t.Errorf("listed %v, want %v", got, mine)
	}
	looks := 0
	for j := b.core.older(f, b.core.seq+1); j != nil; j = b.core.older(f, j.seq) {
		if looks++; j.queue.name != "r-mine" {
			t.Fatalf("looked at %s", j.id)
		}
	}
	if looks != len(mine) {
		t.Errorf("looked at %d jobs to list %d", looks, len(mine))
	}
	if got := ids(t, b, scheduler.Filter{Package: "p7", Queue: "r-mine"}); !slices.Equal(got, []string{"m7"}) {
		t.Errorf("of package and queue: %v", got)
	}
	if got := ids(t, b, scheduler.Filter{Package: "p7"}); len(got) != 41 || got[40] != "m7" || got[0] != "o7-39" {
		t.Errorf("of the package: %v", got)
	}
	if got := ids(t, b, scheduler.Filter{Queue: "r-none"}); got != nil {
		t.Errorf("of no queue: %v", got)
	}
	// The one that was found last is forgotten before the next is looked for.
	b.mu.Lock()
	gone := b.core.jobs["m1"]
	at := b.core.older(f, b.core.jobs["m2"].seq)
	b.core.forget(gone)
	if next := b.core.older(f, gone.seq); at != gone || next != b.core.jobs["m0"] {
		t.Errorf("%s, then %v", at.id, next)
	}
	b.mu.Unlock()
	if got := ids(t, b, f); len(got) != len(mine)-1 || slices.Contains(got, "m1") {
		t.Errorf("without the one that is forgotten: %v", got)
	}
}

// TestRunSubmittedRunsWhatWasRetried has a command without daemon retry a job of
// another process, which it then runs itself, and not the other one.
func TestRunSubmittedRunsWhatWasRetried(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir, ran := t.TempDir(), make(chan string, 10)
		deps := scheduler.Deps{Data: dir, Actions: map[string]scheduler.Action{"do": {Name: "do", Run: func(_ context.Context, t scheduler.Task) (any, error) {
			ran <- t.Job().ID
			return nil, nil
		}}}}
		b, err := onDisk(t.Context(), testConfig(), deps, 0)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := b.Submit(t.Context(), scheduler.Package{Jobs: []scheduler.Job{{ID: "again", Queue: "a", Action: "do"}, {ID: "other", Queue: "b", Action: "do"}}}); err != nil {
			t.Fatal(err)
		}
		if err := b.Cancel(t.Context(), "again", ""); err != nil {
			t.Fatal(err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		if b, err = onDisk(t.Context(), testConfig(), deps, 0); err != nil {
			t.Fatal(err)
		}
		if _, err := b.Retry(t.Context(), "again", scheduler.RetryOptions{}); err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		over := make(chan error, 1)
		go func() { over <- b.Run(ctx, scheduler.RunOptions{Submitted: true}) }()
		if id := <-ran; id != "again" {
			t.Errorf("ran %s", id)
		}
		if st, err := b.Wait(t.Context(), "again"); err != nil || st.State != scheduler.Succeeded {
			t.Errorf("%+v, %v", st, err)
		}
		stop()
		if err := <-over; err != nil {
			t.Error(err)
		}
		if st, err := b.Status(t.Context(), "other"); err != nil || st.State != scheduler.Waiting || len(ran) > 0 {
			t.Errorf("what another process had submitted: %+v, %v", st, err)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	})
}
