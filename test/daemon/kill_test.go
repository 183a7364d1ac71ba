package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/internal/testlong"
	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
)

const (
	hosts  = 50
	vms    = 1000
	kills  = 30
	config = `[scheduler]
use = broker
[provisioner]
use = basic
[monitor.poll]
every = @every 1h
[drivers.lab]
use = sim
path = hosts
latency = 2ms
cpu = 64
[serve]
log_level = warn
`
)

// TestKilledWhileStarting kills the daemon again and again while VMs are started
// on many hosts. In the end every VM runs, and none was ever on two hosts.
func TestKilledWhileStarting(t *testing.T) {
	count, patience := testlong.Count(t, vms), 5*time.Minute
	if testlong.Long() {
		patience = time.Hour // on a busy machine
	}
	rounds := max(testlong.Count(t, kills), 3)
	random := rand.New(rand.NewPCG(uint64(testlong.Seed(t)), 1)) //nolint:gosec // a test's own choice
	ctx, cancel := context.WithTimeout(trail.With(t.Context(), trail.New("test", "a fault")), patience)
	defer cancel()
	place := newPlace(t, config)
	dir, client := place.dir, place.client
	p := place.start(ctx)
	fill(ctx, t, client, count)
	s := &submission{client: client, count: count, jobs: map[string]string{}}
	var submitting sync.WaitGroup
	for range 8 {
		submitting.Go(func() { s.run(ctx) })
	}
	onHosts := 0
	for life := 1; life <= rounds; life++ {
		// Anywhere between the last kill and the last VM.
		goal := onHosts + 1 + random.IntN(max(1, (count-onHosts)*2/(rounds-life+2)))
		until(ctx, t, fmt.Sprintf("%d VMs are on hosts", goal), func() bool {
			onHosts = len(onDisk(t, dir))
			return onHosts >= min(goal, count)
		})
		p.kill()
		onHosts = len(onDisk(t, dir))
		t.Logf("killed with %d of %d VMs on hosts and %d jobs acknowledged", onHosts, count, s.acknowledged.Load())
		p = place.start(ctx)
	}
	submitting.Wait()

	again := 0
	for vm, job := range s.jobs {
		var st scheduler.Status
		var err error
		for err == nil && !st.State.Ended() {
			st, err = client.WaitJob(ctx, job, 10*time.Second)
		}
		if err != nil {
			t.Fatalf("the job of %s, which was acknowledged: %v", vm, err)
		}
		if st.State != scheduler.Succeeded {
			t.Errorf("the job of %s ended as %s: %s", vm, st.State, st.Error)
		}
		if st.Attempt > 1 {
			again++
		}
	}
	t.Logf("%d jobs were begun again", again)
	if len(s.jobs) != count {
		t.Fatalf("%d of %d jobs were submitted", len(s.jobs), count)
	}
	on := onDisk(t, dir)
	for i := range count {
		it, err := client.Node(ctx, vmID(i))
		if err != nil {
			t.Fatal(err)
		}
		if n := it.Node; n.State() != string(virt.Running) || on[vmID(i)] != n.Parent()+" "+n.State() || n.Parent() == "" {
			t.Errorf("%s is %s on %q, and runs on %q", n.ID(), n.State(), n.Parent(), on[vmID(i)])
		}
	}
	if len(on) != count {
		t.Errorf("%d VMs run on hosts, not %d", len(on), count)
	}
	if found, err := client.Check(ctx); err != nil || len(found.Problems) > 0 {
		t.Errorf("the registry: %v, %v", found.Problems, err)
	}
	p.signal(syscall.SIGTERM)
	if _, err := p.wait(); err != nil {
		t.Errorf("the daemon ended with %v", err)
	}
}

func vmID(i int) string { return fmt.Sprintf("vm%04d", i) }

// fill makes hosts that are up, and VMs that stand nowhere.
func fill(ctx context.Context, t *testing.T, client *api.Client, count int) {
	t.Helper()
	make := func(id, typ string, def any) {
		doc, err := registry.NewDocument(def)
		if err == nil {
			_, err = client.Create(ctx, api.CreateRequest{Spec: provisioner.Spec{ID: id, Type: typ, Definition: doc}})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for i := range hosts {
		make(fmt.Sprintf("host%02d", i), virt.TypeHypervisor, virt.HostDefinition{Driver: "lab"})
	}
	if _, err := client.Poll(ctx); err != nil {
		t.Fatal(err)
	}
	for i := range count {
		make(vmID(i), virt.TypeVM, virt.Definition{CPU: 1, Memory: 64})
	}
}

// submission asks for a start of each VM, and again with the same key when no
// answer comes.
type submission struct {
	client       *api.Client
	count        int
	next         atomic.Int64
	acknowledged atomic.Int64

	mu   sync.Mutex
	jobs map[string]string // by VM
}

func (s *submission) run(ctx context.Context) {
	for {
		i := int(s.next.Add(1)) - 1
		if i >= s.count {
			return
		}
		vm := vmID(i)
		for ctx.Err() == nil {
			st, err := s.client.Do(ctx, vm, api.JobRequest{Action: virt.ActionStart, Key: "start-" + vm})
			if err == nil {
				s.acknowledged.Add(1)
				s.mu.Lock()
				s.jobs[vm] = st.ID
				s.mu.Unlock()
				break
			}
			var answered *api.Error
			if errors.As(err, &answered) && answered.Status < 500 && answered.Status != 429 {
				return // it is missed in the end
			}
			pause(ctx, 5*time.Millisecond)
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// onDisk tells from the files of the simulated hosts, whoever lives, where the
// VMs are, as HOST STATE. A VM that is on two of them fails the test.
func onDisk(t *testing.T, dir string) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "hosts", "*.json"))
	if err != nil {
		t.Fatal(err)
	}
	on := map[string]string{}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var f struct {
			Host   string
			Guests []struct {
				UUID  string
				Name  string
				State string
			}
		}
		if err := json.Unmarshal(data, &f); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, g := range f.Guests {
			if was, twice := on[g.Name]; twice {
				t.Fatalf("%s is on %s and on %s", g.Name, was, f.Host)
			}
			on[g.Name] = f.Host + " " + g.State
		}
	}
	return on
}
