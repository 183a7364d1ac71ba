package standard_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/manager/standard"
	"github.com/vagoth/vagoth/scheduler"
)

// A job that a script leaves running when it closes its manager is handed back,
// and run again, with a higher attempt, by who works on everything.
func TestWhatAScriptLeavesIsRunLater(t *testing.T) {
	dir := t.TempDir()
	ini, program, gate := filepath.Join(dir, "vagoth.ini"), filepath.Join(dir, "program"), filepath.Join(dir, "gate")
	// It tells that it has begun, waits for the gate, and answers with what it was told.
	script := "#!/bin/sh\necho '{\"progress\":\"begun\",\"percent\":10}'\nwhile [ ! -e " + gate + " ]; do sleep 0.05; done\ncat\n"
	if err := errors.Join(os.WriteFile(program, []byte(script), 0o700),
		os.WriteFile(ini, []byte("[drivers.sim]\nuse = sim\n[action.slow]\nrun = exec:"+program+"\nparams = n:integer!\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	m, err := standard.Open(ctx, ini)
	if err != nil {
		t.Fatal(err)
	}
	submit := func(params string) ([]scheduler.Status, error) {
		return m.Scheduler.Submit(ctx, scheduler.Package{Jobs: []scheduler.Job{{Queue: "q", Action: "slow", Params: doc(t, params)}}})
	}
	if _, err := submit(`{"n":"many"}`); !errors.Is(err, scheduler.ErrInvalid) {
		t.Errorf("a parameter of another type: %v", err)
	}
	jobs, err := submit(`{"n":7}`)
	if err != nil {
		t.Fatal(err)
	}
	id := jobs[0].ID
	for {
		st, err := m.Scheduler.Status(ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if st.State == scheduler.Running && st.Progress == "begun" && st.Percent == 10 {
			break
		}
		if st.State.Ended() {
			t.Fatalf("it ended as %s: %s", st.State, st.Error)
		}
		time.Sleep(5 * time.Millisecond)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(gate, nil, 0o600); err != nil {
		t.Fatal(err)
	}

	if m, err = manager.Load(ctx, ini, standard.Menu(), manager.Options{}); err != nil {
		t.Fatal(err)
	}
	working, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- m.Run(working) }()
	st, err := m.Scheduler.Wait(ctx, id)
	if err != nil || st.State != scheduler.Succeeded || st.Attempt != 2 || st.Failed != 0 {
		t.Errorf("it ended as %s (%s) at attempt %d with %d that failed, %v", st.State, st.Error, st.Attempt, st.Failed, err)
	}
	if r := st.Result.String(); !strings.Contains(r, `"n":7`) || !strings.Contains(r, `"attempt":2`) {
		t.Errorf("the second attempt was told %s", r)
	}
	stop()
	if err := errors.Join(<-done, m.Close()); err != nil {
		t.Error(err)
	}
}
