package managers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/internal/testlong"
	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/test/etcdtest"
	"github.com/vagoth/vagoth/test/fleet"
	"github.com/vagoth/vagoth/test/testbed"
	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// swallower stands before an agent, and loses answers: what was asked for is done, and
// nobody is told. Each manager has a path of its own, by which it is known.
type swallower struct {
	*httptest.Server
	asked *asked
	rate  atomic.Int32 // of a hundred answers
	lost  atomic.Int32
}

// asked is who asked last for which action of an agent.
type asked struct {
	mu sync.Mutex
	by map[string]int
}

func (a *asked) note(action string, manager int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.by[action] = manager
}

// who is -1 if nobody did.
func (a *asked) who(action string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	if m, ok := a.by[action]; ok {
		return m
	}
	return -1
}

func (a *asked) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	clear(a.by)
}

func newSwallower(t *testing.T, agent string, chance *rand.Rand, who *asked) *swallower {
	t.Helper()
	to, err := url.Parse(agent)
	if err != nil {
		t.Fatal(err)
	}
	s := &swallower{asked: who}
	own := rand.New(rand.NewPCG(chance.Uint64(), 1)) //nolint:gosec // a test's choices
	var mu sync.Mutex
	transport := &http.Transport{}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			var manager int
			if _, err := fmt.Sscanf(r.In.URL.Path, "/m%d/", &manager); err == nil {
				r.Out.URL.Path = r.In.URL.Path[len("/m0"):]
				if r.In.Method == http.MethodPost {
					s.asked.note(path.Base(r.Out.URL.Path), manager)
				}
			}
			r.SetURL(to)
		},
		Transport: transport,
		ModifyResponse: func(*http.Response) error {
			mu.Lock()
			defer mu.Unlock()
			if own.Int32N(100) < s.rate.Load() {
				s.lost.Add(1)
				return http.ErrAbortHandler
			}
			return nil
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) { panic(http.ErrAbortHandler) }, // the connection ends
	}
	s.Server = httptest.NewServer(proxy)
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
		transport.CloseIdleConnections()
	})
	return s
}

// free is an address that nobody listens at.
func free() string {
	s := httptest.NewUnstartedServer(nil)
	defer func() { _ = s.Listener.Close() }()
	return s.Listener.Addr().String()
}

// pair is two managers on etcd above two agents whose answers get lost.
type pair struct {
	*testing.T
	hosts    map[string]*testbed.Daemon
	names    []string
	gates    map[string]*testbed.Gate // before each host's libvirtd, where what moves comes in
	agents   []*fleet.Agent           // in the order of names
	clients  []*mistify.Client        // of the agents, as the test asks them
	losing   []*swallower
	asked    *asked
	managers []*fleet.Manager
	listen   []string
}

func newPair(t *testing.T, run fleet.Program, chance *rand.Rand) *pair {
	t.Helper()
	p := &pair{T: t, names: []string{"h1", "h2"}, asked: &asked{by: map[string]int{}}, hosts: map[string]*testbed.Daemon{}, gates: map[string]*testbed.Gate{}}
	server := etcdtest.Run(t, etcdtest.Options{})
	for _, name := range p.names {
		p.hosts[name] = testbed.NewLibvirt(t, name)
		p.gates[name] = testbed.NewGate(t, p.hosts[name].Socket())
	}
	for _, name := range p.names {
		d := p.hosts[name]
		a := fleet.NewAgent(t, run, nil, "agent of "+name, free(), nil, "[subagent.libvirt]\nuri = "+d.URI()+"\nemulator = qemu\npeers = "+p.gates[p.other(name)].URI()+"\n[subagent.dir]\nlibvirt = "+d.URI()+"\n")
		p.losing = append(p.losing, newSwallower(t, "http://"+a.Address, chance, p.asked))
		p.agents, p.clients = append(p.agents, a), append(p.clients, direct(t, a))
	}
	for i := range 2 {
		listen := free() // it stays, and who leads is told by it
		etcd := "endpoints = " + server.URL() + "\n"
		m := fleet.NewManager(t, run, nil, fmt.Sprint("manager ", i), "[registry]\nuse = etcd\n"+etcd+"timeout = 5s\n[scheduler]\nuse = etcd\n"+etcd+
			"timeout = 1s\nsession = 2s\nlisten = "+listen+"\n[serve]\nlog_level = warn\n[monitor.poll]\nevery = @every 5s\n[drivers.agents]\nuse = remote\nurl = http://{host}/m"+fmt.Sprint(i)+"\ntimeout = 10s\n")
		m.Start()
		p.managers, p.listen = append(p.managers, m), append(p.listen, listen)
	}
	for _, m := range p.managers {
		m.Ready()
	}
	for i, name := range p.names {
		p.create(name, virt.TypeHypervisor, virt.HostDefinition{Driver: "agents", Address: strings.TrimPrefix(p.losing[i].URL, "http://"), Peer: p.gates[name].URI()})
	}
	fleet.Until(t, "both hosts are up", func(ctx context.Context) bool {
		r, err := p.managers[0].Client.Poll(ctx)
		return err == nil && len(r.Hosts) == 2 && r.Hosts[0].State == virt.Up && r.Hosts[1].State == virt.Up
	})
	return p
}

