package daemon

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// slow is a configuration with an action that notes each of its runs and lasts
// until the file `go` is there.
const slow = `[scheduler]
use = broker
[provisioner]
use = basic
[drivers.lab]
use = sim
path = hosts
[monitor.poll]
every = @every 1h
[serve]
shutdown_timeout = 20s
[queue.far]
remote = yes
[actions]
slow = exec:%DIR%/slow
`

const program = `#!/bin/sh
cd %DIR% || exit 1
echo run >>runs
while ! test -e go; do sleep 0.02; done
`

func slowPlace(t *testing.T) (context.Context, *place) {
	t.Helper()
	p := newPlace(t, slow)
	for _, f := range []struct {
		name, text string
		mode       os.FileMode
	}{{"vagoth.ini", "data = data\n" + slow, 0o600}, {"slow", program, 0o700}, {"web.json", `{"cpu":1,"memory":64}`, 0o600}} {
		if err := os.WriteFile(filepath.Join(p.dir, f.name), []byte(strings.ReplaceAll(f.text, "%DIR%", p.dir)), f.mode); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithTimeout(trail.With(t.Context(), trail.New("test", "")), 2*time.Minute)
	t.Cleanup(cancel)
	t.Cleanup(func() { p.write("go") }) // whatever is left of the program ends
	return ctx, p
}

func (p *place) write(name string) {
	if err := os.WriteFile(filepath.Join(p.dir, name), nil, 0o600); err != nil && !errors.Is(err, os.ErrNotExist) {
		p.t.Error(err)
	}
}

// runs is how often the slow action has begun.
func (p *place) runs() int {
	data, err := os.ReadFile(filepath.Join(p.dir, "runs"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		p.t.Fatal(err)
	}
	return strings.Count(string(data), "run\n")
}

// submit queues jobs of one queue.
func (p *place) submit(ctx context.Context, queue string, actions ...string) []scheduler.Status {
	p.t.Helper()
	var pack scheduler.Package
	for _, a := range actions {
		pack.Jobs = append(pack.Jobs, scheduler.Job{Queue: queue, Action: a})
	}
	list, err := p.client.Submit(ctx, pack)
	if err != nil {
		p.t.Fatal(err)
	}
	return list
}

func (p *place) job(ctx context.Context, id string) scheduler.Status {
	p.t.Helper()
	st, err := p.client.Job(ctx, id)
	if err != nil {
		p.t.Fatal(err)
	}
	return st
}

// A job that runs when the daemon is stopped is handed back, and begins again
// with the next start; those who wait and those who listen are told.
func TestStopHandsBack(t *testing.T) {
	ctx, p := slowPlace(t)
	d := p.start(ctx)
	jobs := p.submit(ctx, "disks", "slow", "slow")
	until(ctx, t, "the job runs", func() bool { return p.runs() == 1 })

	waited := make(chan scheduler.State, 1)
	go func() {
		st, _ := p.client.WaitJob(ctx, jobs[0].ID, time.Minute) // the job as it is, or that the daemon ends
		waited <- st.State
	}()
	idle := make(chan int, 1)
	go func() {
		list, _ := p.client.Next(ctx, scheduler.Want{Wait: scheduler.Span(time.Minute)}) // nothing, or that the daemon ends
		idle <- len(list)
	}()
	until(ctx, t, "a worker waits", func() bool {
		st, err := p.client.Stats(ctx)
		return err == nil && st.Workers == 1
	})
	heard := make(chan error, 1)
	listening := make(chan struct{})
	go func() {
		var last error
		begun := false
		for ev, err := range p.client.Events(ctx, "", api.EventFilter{}) {
			if last = err; err == nil && !begun && ev.Type == api.EventBegin {
				begun = true
				close(listening)
			}
		}
		heard <- last
	}()
	<-listening

	d.signal(syscall.SIGTERM)
	took, err := d.wait()
	if err != nil || took > 10*time.Second {
		t.Fatalf("the daemon ended after %s with %v", took, err)
	}
	select {
	case st := <-waited:
		if st.Ended() {
			t.Errorf("who waits is told that the job ended as %s", st)
		}
	case <-time.After(10 * time.Second):
		t.Error("who waits for the job is not answered")
	}
	select {
	case n := <-idle:
		if n != 0 {
			t.Errorf("a worker that waits is given %d jobs", n)
		}
	case <-time.After(10 * time.Second):
		t.Error("a worker that waits is not answered")
	}
	select {
	case err := <-heard:
		if !errors.Is(err, scheduler.ErrClosed) {
			t.Errorf("the stream ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("the stream does not end")
	}

	p.start(ctx)
	until(ctx, t, "the job runs again", func() bool { return p.runs() == 2 })
	if st := p.job(ctx, jobs[0].ID); st.State != scheduler.Running || st.Attempt < 2 || st.Failed != 0 || st.Lost != 0 {
		t.Errorf("after the stop: %+v", st)
	}
	p.write("go")
	for _, j := range jobs {
		if st, err := p.client.WaitJob(ctx, j.ID, time.Minute); err != nil || st.State != scheduler.Succeeded {
			t.Errorf("in the end: %s %s, %v", st.State, st.Error, err)
		}
	}
	if n := p.runs(); n != 3 {
		t.Errorf("two jobs of which one was handed back ran %d times", n)
	}
}

// A second signal ends the daemon, whatever it waits for.
func TestSecondSignal(t *testing.T) {
	ctx, p := slowPlace(t)
	d := p.start(ctx)
	c, err := net.Dial("unix", filepath.Join(p.dir, "data", "vagoth.sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if _, err := io.WriteString(c, "POST /v1/nodes HTTP/1.1\r\nHost: vagoth\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(c).ReadString('\n'); err != nil || !strings.Contains(line, "100 Continue") {
		t.Fatalf("the daemon says %q, %v", line, err)
	}
	d.signal(syscall.SIGTERM)
	until(ctx, t, "it stops", func() bool {
		log, err := os.ReadFile(d.log)
		return err == nil && strings.Contains(string(log), "msg=stopping")
	})
	d.signal(syscall.SIGINT)
	took, err := d.wait()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || took > 10*time.Second {
		t.Errorf("it ended after %s with %v", took, err)
	}
	if log, err := os.ReadFile(d.log); err != nil || !strings.Contains(string(log), "ended at once") {
		t.Errorf("it does not say why: %v", err)
	}
	p.start(ctx)
}

// A job that ran when the daemon was killed begins again, with a higher attempt.
func TestKillBeginsAgain(t *testing.T) {
	ctx, p := slowPlace(t)
	d := p.start(ctx)
	job := p.submit(ctx, "disks", "slow")[0]
	until(ctx, t, "the job runs", func() bool { return p.runs() == 1 })
	was := p.job(ctx, job.ID)
	d.kill()
	p.start(ctx)
	until(ctx, t, "the job runs again", func() bool { return p.runs() == 2 })
	st := p.job(ctx, job.ID)
	if st.Attempt <= was.Attempt || was.Token.Compare(st.Token) >= 0 {
		t.Errorf("the second attempt is %d %v, the first was %d %v", st.Attempt, st.Token, was.Attempt, was.Token)
	}
	p.write("go")
	if st, err := p.client.WaitJob(ctx, job.ID, time.Minute); err != nil || st.State != scheduler.Succeeded {
		t.Errorf("in the end: %s %s, %v", st.State, st.Error, err)
	}
}

// A lease of a worker outside outlives the daemon.
func TestLeaseOutlivesTheDaemon(t *testing.T) {
	ctx, p := slowPlace(t)
	d := p.start(ctx)
	job := p.submit(ctx, "far", "volume")[0]
	leases, err := p.client.Next(ctx, scheduler.Want{Worker: "disk1", Wait: scheduler.Span(10 * time.Second)})
	if err != nil || len(leases) != 1 {
		t.Fatalf("%d leases, %v", len(leases), err)
	}
	if _, err := p.client.Heartbeat(ctx, scheduler.Beat{Hold: leases[0].Hold, Percent: 40, Progress: "copying"}); err != nil {
		t.Fatal(err)
	}
	d.kill()
	p.start(ctx)
	_, errs := p.client.Complete(ctx, scheduler.Completion{Hold: leases[0].Hold})
	st := p.job(ctx, job.ID)
	if errs[0] == nil && st.State == scheduler.Succeeded {
		return
	}
	// The hand-out is on disk with the next commit only; without it the job is
	// handed out again, with a higher attempt.
	if !errors.Is(errs[0], scheduler.ErrStale) {
		t.Errorf("the completion after a restart: %v; the job is %s", errs[0], st.State)
	}
	again, err := p.client.Next(ctx, scheduler.Want{Worker: "disk1", Wait: scheduler.Span(10 * time.Second)})
	if err != nil || len(again) != 1 || again[0].Attempt <= leases[0].Attempt {
		t.Errorf("handed out again: %+v, %v", again, err)
	}
}

// Without a daemon a command runs what it has submitted and nothing else.
func TestCommandRunsItsOwnJobs(t *testing.T) {
	ctx, p := slowPlace(t)
	d := p.start(ctx)
	job := p.submit(ctx, "disks", "slow")[0]
	until(ctx, t, "the job runs", func() bool { return p.runs() == 1 })
	d.signal(syscall.SIGTERM)
	if _, err := d.wait(); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"hv", "add", "h1", "--driver", "lab"}, {"new", "web1", "-d", "web.json"}, {"start", "web1"}} {
		if out, err := p.command(args...).CombinedOutput(); err != nil {
			t.Fatalf("vagoth %q: %v\n%s", args, err, out)
		}
	}
	if n := p.runs(); n != 1 {
		t.Errorf("the waiting job of somebody else was run (%d runs)", n)
	}
	p.write("go")
	p.start(ctx)
	if st, err := p.client.WaitJob(ctx, job.ID, time.Minute); err != nil || st.State != scheduler.Succeeded {
		t.Errorf("in the end: %s %s, %v", st.State, st.Error, err)
	}
	if it, err := p.client.Node(ctx, "web1"); err != nil || it.Node.State() != "running" {
		t.Errorf("web1: %v", err)
	}
}

// SIGHUP opens a queue that stood paused in the configuration, for the worker
// that waits already; a broken file changes nothing.
func TestReloadOpensAQueue(t *testing.T) {
	ctx, p := slowPlace(t)
	paused := strings.Replace(strings.ReplaceAll(slow, "%DIR%", p.dir), "remote = yes\n", "remote = yes\npaused = yes\n", 1)
	ini := func(text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(p.dir, "vagoth.ini"), []byte("data = data\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	ini(paused)
	d := p.start(ctx)
	p.submit(ctx, "far", "volume")
	if q, err := p.client.Queue(ctx, "far"); err != nil || q.Mode != scheduler.Paused || q.Depth != 1 {
		t.Fatalf("before: %+v, %v", q, err)
	}
	said := func(text string) {
		t.Helper()
		until(ctx, t, "the log says "+text, func() bool {
			log, err := os.ReadFile(d.log)
			return err == nil && strings.Contains(string(log), text)
		})
	}
	ini(strings.Replace(paused, "paused = yes", "paused = perhaps", 1))
	d.signal(syscall.SIGHUP)
	said("the old configuration stays")
	ini(strings.Replace(paused, "remote = yes\npaused = yes", "rate = 5/s", 1))
	d.signal(syscall.SIGHUP)
	said("who works on a queue does not change")
	if q, err := p.client.Queue(ctx, "far"); err != nil || q.Mode != scheduler.Paused || !q.Remote {
		t.Errorf("after two refusals: %+v, %v", q, err)
	}
	ini(strings.Replace(paused, "paused = yes", "rate = 5/s", 1))
	d.signal(syscall.SIGHUP)
	said("msg=reloaded")
	list, err := p.client.Next(ctx, scheduler.Want{Wait: scheduler.Span(10 * time.Second)})
	if err != nil || len(list) != 1 {
		t.Errorf("after the reload %d jobs are handed out, %v", len(list), err)
	}
	if q, err := p.client.Queue(ctx, "far"); err != nil || q.Rate != "5/s" {
		t.Errorf("after: %+v, %v", q, err)
	}
}
