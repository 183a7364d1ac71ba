package managers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/internal/testlong"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/test/fleet"
	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// fault is what may befall the manager that leads.
type fault string

const (
	held    fault = "held (SIGSTOP) for longer than its session"
	late    fault = "held with calls on their way, which arrive after it was taken for dead"
	noEtcd  fault = "cut off from etcd only"
	noHosts fault = "cut off from the agents only"
	revoked fault = "its lease revoked"
	killed  fault = "killed"
)

// faults are all of them. The first few are those of a short run.
var faults = []fault{noHosts, late, revoked, noEtcd, killed, held}

const short = 4

// calls lets one fault after the other befall the manager that leads, while jobs are
// submitted through all. Then of each round:
//
//   - the calls that a guest's host was sent have tokens that never decrease, so what a
//     manager asks that was taken for dead counts only if an agent took it;
//   - a call with a token of before is refused, and its host does not hear of it;
//   - of a guest no two calls of different jobs, or attempts, overlap;
//   - every job that was acknowledged ends, in some way;
//   - a manager that was cut off or held says nothing that was true once: asked for a job
//     that ended without it, it knows that, or says that it knows nothing.
//
// A takeover is measured from the fault until a manager that lives sees another lead.
func calls(t *testing.T, run fleet.Program) {
	seed := uint64(testlong.Seed(t))
	chance := rand.New(rand.NewPCG(seed, seed)) //nolint:gosec // a test's choices
	w := newWorld(t, run, 0, 1, 2, 2, 4)
	rounds := short // a tenth would take minutes
	if testlong.Long() {
		rounds = testlong.Count(t, 200)
	}
	took := map[fault][]time.Duration{}
	ends := map[scheduler.State]int{}
	for round := range rounds {
		how := faults[round%len(faults)]
		if d := w.round(round, how, chance, ends); d > 0 {
			took[how] = append(took[how], d)
		}
		if t.Failed() {
			return
		}
	}
	t.Logf("%d rounds, %d calls of hosts, jobs ended as %v", rounds, w.notes.len(), ends)
	var all []time.Duration
	for _, how := range slices.Sorted(maps.Keys(took)) {
		list := took[how]
		slices.Sort(list)
		t.Logf("taken over, %s: median %s, longest %s of %d", how, list[len(list)/2].Round(time.Millisecond), list[len(list)-1].Round(time.Millisecond), len(list))
		all = append(all, list...)
	}
	slices.Sort(all)
	const slack = 10 * time.Second // for what else the machine does
	if median := all[len(all)/2]; median > 2*session+slack {
		t.Errorf("the median of %d takeovers is %s, more than two sessions of %s with %s for a busy machine", len(all), median, session, slack)
	}
}

// round is one fault. It returns how long it took to be taken over, if it was.
func (w *world) round(round int, how fault, chance *rand.Rand, ends map[scheduler.State]int) (took time.Duration) {
	w.Helper()
	lead, name := w.settled()
	other := 1 - lead
	sick, well := w.managers[lead], w.managers[other]
	from := w.notes.len()
	l := w.load(chance)
	wait(w, time.Duration(100+chance.IntN(500))*time.Millisecond) // the moment is the point here
	begin := time.Now()
	mend := w.befall(lead, how)
	if how == noHosts {
		wait(w, 2*session)
		mend()
	} else {
		fleet.Until(w, fmt.Sprintf("round %d (%s): another leads", round, how), func(context.Context) bool {
			_, now := w.leader(other)
			return now != "" && now != name
		})
		took = time.Since(begin)
		job := w.submit(w.vms[0], virt.ActionPoll, nil, well)
		if st := w.ended(job, well); st.State != scheduler.Succeeded && how != revoked {
			w.Errorf("round %d (%s): after the takeover a poll %s: %s", round, how, st.State, st.Error)
		}
		if how != killed {
			w.honest(round, how, job, sick, mend)
		} else {
			mend()
		}
	}
	jobs := l.end()
	for _, id := range jobs {
		ends[w.ended(id, w.managers...).State]++
	}
	w.check(round, how, w.notes.since(from))
	return took
}