// direct asks an agent, and loses no answers.
func direct(t *testing.T, a *fleet.Agent) *mistify.Client {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := mistify.NewClient("http://"+a.Address, mistify.ClientOptions{Transport: transport})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// does are the actions that agents are at, whatever becomes of the manager that asked.
func (p *pair) does() (actions []string, err error) {
	for _, a := range p.clients {
		jobs, err := a.Jobs(p.Context(), 5)
		if err != nil {
			return nil, err
		}
		for _, j := range jobs {
			if !j.Status.Ended() {
				actions = append(actions, j.Action)
			}
		}
	}
	return actions, nil
}

func (p *pair) create(id, kind string, definition any) {
	p.Helper()
	doc, err := registry.NewDocument(definition)
	if err == nil {
		_, err = p.managers[0].Client.Create(p.Context(), api.CreateRequest{Spec: provisioner.Spec{ID: id, Type: kind, Definition: doc}})
	}
	if err != nil {
		p.Fatal(err)
	}
	for _, m := range p.managers { // what one has written another shows a moment later
		if _, err := m.Client.Consistent().Node(p.Context(), id); err != nil {
			p.Fatal(err)
		}
	}
}

// leader is who leads.
func (p *pair) leader() (place int) {
	p.Helper()
	fleet.Until(p, "somebody leads", func(ctx context.Context) bool {
		place = -1
		for _, m := range p.managers {
			v, err := m.Client.Version(ctx)
			if err != nil || v.Shared == nil || v.Shared.Error != "" {
				return false
			}
			i := slices.IndexFunc(v.Shared.Managers, func(m scheduler.Manager) bool { return m.Leads })
			if i < 0 {
				return false
			}
			at := slices.Index(p.listen, v.Shared.Managers[i].Address)
			if at < 0 || place >= 0 && at != place {
				return false
			}
			place = at
		}
		return true
	})
	return place
}

// ask has an action of the VM queued, whoever takes it, once.
func (p *pair) ask(vm, action string, params map[string]any) (job string) {
	p.Helper()
	req := api.JobRequest{Action: action, Key: uuid.NewString()}
	if params != nil {
		var err error
		if req.Params, err = registry.NewDocument(params); err != nil {
			p.Fatal(err)
		}
	}
	i := 0
	fleet.Until(p, action+" of "+vm+" is taken", func(ctx context.Context) bool {
		i++
		st, err := p.managers[i%2].Client.Do(trail.With(ctx, trail.New("test", "once")), vm, req)
		var answered *api.Error
		if errors.As(err, &answered) && answered.Status < 500 {
			p.Fatalf("%s of %s: %v", action, vm, err)
		}
		job = st.ID
		return err == nil
	})
	return job
}

// end waits for the end of a job.
func (p *pair) end(job string) (st scheduler.Status) {
	p.Helper()
	i := 0
	fleet.Until(p, "the job "+job+" ends", func(ctx context.Context) bool {
		i++
		got, err := p.managers[i%2].Client.WaitJob(ctx, job, time.Second)
		st = got
		return err == nil && got.State.Ended()
	})
	return st
}

// done asks until it has succeeded: an answer that is lost can fail a job.
func (p *pair) done(vm, action string, params map[string]any) {
	p.Helper()
	var st scheduler.Status
	for range 10 {
		if st = p.end(p.ask(vm, action, params)); st.State == scheduler.Succeeded {
			return
		}
	}
	p.Fatalf("%s of %s did not succeed in ten jobs: %s", action, vm, st.Error)
}

// node is a VM as all managers have it.
func (p *pair) node(vm string) *registry.Node {
	p.Helper()
	it, err := p.managers[0].Client.Consistent().Node(p.Context(), vm)
	if err != nil {
		p.Fatal(err)
	}
	return it.Node
}

func (p *pair) other(name string) string {
	if name == p.names[0] {
		return p.names[1]
	}
	return p.names[0]
}

// onOneHost kills the manager that leads in the middle of starts and migrations while
// answers of the agents are lost, and starts it again. A sampler that asks both libvirtd
// itself never sees a VM run on both. After each round the VM runs where the registry says,
// and only there it is defined.
func onOneHost(t *testing.T, run fleet.Program) {
	seed := uint64(testlong.Seed(t))
	chance := rand.New(rand.NewPCG(seed, seed)) //nolint:gosec // a test's choices
	p := newPair(t, run, chance)
	looks := newSampler(t, p.hosts["h1"], p.hosts["h2"])
	const vm = "web1"
	p.create(vm, virt.TypeVM, virt.Definition{CPU: 1, Memory: 32, Console: virt.Console{Serial: "none"}})
	p.done(vm, virt.ActionStart, nil)
	rounds := len(kinds) // with guests that are emulated a tenth takes too long
	if testlong.Long() {
		rounds = testlong.Count(t, 50)
	}
	r := results{ends: map[string]int{}, amid: map[string]int{}}
	for i := range rounds {
		p.round(i, vm, chance, &r)
		if t.Failed() {
			break
		}
	}
	looks.end()
	looks.never()
	t.Logf("%d rounds; %d answers were lost; what an agent was at when the manager died that had asked for it: %v; jobs of these rounds ended as %v",
		rounds, p.losing[0].lost.Load()+p.losing[1].lost.Load(), r.amid, r.ends)
	if testlong.Long() && (r.amid["migrate"] == 0 || r.amid["start"] == 0) {
		t.Error("no manager died in the middle of a migrate, or of a start: this has shown nothing of them")
	}
	p.done(vm, virt.ActionStop, nil)
}

// afterAgents kills the agent of the host that a VM leaves while the other host's libvirtd
// does not answer, and lets that go on when the agent is back: what its libvirtd went on
// with is known to nobody but that.
func afterAgents(t *testing.T, run fleet.Program) {
	p := newPair(t, run, rand.New(rand.NewPCG(1, 1))) //nolint:gosec // no answer is lost
	looks := newSampler(t, p.hosts["h1"], p.hosts["h2"])
	const vm = "web1"
	p.create(vm, virt.TypeVM, virt.Definition{CPU: 1, Memory: 32, Console: virt.Console{Serial: "none"}})
	rounds := 1
	if testlong.Long() {
		rounds = testlong.Count(t, 10)
	}
	ends := map[scheduler.State]int{}
	for i := 0; i < rounds && !t.Failed(); i++ {
		p.done(vm, virt.ActionStart, nil)
		from := p.node(vm).Parent()
		gate := p.gates[p.other(from)]
		gate.Shut()
		job := p.ask(vm, virt.ActionMigrate, map[string]any{"to": p.other(from)})
		<-gate.Arrived
		agent := p.agents[slices.Index(p.names, from)]
		agent.Kill()
		agent.Start()
		fleet.Until(t, "the agent is back, and at it", func(context.Context) bool {
			does, err := p.does()
			return err == nil && slices.Contains(does, mistify.ActionMigrate)
		})
		gate.Open()
		st := p.end(job)
		ends[st.State]++
		if st.State != scheduler.Succeeded {
			t.Logf("round %d: it %s in attempt %d: %s", i, st.State, st.Attempt, st.Error)
		}
		p.done(vm, virt.ActionStart, nil)
		p.agree(i, vm)
	}
	looks.end()
	looks.never()
	t.Logf("%d rounds; the jobs ended as %v", rounds, ends)
	p.done(vm, virt.ActionStop, nil)
}

// results are what the rounds came to.
type results struct {
	ends map[string]int // of jobs
	amid map[string]int // actions of agents whose manager died while they went on
}

// kinds are what is under way in a round, one after the other: a VM that runs is moved, one
// that is off is moved and started, and one is placed anew.
var kinds = []string{"live", "cold", "anew"}

// amid are the actions of an agent amid which a manager dies; "" is anywhere.
var amid = map[string][]string{"live": {"migrate", "migrate", "migrate", ""}, "cold": {"define", "undefine", "start", ""}, "anew": {"define", "start", "start", ""}}

func (p *pair) round(round int, vm string, chance *rand.Rand, r *results) {
	p.Helper()
	kind := kinds[round%len(kinds)]
	p.done(vm, map[string]string{"live": virt.ActionStart, "cold": virt.ActionStop, "anew": virt.ActionStop}[kind], nil)
	if kind == "anew" {
		p.done(vm, virt.ActionUndefine, nil) // it is placed anew, wherever
	}
	victim := p.leader()
	p.asked.forget()
	for _, s := range p.losing {
		s.rate.Store(15)
	}
	var jobs []string
	if kind != "anew" {
		jobs = append(jobs, p.ask(vm, virt.ActionMigrate, map[string]any{"to": p.other(p.node(vm).Parent())}))
	}
	if kind != "live" {
		jobs = append(jobs, p.ask(vm, virt.ActionStart, nil))
	}
	// The moment of death is the point here, and nothing waits for it. Mostly it is soon
	// after an agent was asked for what the round is about, and whoever asked dies.
	action := amid[kind][chance.IntN(len(amid[kind]))]
	if action == "" {
		wait(p, time.Duration(chance.IntN(600))*time.Millisecond)
	} else {
		for deadline := time.Now().Add(10 * time.Second); p.asked.who(action) < 0 && time.Now().Before(deadline); {
			wait(p, 2*time.Millisecond)
		}
		wait(p, time.Duration(chance.IntN(200))*time.Millisecond)
		victim = max(p.asked.who(action), 0)
	}
	p.managers[victim].Kill()
	does, err := p.does()
	if err != nil {
		p.Fatal(err)
	}
	if p.asked.who(action) == victim && slices.Contains(does, action) {
		r.amid[action]++
	}
	for _, j := range jobs {
		st := p.end(j)
		r.ends[fmt.Sprintf("%s %s", st.Action, st.State)]++
		if st.State != scheduler.Succeeded {
			p.Logf("round %d: %s %s in attempt %d: %s", round, st.Action, st.State, st.Attempt, st.Error)
		}
	}
	p.managers[victim].Start()
	p.managers[victim].Ready()
	for _, s := range p.losing {
		s.rate.Store(0)
	}
	p.done(vm, virt.ActionStart, nil) // if an answer that was lost failed the other
	p.agree(round, vm)
}

// agree compares where the registry has the VM that runs with where it is.
func (p *pair) agree(round int, vm string) {
	p.Helper()
	n := p.node(vm)
	if n.State() != string(virt.Running) || virt.MovesTo(n) != "" {
		p.Errorf("round %d: started, the VM is %s on %q, and moves to %q", round, n.State(), n.Parent(), virt.MovesTo(n))
	}
	id, err := virt.GuestOf(n)
	if err != nil {
		p.Fatal(err)
	}
	for _, name := range p.names {
		want := name == n.Parent()
		h := p.hosts[name]
		switch {
		case want: // a start whose answer was lost may be at it still
			fleet.Until(p, fmt.Sprintf("round %d: the VM runs on %s, as the registry says", round, name), func(context.Context) bool {
				return slices.Contains(domains(p, h, "--state-running"), id.UUID)
			})
		case slices.Contains(domains(p, h, "--state-running"), id.UUID):
			p.Errorf("round %d: the registry has the VM on %q, and it runs on %s", round, n.Parent(), name)
		}
		if there := slices.Contains(domains(p, h, "--all"), id.UUID); there != want {
			p.Errorf("round %d: the registry has the VM on %q; that it is defined on %s is %t", round, n.Parent(), name, there)
		}
	}
}

// domains are those of a host's libvirtd, whatever its agent says.
func domains(t testing.TB, h *testbed.Daemon, more ...string) []string {
	t.Helper()
	return strings.Fields(h.Virsh(t, append([]string{"list", "--uuid"}, more...)...))
}
