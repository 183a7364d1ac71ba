package etcd

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/test/etcdtest"
)

// eventually waits for what is to come by itself.
func eventually(t *testing.T, what string, is func() error) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var err error
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-tick.C {
		if err = is(); err == nil {
			return
		}
	}
	t.Fatalf("%s never came: %v", what, err)
}

// quick is a config that notices soon.
func quick(url string) Config {
	c := fresh(url)
	c.Timeout, c.Probe, c.Alone = time.Second, 100*time.Millisecond, 5*time.Second
	return c
}

func closed(t *testing.T, all ...*Registry) {
	t.Cleanup(func() {
		for _, r := range all {
			if err := r.Close(); err != nil {
				t.Errorf("close: %v", err)
			}
		}
	})
}

func add(ctx context.Context, r registry.Registry, id string) error {
	_, err := registry.Create(ctx, r, registry.Draft{ID: id, Name: id, Type: "vm"})
	return err
}

// ids are the nodes that r shows, without asking etcd.
func ids(ctx context.Context, r registry.Registry) (string, error) {
	nodes, err := registry.Collect(ctx, r, registry.Query{})
	var all []string
	for _, n := range nodes {
		all = append(all, n.ID())
	}
	return strings.Join(all, " "), err
}

// shows returns an error unless r shows these nodes and, if it is well, that it
// does.
func shows(ctx context.Context, r *Registry, want string, well bool) error {
	got, err := ids(ctx, r)
	if err != nil {
		return err
	}
	if h := r.Health(); got != want || (h.Err == nil) != well {
		return fmt.Errorf("it shows %q and says of etcd: %s", got, fmt.Sprint(h.Err))
	}
	return nil
}

// away is what holds while etcd cannot be used: reads go on with their age, and
// writes fail soon, saying so.
func away(t *testing.T, r *Registry, want string, texts ...string) {
	t.Helper()
	before := time.Now()
	eventually(t, "the news that etcd cannot be used", func() error { return shows(t.Context(), r, want, false) })
	if h := r.Health(); h.Contact.IsZero() || h.Contact.After(time.Now()) {
		t.Errorf("the age of what is shown is that of %v", h.Contact)
	}
	refusedWrite(t, r, texts...)
	if _, err := r.View(t.Context(), registry.Consistent()); !errors.Is(err, registry.ErrUnavailable) {
		t.Errorf("a consistent read: %v", err)
	}
	if took := time.Since(before); took > 30*time.Second {
		t.Errorf("it took %v to say so", took)
	}
}

// refusedWrite fails for a known reason, which it gives.
func refusedWrite(t *testing.T, r *Registry, texts ...string) {
	t.Helper()
	err := add(t.Context(), r, "refused")
	if !errors.Is(err, registry.ErrUnavailable) || errors.Is(err, registry.ErrUnknownOutcome) {
		t.Fatalf("a write: %v, want that etcd is not there, and that nothing was written", err)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("the error does not say %q: %v", text, err)
		}
	}
}

// back is what holds when the cause has gone, without anybody's doing.
func back(t *testing.T, r *Registry, id, want string) {
	t.Helper()
	eventually(t, "the end of the fault", func() error {
		err := add(t.Context(), r, id)
		if errors.Is(err, registry.ErrConflict) {
			return nil // of an attempt whose outcome was not known
		}
		return err
	})
	eventually(t, "all that was written", func() error { return shows(t.Context(), r, want, true) })
}

// follower collects what a watch delivers.
type follower struct {
	mu   sync.Mutex
	seen []string
	err  error
	done chan struct{}
}

func follow(ctx context.Context, r registry.Registry) *follower {
	f := &follower{done: make(chan struct{})}
	started := make(chan struct{})
	go func() {
		defer close(f.done)
		open := false
		for c, err := range r.Watch(ctx, registry.Query{}, registry.Start) {
			f.mu.Lock()
			switch {
			case err != nil:
				f.err = err
			case c.Kind == registry.Synced:
				open = true
				close(started)
			default:
				f.seen = append(f.seen, string(c.Kind)+" "+c.Node().ID())
			}
			f.mu.Unlock()
		}
		if !open {
			close(started)
		}
	}()
	<-started
	return f
}

func (f *follower) has(want string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if got := strings.Join(f.seen, ", "); got != want {
		return fmt.Errorf("the watch delivered %q, want %q; it ended with %s", got, want, fmt.Sprint(f.err))
	}
	return nil
}