func wait(t testing.TB, d time.Duration) {
	t.Helper()
	select {
	case <-time.After(d):
	case <-t.Context().Done():
	}
}

// befall does it, and returns what undoes it.
func (w *world) befall(i int, how fault) (mend func()) {
	m, s := w.managers[i], w.spaces[i]
	switch how {
	case held:
		m.Stop()
		return m.Continue
	case late:
		s.Cut(w.toAgents)
		wait(w, 300*time.Millisecond) // what it asks of agents stays on its way
		m.Stop()
		return func() {
			s.Mend(w.toAgents)
			wait(w, 2*session) // the kernel sends it again
			m.Continue()
		}
	case noEtcd:
		s.Cut(w.toEtcd)
		return func() { s.Mend(w.toEtcd) }
	case noHosts:
		s.Cut(w.toAgents)
		return func() { s.Mend(w.toAgents) }
	case revoked:
		w.revoke()
		return func() {}
	default:
		m.Kill()
		return func() {
			m.Start()
			m.Ready()
		}
	}
}

// revoke revokes the lease of the leader's key.
func (w *world) revoke() {
	w.Helper()
	ctl := func(args ...string) []byte {
		ctx, cancel := context.WithTimeout(w.Context(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "etcdctl", append([]string{"--endpoints", strings.Join(w.etcd.URLs(), ",")}, args...)...) //nolint:gosec // the test's own
		cmd.Env = append(cmd.Environ(), "ETCDCTL_API=3")
		out, err := cmd.Output()
		w.must("etcdctl "+args[0], err)
		return out
	}
	var got struct {
		Kvs []struct{ Lease int64 }
	}
	w.must("read who leads", json.Unmarshal(ctl("get", "/vagoth/scheduler/who/leader", "-w", "json"), &got))
	if len(got.Kvs) == 1 {
		ctl("lease", "revoke", fmt.Sprintf("%x", got.Kvs[0].Lease))
	}
}

// honest asks a manager that was out about a job that ended without it, before it goes
// on and until all is well.
func (w *world) honest(round int, how fault, job string, sick *fleet.Manager, mend func()) {
	w.Helper()
	var asking sync.WaitGroup
	ask := func() {
		ctx, cancel := context.WithTimeout(w.Context(), 20*time.Second)
		defer cancel()
		st, err := sick.Client.Job(ctx, job)
		var answered *api.Error
		switch {
		case err == nil && !st.State.Ended():
			w.Errorf("round %d (%s): a manager that was out says of a job that has ended: %s", round, how, st.State)
		case errors.As(err, &answered) && answered.Status < 500:
			w.Errorf("round %d (%s): a manager that was out says of a job that has ended: %v", round, how, err)
		}
	}
	for range 8 {
		asking.Go(ask)
	}
	wait(w, 50*time.Millisecond) // they stand before it
	mend()
	for range 10 {
		asking.Go(ask)
		wait(w, 40*time.Millisecond)
	}
	asking.Wait()
}

// check is what must hold of the calls of a round.
func (w *world) check(round int, how fault, list []entry) {
	w.Helper()
	for _, e := range list {
		was, any := w.last[e.guest]
		switch {
		case e.token.IsZero():
			w.Errorf("round %d (%s): %s: without a token", round, how, e)
		case any && e.token.Compare(was.token) < 0:
			w.Errorf("round %d (%s): %s: after %s", round, how, e, was)
		case any && e.token != was.token && (was.end.IsZero() || e.begin.Before(was.end)):
			w.Errorf("round %d (%s): %s: while %s", round, how, e, was)
		}
		w.last[e.guest] = e
	}
	if len(list) == 0 {
		w.Errorf("round %d (%s): no host was asked for anything", round, how)
		return
	}
	// What the kernel still sends of a manager that was taken for dead comes seldom and by
	// chance; this is such a call.
	i := slices.IndexFunc(list, func(e entry) bool {
		last := w.last[e.guest]
		return e.host == last.host && e.token != last.token && last.op != "undefine"
	})
	if i < 0 {
		return
	}
	first := list[i]
	before := w.notes.len()
	ctx := trail.With(w.Context(), trail.Trail{Token: first.token})
	if _, _, err := w.askers[first.host].Act(ctx, first.guest, "reboot"); !errors.Is(err, mistify.ErrFenced) || w.notes.len() != before {
		w.Errorf("round %d (%s): a call with the token of %s, after %s: %v", round, how, first, w.last[first.guest], err)
	}
}

// load is jobs that are submitted for all VMs, through all managers.
type load struct {
	w    *world
	stop context.CancelFunc
	work sync.WaitGroup

	mu   sync.Mutex
	jobs []string // that were acknowledged
}

// waiting is how many jobs of one VM there are at a time.
const waiting = 3

func (w *world) load(chance *rand.Rand) *load {
	ctx, stop := context.WithCancel(w.Context())
	l := &load{w: w, stop: stop}
	for _, vm := range w.vms {
		own := rand.New(rand.NewPCG(chance.Uint64(), 1)) //nolint:gosec // a test's choices
		l.work.Go(func() { l.run(ctx, vm, own) })
	}
	return l
}

func (l *load) run(ctx context.Context, vm string, chance *rand.Rand) {
	actions := []string{virt.ActionStart, virt.ActionStart, virt.ActionReboot, virt.ActionSuspend, virt.ActionResume, virt.ActionStop, virt.ActionUndefine}
	var open []string
	for ctx.Err() == nil {
		var params map[string]any
		action := actions[chance.IntN(len(actions))]
		if action == virt.ActionStop && chance.IntN(2) == 0 {
			params = map[string]any{"grace": "1200ms"} // two calls, with time between them
		}
		first := chance.IntN(len(l.w.managers))
		job := l.w.submit(vm, action, params, append(slices.Clone(l.w.managers[first:]), l.w.managers[:first]...)...)
		l.mu.Lock()
		l.jobs = append(l.jobs, job)
		l.mu.Unlock()
		if open = append(open, job); len(open) == waiting {
			l.await(ctx, open[0])
			open = open[1:]
		}
		wait(l.w, time.Duration(50+chance.IntN(300))*time.Millisecond)
	}
}

// await waits until a job has ended, or ctx.
func (l *load) await(ctx context.Context, job string) {
	for i := 0; ctx.Err() == nil; i++ {
		asking, cancel := context.WithTimeout(ctx, 2*time.Second)
		st, err := l.w.managers[i%len(l.w.managers)].Client.WaitJob(asking, job, time.Second)
		cancel()
		if err == nil && st.State.Ended() {
			return
		}
		wait(l.w, 20*time.Millisecond)
	}
}

// end gives what was submitted.
func (l *load) end() []string {
	l.stop()
	l.work.Wait()
	return l.jobs
}

// submit submits a job, and again with the same key until somebody has taken it.
func (w *world) submit(vm, action string, params map[string]any, ask ...*fleet.Manager) (job string) {
	req := api.JobRequest{Action: action, Key: uuid.NewString()}
	if params != nil {
		doc, err := registry.NewDocument(params)
		if err != nil {
			w.Error(err)
		}
		req.Params = doc
	}
	for deadline, i := time.Now().Add(fleet.Patience), 0; ; i++ {
		ctx, cancel := context.WithTimeout(trail.With(w.Context(), trail.New("test", "a fault")), 3*time.Second)
		st, err := ask[i%len(ask)].Client.Do(ctx, vm, req)
		cancel()
		if err == nil {
			return st.ID
		}
		var answered *api.Error
		if errors.As(err, &answered) && answered.Status < 500 && answered.Status != 429 || time.Now().After(deadline) {
			w.Errorf("%s of %s was not taken: %v", action, vm, err)
			return ""
		}
		wait(w, 20*time.Millisecond)
	}
}
