package managers

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/monitor"
	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/test/etcdtest"
	"github.com/vagoth/vagoth/test/fleet"
	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/sim"
	subagent "github.com/vagoth/vagoth/virt/subagent/sim"
)

// entry is one call that a host was sent: an agent took it, and its sub-agent wrote it
// down.
type entry struct {
	host       string
	guest, op  string
	token      trail.Token
	begin, end time.Time
}

func (e entry) String() string {
	return fmt.Sprintf("%s %s with the token %s from %s to %s", e.op, e.guest, e.token, e.begin.Format("05.000"), e.end.Format("05.000"))
}

// notes is the ledger of all hosts, in the order in which calls began.
type notes struct {
	mu  sync.Mutex
	all []*entry
}

// since gives what has ended, from the given place on.
func (n *notes) since(i int) []entry {
	n.mu.Lock()
	defer n.mu.Unlock()
	var list []entry
	for _, e := range n.all[i:] {
		list = append(list, *e)
	}
	return list
}

func (n *notes) len() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(n.all)
}

// hosts are simulated hosts that write down what they are asked to change, and take
// their time for it.
type hosts struct {
	*sim.Driver
	notes *notes
}

const takes = 30 * time.Millisecond

func (h hosts) note(ctx context.Context, on virt.Host, g virt.Guest, op string, do func() error) error {
	e := &entry{host: on.ID, guest: g.UUID, op: op, token: trail.From(ctx).Token, begin: time.Now()}
	h.notes.mu.Lock()
	h.notes.all = append(h.notes.all, e)
	h.notes.mu.Unlock()
	defer func() {
		h.notes.mu.Lock()
		defer h.notes.mu.Unlock()
		e.end = time.Now()
	}()
	t := time.NewTimer(takes)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		return ctx.Err()
	}
	return do()
}

func (h hosts) Define(ctx context.Context, on virt.Host, g virt.Guest) error {
	return h.note(ctx, on, g, "define", func() error { return h.Driver.Define(ctx, on, g) })
}

func (h hosts) Undefine(ctx context.Context, on virt.Host, g virt.Guest) error {
	return h.note(ctx, on, g, "undefine", func() error { return h.Driver.Undefine(ctx, on, g) })
}

func (h hosts) Power(ctx context.Context, on virt.Host, g virt.Guest, op virt.PowerOp) error {
	return h.note(ctx, on, g, string(op), func() error { return h.Driver.Power(ctx, on, g, op) })
}

func (h hosts) Suspend(ctx context.Context, on virt.Host, g virt.Guest) error {
	return h.note(ctx, on, g, "suspend", func() error { return h.Driver.Suspend(ctx, on, g) })
}

func (h hosts) Resume(ctx context.Context, on virt.Host, g virt.Guest) error {
	return h.note(ctx, on, g, "resume", func() error { return h.Driver.Resume(ctx, on, g) })
}

// world is managers and agents as processes: each manager has three ways that can be cut,
// to etcd, to the other managers, and to the agents.
type world struct {
	*testing.T
	etcd     *etcdtest.Cluster
	toEtcd   *etcdtest.Net
	toAgents *etcdtest.Net
	spaces   []*etcdtest.Space // of the managers
	address  []string          // at which the others reach them
	managers []*fleet.Manager
	agents   []*fleet.Agent
	askers   map[string]*mistify.Client // by host: its agent, asked by the test
	notes    notes
	last     map[string]entry // by guest, that was checked
	vms      []string
}

// session is the least that a manager can have. It is taken for dead after it.
const session = 2 * time.Second

