package etcdtest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vagoth/vagoth/test/testbed"
)

// Site is networks and the namespaces on them, which are gone after the test. It needs
// root.
type Site struct {
	t      testing.TB
	number int
	mark   string // what the names of all begin with
	nets   []*Net
	spaces []*Space
	ports  int

	mu sync.Mutex // of cuts
}

// Net is a bridge with an address of this process on it.
type Net struct {
	s      *Site
	bridge string
	base   string // the first three numbers of the addresses
}

// Space is a network namespace with an interface on each of some nets.
type Space struct {
	s     *Site
	name  string
	ports map[*Net]*port
}

type port struct {
	outside string
	address string
	cut     bool
}

// NewSite makes one that has nothing yet. Tests of one process that run side by side
// give it different numbers, from 0 to 9.
func NewSite(t testing.TB, number int) *Site {
	t.Helper()
	testbed.Need(t, "netns")
	sweep()
	s := &Site{t: t, number: number, mark: fmt.Sprintf("%s%ds%d", mark, os.Getpid(), number)}
	t.Cleanup(s.end)
	return s
}

// Net adds a network. There are at most four.
func (s *Site) Net() *Net {
	s.t.Helper()
	n := &Net{s: s, bridge: fmt.Sprintf("%sb%d", s.mark, len(s.nets)), base: fmt.Sprintf("10.%d.%d", 213+4*s.number+len(s.nets), os.Getpid()%250)}
	s.nets = append(s.nets, n)
	s.must("link", "add", n.bridge, "type", "bridge")
	s.must("addr", "add", n.base+".1/24", "dev", n.bridge)
	s.must("link", "set", n.bridge, "up")
	return n
}

// Space adds a namespace that is on these networks.
func (s *Site) Space(nets ...*Net) *Space {
	s.t.Helper()
	p := &Space{s: s, name: fmt.Sprintf("%s-%d", s.mark, len(s.spaces)), ports: map[*Net]*port{}}
	s.spaces = append(s.spaces, p)
	s.must("netns", "add", p.name)
	s.must("-n", p.name, "link", "set", "lo", "up")
	for i, n := range nets {
		inside := fmt.Sprintf("eth%d", i)
		o := &port{outside: fmt.Sprintf("%sv%d", s.mark, s.ports), address: fmt.Sprintf("%s.%d", n.base, 10+len(s.spaces))}
		s.ports++
		s.must("link", "add", o.outside, "type", "veth", "peer", "name", inside, "netns", p.name)
		s.must("link", "set", o.outside, "master", n.bridge, "up")
		s.must("-n", p.name, "addr", "add", o.address+"/24", "dev", inside)
		s.must("-n", p.name, "link", "set", inside, "up")
		p.ports[n] = o
	}
	return p
}

// Address is where the namespace is reached on a network.
func (p *Space) Address(n *Net) string { return p.ports[n].address }

// Command is a command that runs in the namespace, and ends with this process.
func (p *Space) Command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command("ip", append([]string{"netns", "exec", p.name, name}, args...)...) //nolint:noctx // it ends with the test
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// Cut takes the namespace off a network, without telling anybody, until Mend.
func (p *Space) Cut(n *Net) { p.plug(n, true, "nomaster") }

// Mend puts it back.
func (p *Space) Mend(n *Net) { p.plug(n, false, "master", n.bridge) }

func (p *Space) plug(n *Net, cut bool, to ...string) {
	p.s.mu.Lock()
	defer p.s.mu.Unlock()
	o := p.ports[n]
	if o.cut == cut {
		return
	}
	if err := run("ip", append([]string{"link", "set", o.outside}, to...)...); err != nil {
		p.s.t.Error(err)
	}
	o.cut = cut
}

func (s *Site) must(args ...string) {
	s.t.Helper()
	if err := run("ip", args...); err != nil {
		s.t.Fatal(err)
	}
}

func (s *Site) end() {
	for _, p := range s.spaces {
		_ = run("ip", "netns", "del", p.name) // its half of each pair of interfaces goes with it
	}
	for _, n := range s.nets {
		_ = run("ip", "link", "del", n.bridge)
	}
}

func run(name string, args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, out)
	}
	return nil
}
