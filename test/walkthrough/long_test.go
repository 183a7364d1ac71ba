package walkthrough

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/cmd/vagoth/serve"
	"github.com/vagoth/vagoth/internal/testlong"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/scheduler/worker"
	"github.com/vagoth/vagoth/trail"
)

// slowPython uses the worker of the example as a library, with an action that
// takes longer than the lease.
const slowPython = `
import logging, signal, sys, time
sys.path.insert(0, sys.argv[1])
sys.dont_write_bytecode = True
import worker

w = worker.Worker(worker.Manager(sys.argv[2]), "slow", ["slow"], grace=0.2)

@w.action(required={"seconds": int}, optional={"words": str})
def slow(job, seconds, words="working"):
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        job.check()
        job.progress(50, words)
        time.sleep(0.02)
    job.log("done after a while")
    return {"slept": seconds}

signal.signal(signal.SIGTERM, lambda *_: w.stopping.set())
w.run()
`

// slow is the same in Go.
func slow(ctx context.Context, t scheduler.Task) (any, error) {
	var p struct {
		Seconds int    `json:"seconds"`
		Words   string `json:"words"`
	}
	if err := scheduler.DecodeParams(t, &p); err != nil {
		return nil, err
	}
	t.Progress(50, p.Words)
	timer := time.NewTimer(time.Duration(p.Seconds) * time.Second)
	defer timer.Stop()
	select {
	case <-timer.C:
		t.Log("done after a while")
		return map[string]int{"slept": p.Seconds}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// slowWorkers start a worker for the queue slow.
func slowWorkers() map[string]func(t *testing.T, p *place, c *api.Client) (stop func()) {
	return map[string]func(t *testing.T, p *place, c *api.Client) (stop func()){
		"go": func(t *testing.T, _ *place, c *api.Client) func() {
			w, err := worker.New(c, worker.Config{Name: "slow", Queues: []string{"slow"}, Grace: 200 * time.Millisecond, Actions: []scheduler.Action{{
				Name: "slow", Run: slow, Params: []scheduler.Param{
					{Name: "seconds", Type: scheduler.Integer, Required: true},
					{Name: "words", Type: scheduler.String},
				},
			}}})
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error, 1)
			go func() { done <- w.Run(ctx) }()
			stopped := false
			stop := func() {
				if stopped {
					return
				}
				stopped = true
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
			}
			t.Cleanup(stop)
			return stop
		},
		"python": func(t *testing.T, p *place, _ *api.Client) func() {
			python, err := exec.LookPath("python3")
			if err != nil {
				testlong.Missing(t, "there is no python3 here")
			}
			script := filepath.Join(p.dir, "slow.py")
			if err := os.WriteFile(script, []byte(slowPython), 0o600); err != nil {
				t.Fatal(err)
			}
			return start(t, "the worker", exec.Command(python, script, examples, filepath.Join(p.dir, "vagoth-data", "vagoth.sock"))) //nolint:gosec // its own arguments
		},
	}
}

// Jobs that take longer than a lease, are cancelled, and outlive their worker.
func TestLongJobs(t *testing.T) {
	t.Parallel()
	for name, begin := range slowWorkers() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlace(t, "\n[queue.slow]\nremote = yes\nlease = 2s\n")
			transport := serve.Transport(filepath.Join(p.dir, "vagoth-data", "vagoth.sock"))
			defer transport.CloseIdleConnections()
			client := api.NewClient("http://vagoth", transport)
			ctx, cancel := context.WithTimeout(trail.With(t.Context(), trail.New("test", "not needed")), 2*patience)
			defer cancel()
			stop := begin(t, p, client)

			submit := func(seconds int) string {
				t.Helper()
				list, err := client.Submit(ctx, scheduler.Package{Jobs: []scheduler.Job{{
					Queue: "slow", Action: "slow", Params: scheduler.MustParams(map[string]any{"seconds": seconds, "words": fmt.Sprintf("for %d s", seconds)}),
				}}})
				if err != nil {
					t.Fatal(err)
				}
				return list[0].ID
			}
			job := func(id string) scheduler.Status {
				t.Helper()
				st, err := client.Job(ctx, id)
				if err != nil {
					t.Fatal(err)
				}
				return st
			}
			running := func(id string) {
				t.Helper()
				await(t, "the job runs and says so", func() bool {
					st := job(id)
					return st.State == scheduler.Running && st.Percent == 50 && strings.HasPrefix(st.Progress, "for ")
				})
			}

			long := submit(5) // more than two leases
			st, err := client.WaitJob(ctx, long, patience)
			if err != nil || st.State != scheduler.Succeeded || st.Attempt != 1 || st.Result.String() != `{"slept":5}` {
				t.Fatalf("the long job is %s after %d attempts, with %s %q: %v", st.State, st.Attempt, st.Result, st.Error, err)
			}
			lines, err := client.JobLog(ctx, long)
			if err != nil || len(lines) == 0 || !strings.Contains(fmt.Sprint(lines), "done after a while") {
				t.Fatalf("its log is %v: %v", lines, err)
			}

			id := submit(600)
			running(id)
			if _, err := client.CancelJob(ctx, id); err != nil {
				t.Fatal(err)
			}
			st, err = client.WaitJob(ctx, id, patience)
			if err != nil || st.State != scheduler.Cancelled {
				t.Fatalf("the cancelled job is %s: %v", st.State, err)
			}

			id = submit(600)
			running(id)
			stop()
			if st := job(id); st.State != scheduler.Waiting || st.Lost != 0 || st.Failed != 0 {
				t.Fatalf("after its worker was stopped the job is %s, lost %d times, failed %d times: expected is that it was handed back", st.State, st.Lost, st.Failed)
			}
		})
	}
}
