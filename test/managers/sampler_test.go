package managers

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/vagoth/vagoth/test/testbed"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/libvirt"
)

// sampler asks the libvirtd of each host which VMs run there, again and again, and knows
// neither agents nor managers.
type sampler struct {
	t    *testing.T
	asks []func(context.Context) (map[string]virt.State, error)
	stop context.CancelFunc
	work sync.WaitGroup

	mu      sync.Mutex
	samples int
	twice   []string
}

// newSampler samples until the test ends, or its end is called.
func newSampler(t *testing.T, hosts ...*testbed.Daemon) *sampler {
	t.Helper()
	s := &sampler{t: t}
	for _, h := range hosts {
		cfg := libvirt.Defaults()
		cfg.URI, cfg.Disks, cfg.Emulator = h.URI(), h.File("disks"), "qemu"
		d, err := libvirt.Open(t.Context(), cfg, virt.DriverDeps{Name: "sampler"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		})
		s.asks = append(s.asks, func(ctx context.Context) (map[string]virt.State, error) {
			l, err := d.Status(ctx, virt.Host{ID: "sampled"})
			states := map[string]virt.State{}
			for _, g := range l.Guests {
				states[g.UUID] = g.State
			}
			return states, err
		})
	}
	ctx, stop := context.WithCancel(t.Context())
	s.stop = stop
	s.work.Go(func() { s.run(ctx) })
	t.Cleanup(s.end)
	return s
}

func (s *sampler) end() {
	s.stop()
	s.work.Wait()
}

// runs are the VMs that run, or are held, on a host now.
func (s *sampler) runs(ctx context.Context, host int) ([]string, error) {
	states, err := s.asks[host](ctx)
	maps.DeleteFunc(states, func(_ string, st virt.State) bool { return st != virt.Running && st != virt.Paused })
	return slices.Sorted(maps.Keys(states)), err
}

// run looks at one host, at the other, and at both again: what ran there each time was on
// both at once, as nothing moves there and back in between.
func (s *sampler) run(ctx context.Context) {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		looks := make([][]string, 4)
		both := true
		for i := range looks {
			var err error
			if looks[i], err = s.runs(ctx, i%2); err != nil && ctx.Err() == nil {
				s.t.Errorf("the sampler: %v", err)
			}
			if both = err == nil && len(looks[i]) > 0; !both {
				break
			}
		}
		s.mu.Lock()
		s.samples++
		for _, vm := range looks[0] {
			if both && slices.Contains(looks[1], vm) && slices.Contains(looks[2], vm) && slices.Contains(looks[3], vm) {
				s.twice = append(s.twice, fmt.Sprintf("%s at %s", vm, time.Now().Format(time.RFC3339Nano)))
			}
		}
		s.mu.Unlock()
	}
}

// never fails if a VM ran on both hosts, and says how often it was looked.
func (s *sampler) never() {
	s.t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.twice) > 0 {
		s.t.Errorf("of %d samples in %d a VM ran on both hosts: %v", s.samples, len(s.twice), s.twice[:min(len(s.twice), 10)])
	}
	s.t.Logf("%d samples", s.samples)
}
