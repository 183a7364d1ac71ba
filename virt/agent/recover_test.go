package agent

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/virt/mistify"
)

// recoveredJob puts a job into a store as a killed agent leaves it, and opens it.
func recoveredJob(t *testing.T, cfg Config, st *state) *Agent {
	t.Helper()
	data := t.TempDir()
	a, err := Open(t.Context(), cfg, Deps{Data: data})
	if err != nil {
		t.Fatal(err)
	}
	g, err := newGuest(&mistify.Guest{ID: vm1})
	if err != nil {
		t.Fatal(err)
	}
	if err := a.store.do(t.Context(), &change{put: g, jobs: []*state{st}}); err != nil {
		t.Fatal(err)
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	if a, err = Open(t.Context(), cfg, Deps{Data: data}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close() })
	return a
}

// What a killed agent leaves is settled when it is opened again.
func TestRecover(t *testing.T) {
	cfg := testConfig()
	s := cfg.Services["test"]
	s.Port = 1
	cfg.Services["test"], cfg.Services["download"] = s, s
	cfg.MaxRetries = 5
	cfg.Actions["restart"] = ActionConfig{Stages: []Stage{{Service: "test", Method: "Test.A", Idempotent: true}, {Service: "test", Method: "Test.B"}}}
	job := func(status mistify.JobStatus, index, attempt int, stage string) *state {
		return &state{Job: mistify.Job{ID: newID(), GuestID: vm1, Action: "restart", Status: status, Attempt: attempt, Stage: stage}, Index: index}
	}
	for _, c := range []struct {
		name    string
		left    *state
		status  mistify.JobStatus
		attempt int
		message string
	}{
		{"queued", job(mistify.JobQueued, 1, 1, "2/2 Test.B of test"), mistify.JobQueued, 1, ""},
		{"idempotent", job(mistify.JobRunning, 0, 1, "1/2 Test.A of test"), mistify.JobQueued, 2, "1/2 Test.A of test"},
		{"not idempotent", job(mistify.JobRunning, 1, 1, "2/2 Test.B of test"), mistify.JobError, 1, "2/2 Test.B of test"},
		{"too often", job(mistify.JobRunning, 0, 6, "1/2 Test.A of test"), mistify.JobError, 6, "1/2 Test.A of test"},
		{"changed config", job(mistify.JobRunning, 0, 1, "1/3 Test.Z of test"), mistify.JobError, 1, "1/3 Test.Z of test"},
		{"ended", job(mistify.JobComplete, 1, 1, ""), mistify.JobComplete, 1, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := recoveredJob(t, cfg, c.left)
			st := a.store.job(c.left.ID)
			if st.Status != c.status || st.Attempt != c.attempt || !strings.Contains(st.Message, c.message) {
				t.Errorf("%+v", st)
			}
		})
	}
	// A job that waits for a stage which the config no longer has is not run as another one.
	a := recoveredJob(t, cfg, job(mistify.JobQueued, 0, 1, "1/2 Test.Old of test"))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- a.Run(ctx) }()
	until(t, "it has ended", func() bool { _, n := a.store.lengths(""); return n == 0 })
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if j := a.store.latest("", 1)[0]; j.Status != mistify.JobError || !strings.Contains(j.Message, "changed in the config") {
		t.Errorf("%+v", j)
	}
}

// An agent that is stopped leaves no job that shows as running.
func TestStop(t *testing.T) {
	for _, idempotent := range []bool{false, true} {
		cfg := testConfig()
		cfg.StopGrace = 50 * time.Millisecond
		cfg.Actions["reboot"].Stages[0].Idempotent = idempotent
		data := t.TempDir()
		h := newHost(t, hostOptions{cfg: &cfg, data: data})
		h.create(vm1)
		begun := make(chan struct{}, 1)
		h.sub.onGuest(func(ctx context.Context, _ string, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
			begun <- struct{}{}
			<-ctx.Done()
			return answerSame(r)
		})
		id := h.want(202, "POST", "/guests/"+vm1+"/reboot", "").job()
		<-begun
		h.stop()
		st := h.agent.store.job(id)
		want, attempt := mistify.JobError, 1
		if idempotent {
			want, attempt = mistify.JobQueued, 2
		}
		if st.Status != want || st.Attempt != attempt {
			t.Errorf("idempotent %v: %+v", idempotent, st)
		}
	}
}

// A job that is queued when the agent does not run, or is being stopped, waits.
func TestQueuedWhileStopped(t *testing.T) {
	h := newHost(t, hostOptions{idle: true})
	id := h.want(202, "POST", "/guests", `{"id":"`+vm1+`"}`).job()
	if st := h.agent.store.job(id); st.Status != mistify.JobQueued {
		t.Errorf("%+v", st)
	}
	if len(h.sub.seen()) != 0 {
		t.Error("it ran")
	}
}
