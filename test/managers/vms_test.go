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
)

// swallower stands before an agent, and loses answers: what was asked for is done, and
// nobody is told.
type swallower struct {
	*httptest.Server
	rate atomic.Int32 // of a hundred answers
	lost atomic.Int32
}

func newSwallower(t *testing.T, agent string, chance *rand.Rand) *swallower {
	t.Helper()
	to, err := url.Parse(agent)
	if err != nil {
		t.Fatal(err)
	}
	s := &swallower{}
	own := rand.New(rand.NewPCG(chance.Uint64(), 1)) //nolint:gosec // a test's choices
	var mu sync.Mutex
	transport := &http.Transport{}
	proxy := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(to) },
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
	losing   []*swallower
	managers []*fleet.Manager
	listen   []string
}

func newPair(t *testing.T, run fleet.Program, chance *rand.Rand) *pair {
	t.Helper()
	p := &pair{T: t, names: []string{"h1", "h2"}, hosts: map[string]*testbed.Daemon{}}
	server := etcdtest.Run(t, etcdtest.Options{})
	for _, name := range p.names {
		d := testbed.NewLibvirt(t, name)
		p.hosts[name] = d
		a := fleet.NewAgent(t, run, nil, "agent of "+name, free(), nil, "[subagent.libvirt]\nuri = "+d.URI()+"\nemulator = qemu\n[subagent.dir]\nlibvirt = "+d.URI()+"\n")
		p.losing = append(p.losing, newSwallower(t, "http://"+a.Address, chance))
	}
	for i := range 2 {
		listen := free() // it stays, and who leads is told by it
		etcd := "endpoints = " + server.URL() + "\n"
		m := fleet.NewManager(t, run, nil, fmt.Sprint("manager ", i), "[registry]\nuse = etcd\n"+etcd+"timeout = 5s\n[scheduler]\nuse = etcd\n"+etcd+
			"timeout = 1s\nsession = 2s\nlisten = "+listen+"\n[serve]\nlog_level = warn\n[monitor.poll]\nevery = @every 5s\n[drivers.agents]\nuse = remote\nurl = http://{host}\ntimeout = 10s\n")
		m.Start()
		p.managers, p.listen = append(p.managers, m), append(p.listen, listen)
	}
	for _, m := range p.managers {
		m.Ready()
	}
	for i, name := range p.names {
		p.create(name, virt.TypeHypervisor, virt.HostDefinition{Driver: "agents", Address: strings.TrimPrefix(p.losing[i].URL, "http://")})
	}
	fleet.Until(t, "both hosts are up", func(ctx context.Context) bool {
		r, err := p.managers[0].Client.Poll(ctx)
		return err == nil && len(r.Hosts) == 2 && r.Hosts[0].State == virt.Up && r.Hosts[1].State == virt.Up
	})
	return p
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
// itself never sees a VM on both, in no window: an agent moves only what is off. After each
// round the VM runs where the registry says, and only there it is defined.
func onOneHost(t *testing.T, run fleet.Program) {
	seed := uint64(testlong.Seed(t))
	chance := rand.New(rand.NewPCG(seed, seed)) //nolint:gosec // a test's choices
	p := newPair(t, run, chance)
	looks := newSampler(t, p.hosts["h1"], p.hosts["h2"])
	const vm = "web1"
	p.create(vm, virt.TypeVM, virt.Definition{CPU: 1, Memory: 32, Console: virt.Console{Serial: "none"}})
	p.done(vm, virt.ActionDefine, nil)
	rounds := 2 // with guests that are emulated a tenth takes too long
	if testlong.Long() {
		rounds = testlong.Count(t, 50)
	}
	ends := map[string]int{}
	for round := range rounds {
		p.round(round, vm, chance, ends)
		if t.Failed() {
			break
		}
	}
	looks.end()
	looks.never()
	t.Logf("%d rounds; %d answers were lost; jobs over which a manager died ended as %v", rounds, p.losing[0].lost.Load()+p.losing[1].lost.Load(), ends)
	p.done(vm, virt.ActionStop, nil)
}

func (p *pair) round(round int, vm string, chance *rand.Rand, ends map[string]int) {
	p.Helper()
	p.done(vm, virt.ActionStop, nil)
	if round%2 == 1 { // it is placed anew, wherever
		p.done(vm, virt.ActionUndefine, nil)
	}
	lead := p.leader()
	for _, s := range p.losing {
		s.rate.Store(15)
	}
	var jobs []string
	if round%2 == 0 {
		jobs = append(jobs, p.ask(vm, virt.ActionMigrate, map[string]any{"to": p.other(p.node(vm).Parent())}))
	}
	jobs = append(jobs, p.ask(vm, virt.ActionStart, nil))
	// The moment of death is the point here, and nothing waits for it.
	timer := time.NewTimer(time.Duration(chance.IntN(600)) * time.Millisecond)
	<-timer.C
	p.managers[lead].Kill()
	for _, j := range jobs {
		st := p.end(j)
		ends[fmt.Sprintf("%s %s", st.Action, st.State)]++
		if st.State != scheduler.Succeeded {
			p.Logf("round %d: %s %s in attempt %d: %s", round, st.Action, st.State, st.Attempt, st.Error)
		}
	}
	p.managers[lead].Start()
	p.managers[lead].Ready()
	for _, s := range p.losing {
		s.rate.Store(0)
	}
	p.done(vm, virt.ActionStart, nil) // if an answer that was lost failed the other
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
		if on := slices.Contains(domains(p, h, "--state-running"), id.UUID); on != want {
			p.Errorf("round %d: the registry has the VM on %q; that it runs on %s is %t", round, n.Parent(), name, on)
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
