package etcdtest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vagoth/vagoth/test/testbed"
)

// Cluster is members of Debian's etcd, each a process in a network namespace
// of its own on one network.
type Cluster struct {
	t       testing.TB
	net     *Net
	members []*member

	mu sync.Mutex // of what is done to members
}

type member struct {
	dir     string
	space   *Space // nil if it is in none
	cmd     *exec.Cmd
	ended   chan struct{} // closed when cmd has
	stopped bool          // by SIGSTOP
}

// Size is how many members a cluster has that needs no other number.
const Size = 3

// Start starts a cluster of Size, which ends with the test. It needs root, namespaces and
// etcd (test/testbed/setup installs it).
func Start(t testing.TB) *Cluster {
	t.Helper()
	return StartOn(t, NewSite(t, 0).Net(), Size)
}

// StartOn starts a cluster of so many members on a network where others are, too.
func StartOn(t testing.TB, n *Net, size int) *Cluster {
	t.Helper()
	testbed.Need(t, "netns", "etcd")
	dir := scratch(t)
	c := &Cluster{t: t, net: n}
	for i := range size {
		c.members = append(c.members, &member{dir: filepath.Join(dir, fmt.Sprintf("m%d", i)), space: n.s.Space(n)})
	}
	t.Cleanup(c.end)
	for i := range c.members {
		c.start(i)
	}
	c.Ready(time.Minute)
	return c
}

func (c *Cluster) address(i int) string { return c.members[i].space.Address(c.net) }

// URLs are those of the members.
func (c *Cluster) URLs() []string {
	var urls []string
	for i := range c.members {
		urls = append(urls, "http://"+c.address(i)+":2379")
	}
	return urls
}

// start starts a member that does not run.
func (c *Cluster) start(i int) {
	m := c.members[i]
	var all []string
	for j := range c.members {
		all = append(all, fmt.Sprintf("m%d=http://%s:2380", j, c.address(j)))
	}
	client, peer := "http://"+c.address(i)+":2379", "http://"+c.address(i)+":2380"
	if err := m.run(m.space.Command("etcd", "--name", fmt.Sprintf("m%d", i), "--data-dir", m.dir, "--listen-client-urls", client, "--advertise-client-urls", client,
		"--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", strings.Join(all, ","),
		"--heartbeat-interval", "50", "--election-timeout", "500", "--logger", "zap", "--log-outputs", "stderr")); err != nil {
		c.t.Error(err)
	}
}

// run starts the member's process, which ends with this one.
func (m *member) run(cmd *exec.Cmd) error {
	out, err := os.OpenFile(m.dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer func() { _ = out.Close() }()
	m.cmd = cmd
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	m.ended = make(chan struct{})
	go func(ended chan struct{}) {
		defer close(ended)
		_ = cmd.Wait()
	}(m.ended)
	return nil
}

// signal sends to the member's process.
func (m *member) signal(s syscall.Signal) { _ = syscall.Kill(-m.cmd.Process.Pid, s) }

// Kill kills a member, which Mend starts again.
func (c *Cluster) Kill(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kill(i)
}

func (c *Cluster) kill(i int) {
	m := c.members[i]
	m.signal(syscall.SIGKILL)
	<-m.ended
	m.stopped = false
}

// Restart ends a member as its operator would, or kills it, and starts it again.
func (c *Cluster) Restart(i int, how syscall.Signal) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members[i].signal(how)
	<-c.members[i].ended
	c.start(i)
}

// Stop holds a member with SIGSTOP, until Mend.
func (c *Cluster) Stop(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members[i].signal(syscall.SIGSTOP)
	c.members[i].stopped = true
}

// Cut takes a member off the network, without telling anybody, until Mend.
func (c *Cluster) Cut(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.members[i].space.Cut(c.net)
}

// Mend undoes all that was done to members.
func (c *Cluster) Mend() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, m := range c.members {
		m.space.Mend(c.net)
		select {
		case <-m.ended:
			c.start(i)
		default:
			if m.stopped {
				m.signal(syscall.SIGCONT)
				m.stopped = false
			}
		}
	}
}

// Ready waits until every member says that it is healthy.
func (c *Cluster) Ready(limit time.Duration) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	for i, url := range c.URLs() {
		c.members[i].ready(ctx, c.t, url)
	}
}

// ready waits until the member says at url that it is healthy.
func (m *member) ready(ctx context.Context, t testing.TB, url string) {
	t.Helper()
	for healthy(ctx, url) != nil {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			log, _ := os.ReadFile(m.dir + ".log")
			t.Fatalf("%s is not healthy in time: %s", url, log[max(0, len(log)-4000):])
		}
	}
}

func healthy(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/health", nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	return nil
}

func (c *Cluster) end() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, m := range c.members {
		if m.cmd != nil && m.cmd.Process != nil {
			c.kill(i)
		}
	}
}

// status is what etcdctl tells of one member.
type status struct {
	Endpoint string
	Status   struct {
		Header struct {
			Member uint64 `json:"member_id"`
		} `json:"header"`
		Leader uint64 `json:"leader"`
	}
}

// statuses are those of the members that answer, in their order.
func (c *Cluster) statuses() []status {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "etcdctl", "--endpoints", strings.Join(c.URLs(), ","), "endpoint", "status", "-w", "json")
	cmd.Env = append(os.Environ(), "ETCDCTL_API=3")
	out, _ := cmd.Output() // it fails when one does not answer
	var all []status
	if err := json.Unmarshal(out, &all); err != nil {
		c.t.Fatalf("etcdctl endpoint status says %q: %v", out, err)
	}
	return all
}

// Leader is the member that leads.
func (c *Cluster) Leader() int {
	c.t.Helper()
	for range 100 {
		for _, s := range c.statuses() {
			if s.Status.Leader != 0 && s.Status.Leader == s.Status.Header.Member {
				return slices.Index(c.URLs(), s.Endpoint)
			}
		}
	}
	c.t.Fatal("nobody leads")
	return 0
}

// MoveLeader makes another member the leader.
func (c *Cluster) MoveLeader() {
	c.t.Helper()
	leader := c.URLs()[c.Leader()]
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, s := range c.statuses() {
		if s.Endpoint != leader {
			cmd := exec.CommandContext(ctx, "etcdctl", "--endpoints", leader, "move-leader", fmt.Sprintf("%x", s.Status.Header.Member))
			cmd.Env = append(os.Environ(), "ETCDCTL_API=3")
			if out, err := cmd.CombinedOutput(); err != nil {
				c.t.Fatalf("%v: %s", err, out)
			}
			return
		}
	}
	c.t.Fatal("nobody else is there to lead")
}