// newWorld starts so many of each; members are those of etcd. Tests that run side by side
// have different numbers.
func newWorld(t *testing.T, run fleet.Program, number, members, managers, agents, vms int) *world {
	t.Helper()
	w := &world{T: t, last: map[string]entry{}, askers: map[string]*mistify.Client{}}
	site := etcdtest.NewSite(t, number)
	w.toEtcd, w.toAgents = site.Net(), site.Net()
	others := site.Net()
	w.etcd = etcdtest.StartOn(t, w.toEtcd, members)
	var spaces []*etcdtest.Space
	var addresses []string
	for range agents {
		s := site.Space(w.toAgents)
		spaces, addresses = append(spaces, s), append(addresses, s.Address(w.toAgents))
	}
	cert := fleet.NewCertificate(t, addresses...)
	sims, err := sim.Open(t.Context(), sim.Defaults(), virt.DriverDeps{})
	w.must("open the hosts", err)
	var drivers strings.Builder
	for i := range agents {
		socket := w.serve(hosts{sims, &w.notes}, fmt.Sprint("h", i))
		a := fleet.NewAgent(t, run, spaces[i], fmt.Sprint("agent ", i), addresses[i]+":8080", cert, "[agent.service.sim]\nsocket = "+socket+"\nmax_pending = 16\n")
		w.agents = append(w.agents, a)
		w.askers[fmt.Sprint("h", i)] = w.asker(a, cert)
		fmt.Fprintf(&drivers, "[drivers.a%d]\nuse = remote\nurl = https://%s\nca = %s\ntoken = %s\ntimeout = 1s\njob_timeout = 20s\n", i, a.Address, cert.Cert, a.Token)
	}
	etcd := "endpoints = " + strings.Join(w.etcd.URLs(), ", ") + "\n"
	for i := range managers {
		s := site.Space(w.toEtcd, others, w.toAgents)
		at := s.Address(others) + ":7411"
		ini := "[registry]\nuse = etcd\n" + etcd + "timeout = 3s\nsession = 5s\n[scheduler]\nuse = etcd\n" + etcd +
			fmt.Sprintf("timeout = %s\nsession = %s\nlisten = %s\n[monitor.poll]\nevery = @every 5s\ntimeout = 1s\n", session/2, session, at) + "[serve]\nlog_level = warn\n[node_types]\nhv = hypervisor\nvm = vm\nthing = any\n[actions]\ntick = exec:/bin/true\n" + drivers.String()
		m := fleet.NewManager(t, run, s, fmt.Sprint("manager ", i), ini)
		m.Start()
		w.spaces, w.address, w.managers = append(w.spaces, s), append(w.address, at), append(w.managers, m)
	}
	for _, m := range w.managers {
		m.Ready()
	}
	for i := range agents {
		w.create(fmt.Sprint("h", i), virt.TypeHypervisor, virt.HostDefinition{Driver: fmt.Sprint("a", i)})
	}
	fleet.Until(t, "the hosts are up", func(ctx context.Context) bool {
		r, err := w.managers[0].Client.Poll(ctx)
		return err == nil && len(r.Hosts) == agents && !slices.ContainsFunc(r.Hosts, func(h monitor.HostReport) bool { return h.State != virt.Up })
	})
	for i := range vms {
		id := fmt.Sprint("vm", i)
		w.create(id, virt.TypeVM, virt.Definition{CPU: 1, Memory: 64})
		w.vms = append(w.vms, id)
	}
	return w
}

// serve is the sub-agent of a host, at a socket that its agent asks.
func (w *world) serve(d hosts, name string) (socket string) {
	w.Helper()
	s := mistify.NewServer(mistify.ServerOptions{})
	subagent.New(d, virt.Host{ID: name}, subagent.Options{}).Register(s)
	socket = filepath.Join(w.TempDir(), "sub.sock")
	l, err := net.Listen("unix", socket)
	w.must("listen", err)
	server := &http.Server{Handler: s, ReadHeaderTimeout: 10 * time.Second}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = server.Serve(l) // until it is closed
	}()
	w.Cleanup(func() {
		_ = server.Close()
		<-done
	})
	return socket
}

// asker asks an agent as a manager does.
func (w *world) asker(a *fleet.Agent, c *fleet.Certificate) *mistify.Client {
	w.Helper()
	pem, err := os.ReadFile(c.Cert)
	w.must("read the certificate", err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	transport := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots}}
	w.Cleanup(transport.CloseIdleConnections)
	client, err := mistify.NewClient("https://"+a.Address, mistify.ClientOptions{Transport: transport, Token: func() string { return a.Token }})
	w.must("make a client", err)
	return client
}

func (w *world) must(what string, err error) {
	w.Helper()
	if err != nil {
		w.Fatalf("%s: %v", what, err)
	}
}

func (w *world) create(id, kind string, definition any) {
	w.Helper()
	doc, err := registry.NewDocument(definition)
	if err == nil {
		_, err = w.managers[0].Client.Create(w.Context(), api.CreateRequest{Spec: provisioner.Spec{ID: id, Type: kind, Definition: doc}})
	}
	w.must("create "+id, err)
	for _, m := range w.managers { // what one has written another shows a moment later
		_, err := m.Client.Consistent().Node(w.Context(), id)
		w.must("read "+id, err)
	}
}

// leader is who leads as this manager sees it, by its place and the name of its session;
// -1 if it sees nobody.
func (w *world) leader(as int) (place int, name string) {
	ctx, cancel := context.WithTimeout(w.Context(), time.Second)
	defer cancel()
	v, err := w.managers[as].Client.Version(ctx)
	if err != nil || v.Shared == nil || v.Shared.Error != "" {
		return -1, ""
	}
	for _, m := range v.Shared.Managers {
		for i, a := range w.address {
			if m.Leads && m.Address == a {
				return i, m.Name
			}
		}
	}
	return -1, ""
}

// settled waits until all managers see the same one lead.
func (w *world) settled() (place int, name string) {
	w.Helper()
	fleet.Until(w, "all see the same manager lead", func(context.Context) bool {
		place, name = w.leader(0)
		for i := range w.managers {
			if at, as := w.leader(i); at < 0 || at != place || as != name {
				return false
			}
		}
		return true
	})
	return place, name
}

// ended waits for the end of a job, whoever tells it.
func (w *world) ended(id string, ask ...*fleet.Manager) (st scheduler.Status) {
	w.Helper()
	for deadline, i := time.Now().Add(fleet.Patience), 0; ; i++ {
		ctx, cancel := context.WithTimeout(w.Context(), 5*time.Second)
		got, err := ask[i%len(ask)].Client.WaitJob(ctx, id, 2*time.Second)
		cancel()
		if err == nil && got.State.Ended() {
			return got
		}
		if time.Now().After(deadline) {
			w.Fatalf("the job %s does not end within %s: %+v, %v", id, fleet.Patience, got, err)
		}
	}
}
