package api

import (
	"context"
	"fmt"
	"log/slog"
	"regexp"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
)

// The figures are those of the cluster; what people name freely makes no labels.
func TestMetrics(t *testing.T) {
	c := newCluster(t, opts{full: true})
	c.host("h1")
	c.host("h2")
	must[*registry.Node](t)(registry.SetState(c.ctx, c.m.Registry, "h1", "up"))
	must[scheduler.QueueStatus](t)(c.SetQueue(c.ctx, "storage", scheduler.Paused))
	must[scheduler.QueueStatus](t)(c.SetQueue(c.ctx, "vm-1", scheduler.Open))
	x := c.metrics
	c.h = Handler(c.m, Options{Metrics: x})
	tr := InProcess(c.h)
	defer func() {
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
	}()
	c.Client = NewClient("http://vagoth", recorder{tr})
	ctx, cancel := context.WithCancel(c.ctx)
	done := make(chan struct{})
	go func() { defer close(done); x.Run(ctx, slog.New(slog.DiscardHandler)) }()
	must[[]scheduler.Status](t)(c.Submit(c.ctx, scheduler.Package{Jobs: []scheduler.Job{{Queue: "q", Action: "fail", Params: doc(t, `{"how":"busy"}`)}}}))
	began := time.Now()
	c.fake().tell(scheduler.Status{Job: scheduler.Job{ID: "r1", Action: "named-by-anybody"}, State: scheduler.Failed, Code: "named-too", SubmittedAt: began.Add(-time.Hour), StartedAt: began.Add(-time.Minute), EndedAt: began})
	c.fake().tell(scheduler.Status{Job: scheduler.Job{ID: "r2", Action: "fail"}, State: scheduler.Running})
	if _, err := c.Poll(c.ctx); err != nil {
		t.Fatal(err)
	}
	want := []string{
		`vagoth_hosts{state="up"} [12]`,
		`vagoth_hosts{state="unreachable"} \d`,
		`vagoth_jobs{state="waiting"} 3`,
		`vagoth_jobs_submitted_total 7`,
		`vagoth_scheduler_syncs_total 9`,
		`vagoth_scheduler_bytes_total 1000`,
		`vagoth_store_up{store="registry"} 1`,
		`vagoth_store_up{store="scheduler"} 1`,
		`vagoth_queue_depth{queue="storage"} 2`,
		`vagoth_queue_open{queue="storage"} 0`,
		`vagoth_oldest_wait_seconds (59|6\d)\.`,
		`vagoth_jobs_ended_total{action="fail",code="busy",state="failed"} 1`,
		`vagoth_jobs_ended_total{action="other",code="other",state="failed"} 1`,
		`vagoth_job_wait_seconds_sum{action="other"} 35\d\d`,
		`vagoth_job_run_seconds_sum{action="other"} (59|6\d)`,
		`vagoth_poll_seconds_count{host_state="up"} \d`,
		`vagoth_registry_write_seconds_count [1-9]`,
		`vagoth_http_requests_total{method="POST",route="/v1/jobs",status="200"} 1`,
		`vagoth_http_request_seconds_count{route="/v1/jobs"} 1`,
		`go_goroutines \d`,
		`process_open_fds \d`,
	}
	text := ""
	for deadline := time.Now().Add(10 * time.Second); ; {
		text, _ = c.get("/metrics")
		missing := ""
		for _, w := range want {
			if !regexp.MustCompile(`(?m)^` + strings.NewReplacer("{", `\{`, "}", `\}`).Replace(w)).MatchString(text) {
				missing += w + "\n"
			}
		}
		if missing == "" {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("these are missing:\n%sin\n%s", missing, regexp.MustCompile(`(?m)^(go_|process_|#).*\n`).ReplaceAllString(text, ""))
		}
	}
	for _, never := range []string{"vm-1", "named-by-anybody", "named-too", "tester"} {
		if strings.Contains(text, never) {
			t.Errorf("%s is a label", never)
		}
	}
	// A scheduler that cannot tell now is asked again, and nothing is missed for it; what
	// is gone for good is said, and counting goes on.
	counted := func(want string) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); ; {
			if text, _ = c.get("/metrics"); strings.Contains(text, want) {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: never", want)
			}
		}
	}
	told := scheduler.Status{Job: scheduler.Job{ID: "r3", Action: "fail"}, State: scheduler.Succeeded, SubmittedAt: began, StartedAt: began, EndedAt: began}
	c.fake().unwatched(fmt.Errorf("%w: it is about to lead", registry.ErrUnavailable))
	c.fake().tell(told)
	for deadline := time.Now().Add(10 * time.Second); c.fake().wasSilent() == 0; runtime.Gosched() {
		if time.Now().After(deadline) {
			t.Fatal("nobody watches")
		}
	}
	c.fake().unwatched(nil)
	counted(`vagoth_jobs_ended_total{action="fail",code="",state="succeeded"} 1`)
	if again := `vagoth_jobs_ended_total{action="fail",code="busy",state="failed"} 1`; !strings.Contains(text, again) {
		t.Errorf("what was counted before is counted again: there is no %s", again)
	}
	c.fake().unwatched(scheduler.ErrCompacted)
	counted(`vagoth_job_events_lost_total 1`)
	cancel()
	<-done
}

// A scheduler that tells of nothing is not counted, and no reason to end.
func TestMetricsOfSync(t *testing.T) {
	c := newCluster(t, opts{})
	ctx, cancel := context.WithCancel(c.ctx)
	done := make(chan struct{})
	x := NewMetrics(c.m, nil)
	go func() { defer close(done); x.Run(ctx, slog.New(slog.DiscardHandler)) }()
	cancel()
	<-done
	if _, err := x.reg.Gather(); err != nil {
		t.Error(err)
	}
	if resp, p := c.request("GET", "/metrics", ""); resp.StatusCode != 501 || p.Code != "unsupported" {
		t.Errorf("%d %+v", resp.StatusCode, p)
	}
}
