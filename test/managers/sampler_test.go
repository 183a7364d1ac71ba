package managers

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"
	"github.com/digitalocean/go-libvirt/socket/dialers"

	"github.com/vagoth/vagoth/test/testbed"
)

// sampler asks the libvirtd of each host which VMs run there, again and again, and knows
// neither agents nor managers, nor a driver.
type sampler struct {
	t    *testing.T
	asks []*golibvirt.Libvirt
	stop context.CancelFunc
	work sync.WaitGroup

	mu      sync.Mutex
	samples int
	moving  int // samples that saw a VM run on one host and held ready on the other
	twice   []string
}

// newSampler samples until the test ends, or its end is called.
func newSampler(t *testing.T, hosts ...*testbed.Daemon) *sampler {
	t.Helper()
	s := &sampler{t: t}
	for _, h := range hosts {
		l := golibvirt.NewWithDialer(dialers.NewLocal(dialers.WithSocket(h.Socket())))
		if err := l.ConnectToURI(golibvirt.QEMUSystem); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := l.Disconnect(); err != nil {
				t.Error(err)
			}
		})
		s.asks = append(s.asks, l)
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

// list are the VMs of a kind on a host now.
func (s *sampler) list(host int, kind golibvirt.ConnectListAllDomainsFlags) []golibvirt.UUID {
	all, _, err := s.asks[host].ConnectListAllDomains(1, kind)
	if err != nil {
		s.t.Errorf("the sampler: %v", err)
	}
	list := make([]golibvirt.UUID, len(all))
	for i, d := range all {
		list[i] = d.UUID
	}
	return list
}

// run looks at one host, at the other, and at both again: what ran there each time was on
// both at once, as nothing moves there and back in between. To run is that its processors
// do: while a VM moves it is held where it goes, and then where it comes from.
func (s *sampler) run(ctx context.Context) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		looks := make([][]golibvirt.UUID, 4)
		both := true
		for i := 0; i < len(looks) && both; i++ {
			looks[i] = s.list(i%2, golibvirt.ConnectListDomainsRunning)
			both = len(looks[i]) > 0
		}
		up := s.list(1, golibvirt.ConnectListDomainsActive)
		moving := slices.ContainsFunc(s.list(0, golibvirt.ConnectListDomainsActive), func(vm golibvirt.UUID) bool { return slices.Contains(up, vm) })
		s.mu.Lock()
		s.samples++
		if moving {
			s.moving++
		}
		for _, vm := range looks[0] {
			if both && slices.Contains(looks[1], vm) && slices.Contains(looks[2], vm) && slices.Contains(looks[3], vm) {
				s.twice = append(s.twice, fmt.Sprintf("%x at %s", vm, time.Now().Format(time.RFC3339Nano)))
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
	s.t.Logf("%d samples, in %d of them a VM was on its way", s.samples, s.moving)
}