// A watch that breaks resumes where it was, so that nobody who watches misses
// anything or is told twice.
func TestLostWatch(t *testing.T) {
	t.Parallel()
	server := etcdtest.Run(t, etcdtest.Options{})
	link := etcdtest.NewLink(t, server.URL())
	c := quick(server.URL())
	near := openAt(t, c)
	c.Endpoints = []string{link.URL()}
	far := openAt(t, c)
	closed(t, near, far)
	watching, stop := context.WithCancel(t.Context())
	defer stop()
	if err := add(t.Context(), near, "a"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "a", func() error { return shows(t.Context(), far, "a", true) })
	f := follow(watching, far)
	link.Hold()
	for _, id := range []string{"b", "c"} {
		if err := add(t.Context(), near, id); err != nil {
			t.Fatal(err)
		}
	}
	away(t, far, "a")
	link.Drop()
	link.Mend()
	back(t, far, "d", "a b c d")
	eventually(t, "what was missed", func() error { return f.has("existing a, created b, created c, created d") })
	stop()
	<-f.done
}

// A store is loaded in pages, whose size follows that of what is in them.
func TestPages(t *testing.T) {
	t.Parallel()
	c := fresh(etcdtest.Run(t, etcdtest.Options{}).URL())
	r := openAt(t, c)
	for i := range 40 {
		err := r.Update(t.Context(), func(tx registry.Tx) error {
			for k := range 20 {
				d := registry.Draft{ID: fmt.Sprintf("n%d-%d", i, k), Name: fmt.Sprintf("name%d-%d", i, k), Type: "vm"}
				if i%10 == 9 {
					d.Definition = registry.TrustedDocument(`{"a":"` + strings.Repeat("x", 40<<10) + `"}`)
				}
				if _, err := tx.Create(d); err != nil {
					return err
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	other := openAt(t, c)
	closed(t, r, other)
	a, err1 := r.View(t.Context())
	b, err2 := other.View(t.Context())
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	if d, err := registry.Compare(t.Context(), a, b); err != nil || d.Nodes != 800 {
		t.Errorf("loaded %+v, %v", d, err)
	}
	for _, c := range []struct{ n, bytes, want int }{{500, 0, 2000}, {500, 500 * 200, 2000}, {10_000, 10_000 * 200, 10_000}, {500, 500 << 20, 100}, {2000, 8 << 20, 1000}} {
		if got := nextPage(c.n, c.bytes); got != c.want {
			t.Errorf("after %d keys of %d bytes come %d, want %d", c.n, c.bytes, got, c.want)
		}
	}
}

// A transaction that is on its way when it is given up for lost never happens
// afterwards: the ticket that it shows is no longer good.
func TestLateTransaction(t *testing.T) {
	t.Parallel()
	server := etcdtest.Run(t, etcdtest.Options{})
	r := openAt(t, quick(server.URL()))
	closed(t, r)
	staged, err := r.rep.Stage(t.Context(), func(tx registry.Tx) error {
		_, err := tx.Create(registry.Draft{ID: "late", Name: "late", Type: "vm"})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	late, ticket := r.transaction(t.Context(), staged, "late-transaction")
	gaps := r.arrived.expect("late-transaction")
	if rev, sure := r.resolve(t.Context(), "late-transaction", ticket, gaps); rev != 0 || !sure {
		t.Fatalf("it was committed as %d, %v: want that it is known never to be", rev, sure)
	}
	if resp, err := late.Commit(); err != nil || resp.Succeeded {
		t.Fatalf("it was committed all the same: %v, %v", resp, err)
	}
	back(t, r, "a", "a")
}

// A probe whose second question finds nobody ends all the same: else etcd would be said
// to be well for as long as it is away.
func TestProbeEnds(t *testing.T) {
	t.Parallel()
	link := etcdtest.NewLink(t, etcdtest.Run(t, etcdtest.Options{}).URL())
	r := openAt(t, quick(link.URL()))
	closed(t, r)
	link.Hold()
	link.Drop()
	for name, ask := range map[string]func(ctx context.Context){
		"head":    func(ctx context.Context) { _, _ = r.ask(ctx) },
		"session": func(ctx context.Context) { r.session.keep(ctx, r) },
		"members": func(ctx context.Context) { _ = r.meet(ctx) },
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*r.cfg.Timeout)
		if ask(ctx); ctx.Err() != nil {
			t.Errorf("%s: it waited for more than thirty times the timeout", name)
		}
		cancel()
	}
	link.Mend()
	back(t, r, "a", "a")
}

// Where etcd has forgotten what was missed, all is loaded anew, and who watches is
// told so.
func TestCompactionUnderAWatcher(t *testing.T) {
	t.Parallel()
	server := etcdtest.Run(t, etcdtest.Options{})
	link := etcdtest.NewLink(t, server.URL())
	c := quick(server.URL())
	near := openAt(t, c)
	c.Endpoints = []string{link.URL()}
	far := openAt(t, c)
	closed(t, near, far)
	for _, id := range []string{"a", "b"} {
		if err := add(t.Context(), near, id); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "b", func() error { return shows(t.Context(), far, "a b", true) })
	f := follow(t.Context(), far)
	link.Hold()
	link.Drop()
	if err := errors.Join(add(t.Context(), near, "c"), registry.Delete(t.Context(), near, "a")); err != nil {
		t.Fatal(err)
	}
	server.Ctl("compact", fmt.Sprint(near.rep.Revision()))
	away(t, far, "a b")
	link.Mend()
	back(t, far, "d", "b c d")
	<-f.done
	if !errors.Is(f.err, registry.ErrCompacted) {
		t.Errorf("who watched was told %v, want ErrCompacted; it saw %v", f.err, f.seen)
	}
}

// The leader is moved and killed while a manager writes and another watches: no
// acknowledged write is lost or seen twice.
func TestLeaderChangesAndMemberLoss(t *testing.T) {
	cluster := etcdtest.Start(t)
	c := quick("")
	c.Endpoints, c.Timeout = cluster.URLs(), 10*time.Second
	writer, reader := openAt(t, c), openAt(t, c)
	closed(t, writer, reader)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	f := follow(ctx, reader)
	var want []string
	write := func(n int) {
		t.Helper()
		for range n {
			id := fmt.Sprintf("n%03d", len(want))
			if err := add(t.Context(), writer, id); err != nil {
				t.Fatalf("%s: %v", id, err)
			}
			want = append(want, "created "+id)
		}
	}
	write(10)
	cluster.MoveLeader()
	write(10)
	lost := cluster.Leader()
	cluster.Kill(lost)
	write(10)
	cluster.Mend()
	cluster.Ready(time.Minute)
	cluster.Stop(cluster.Leader())
	write(10)
	cluster.Mend()
	write(10)
	eventually(t, "what was written", func() error { return f.has(strings.Join(want, ", ")) })
	stop()
	<-f.done
}

// Who only looks, or changes nothing in the end, does not notice that the leader changes.
func TestLookingWhileLeadersChange(t *testing.T) {
	cluster := etcdtest.Start(t)
	c := quick("")
	c.Endpoints, c.Timeout = cluster.URLs(), 10*time.Second
	r := openAt(t, c)
	closed(t, r)
	if err := add(t.Context(), r, "a"); err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	var looking sync.WaitGroup
	veto := errors.New("nothing is to be changed")
	for range 2 {
		looking.Go(func() {
			for ctx.Err() == nil {
				err := r.Update(t.Context(), func(tx registry.Tx) error {
					_, err := tx.Get("a")
					return errors.Join(veto, err)
				})
				if !errors.Is(err, veto) || errors.Is(err, registry.ErrNotFound) {
					t.Error(err)
					return
				}
			}
		})
	}
	for range 3 {
		cluster.MoveLeader()
	}
	stop()
	looking.Wait()
}

// A role that is taken away, and a password that has changed, are told as what
// they are, and cost nothing when they are put right.
func TestRevokedCredentials(t *testing.T) {
	t.Parallel()
	server := etcdtest.Run(t, etcdtest.Options{})
	c := quick(server.URL())
	c.Username, c.Password = "vagoth", component.NewSecret("first")
	root := "--user=root:root"
	for _, args := range [][]string{
		{"user", "add", "root:root"}, {"user", "grant-role", "root", "root"}, {"role", "add", "nodes"},
		{"role", "grant-permission", "--prefix=true", "nodes", "readwrite", c.Prefix},
		{"user", "add", "vagoth:first"}, {"user", "grant-role", "vagoth", "nodes"}, {"auth", "enable"},
	} {
		if args[0] == "user" && args[1] == "grant-role" && args[2] == "root" {
			server.Ctl("role", "add", "root")
		}
		server.Ctl(args...)
	}
	r := openAt(t, c)
	closed(t, r)
	if err := add(t.Context(), r, "a"); err != nil {
		t.Fatal(err)
	}
	server.Ctl(root, "user", "revoke-role", "vagoth", "nodes")
	away(t, r, "a", "it refuses us", "check username, password and the user's role")
	server.Ctl(root, "user", "grant-role", "vagoth", "nodes")
	back(t, r, "b", "a b")

	server.Ctl(root, "user", "delete", "vagoth")
	away(t, r, "a b", "it refuses us", "check username, password and the user's role")
	server.Ctl(root, "user", "add", "vagoth:first")
	server.Ctl(root, "user", "grant-role", "vagoth", "nodes")
	back(t, r, "c", "a b c")

	// A server that was started again knows none of the tokens that it gave.
	server.Kill()
	server.Start()
	back(t, r, "d", "a b c d")

	c.Password = component.NewSecret("other")
	if other, err := Open(t.Context(), c, registry.Deps{}); err == nil {
		closed(t, other)
		t.Error("a wrong password opens the registry")
	} else if !strings.Contains(err.Error(), "check username") || strings.Contains(err.Error(), "other") {
		t.Errorf("a wrong password: %v", err)
	}
}

// With TLS on both sides; who is not let in is told why.
func TestTLS(t *testing.T) {
	t.Parallel()
	server := etcdtest.Run(t, etcdtest.Options{TLS: true})
	c := quick(server.URL())
	c.CA, c.Cert, c.Key = component.Path(server.CA()), component.Path(server.Cert()), component.Path(server.Key())
	r := openAt(t, c)
	closed(t, r)
	if err := add(t.Context(), r, "a"); err != nil {
		t.Fatal(err)
	}
	server.Kill()
	away(t, r, "a")
	server.Start()
	back(t, r, "b", "a b")
	for name, change := range map[string]struct {
		change func(*Config)
		text   string
	}{
		"no certificate":    {func(c *Config) { c.Cert, c.Key = "", "" }, "certificate"},
		"another authority": {func(c *Config) { c.CA = "" }, "certificate"},
	} {
		bad := c
		change.change(&bad)
		if other, err := Open(t.Context(), bad, registry.Deps{}); err == nil {
			closed(t, other)
			t.Errorf("%s: it opens", name)
		} else if !strings.Contains(err.Error(), change.text) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// An etcd whose space is used up refuses writes, saying what to do, shows what it
// has, and goes on when it has been given room.
func TestFullEtcd(t *testing.T) {
	t.Parallel()
	server := etcdtest.Run(t, etcdtest.Options{Quota: 4 << 20})
	r := openAt(t, quick(server.URL()))
	closed(t, r)
	if err := add(t.Context(), r, "a"); err != nil {
		t.Fatal(err)
	}
	var err error
	for range 100 {
		data := make([]byte, 400<<10)
		_, _ = rand.Read(data)
		if err = r.Update(t.Context(), func(tx registry.Tx) error { return tx.PutBlob("a", "big", data) }); err != nil {
			break
		}
	}
	if !errors.Is(err, registry.ErrUnavailable) || errors.Is(err, registry.ErrUnknownOutcome) {
		t.Fatalf("a full etcd answers %v", err)
	}
	eventually(t, "the alarm of the member", func() error {
		if e := r.Health().Engines; len(e) != 1 || !e[0].Leads || !strings.Contains(e[0].Error, "NOSPACE") {
			return fmt.Errorf("the engines are %+v", e)
		}
		return nil
	})
	refusedWrite(t, r, "its space is used up", "compact and defragment", "disarm the alarm")
	if err := shows(t.Context(), r, "a", true); err != nil {
		t.Error(err)
	}
	if _, err := r.View(t.Context(), registry.Consistent()); err != nil {
		t.Errorf("a consistent read of a full etcd: %v", err)
	}
	server.Ctl("compact", fmt.Sprint(r.rep.Revision()))
	server.Ctl("defrag")
	server.Ctl("alarm", "disarm")
	back(t, r, "b", "a b")
}
