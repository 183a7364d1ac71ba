package docker

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	moby "github.com/moby/moby/client"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// listed is a container of a listing.
type listed struct {
	id, uuid, name, job string
	state               virt.State
}

// list lists our containers that have a label, KEY or KEY=VALUE.
func (d *Docker) list(ctx context.Context, label string) ([]listed, error) {
	const what = "list the containers"
	got, err := quick(ctx, d, what, func(ctx context.Context, c *moby.Client) (moby.ContainerListResult, error) {
		return c.ContainerList(ctx, moby.ContainerListOptions{All: true, Filters: moby.Filters{}.Add("label", labelGuest, label)})
	})
	if err != nil {
		return nil, err
	}
	if len(got.Items) > d.o.MaxContainers {
		return nil, nonsense(what, "there are %d containers, where at most %d are allowed", len(got.Items), d.o.MaxContainers)
	}
	all := make([]listed, 0, len(got.Items))
	for _, one := range got.Items {
		uuid, err := mistify.ParseGuestID(one.Labels[labelGuest])
		if err != nil || !slices.Contains(one.Names, "/"+uuid) {
			continue // somebody else's, of an image that was one of ours
		}
		l := listed{id: one.ID, uuid: uuid, name: clean(one.Labels[labelName], 200), job: one.Labels[labelJob], state: stateFrom(string(one.State))}
		if !idWord.MatchString(one.ID) || l.state == virt.Unknown {
			return nil, nonsense(what, "the container %.80q is %.40q", one.ID, one.State)
		}
		all = append(all, l)
	}
	slices.SortFunc(all, func(a, b listed) int { return strings.Compare(a.uuid, b.uuid) })
	if n := len(all); len(slices.CompactFunc(all, func(a, b listed) bool { return a.uuid == b.uuid })) != n {
		return nil, nonsense(what, "one name is given to several containers")
	}
	return all, nil
}

// Status lists the containers of guests that are here, or looks at one.
func (d *Docker) Status(ctx context.Context, r *mistify.StatusRequest) (*mistify.StatusResponse, error) {
	if r.ID != "" {
		return d.one(ctx, r.ID)
	}
	all, err := d.list(ctx, labelGuest)
	if err != nil {
		return nil, err
	}
	all = d.sweepLate(ctx, all)
	host, err := quick(ctx, d, "say what the host has", func(ctx context.Context, c *moby.Client) (moby.SystemInfoResult, error) {
		return c.Info(ctx, moby.InfoOptions{})
	})
	if err != nil {
		return nil, err
	}
	out := &mistify.StatusResponse{Complete: true, Guests: []mistify.Seen{}, Capacity: virt.Capacity{
		CPU: int64(min(max(0, host.Info.NCPU), 1<<20)), Memory: min(max(0, host.Info.MemTotal)>>20, 1<<40),
	}}
	ids := map[string]bool{}
	for _, l := range all {
		cpu, memory, there, err := d.limitsOf(ctx, l)
		if err != nil {
			return nil, err
		}
		if !there {
			continue // it was just removed
		}
		ids[l.id] = true
		out.Guests = append(out.Guests, seen(l.uuid, l.name, l.state, cpu, memory))
	}
	d.limits.keep(ids)
	return out, nil
}

func seen(id, name string, state virt.State, cpu int, memory int64) mistify.Seen {
	return mistify.Seen{ID: id, Name: name, Type: mistify.TypeContainer, State: state, CPU: cpu, Memory: memory}
}

func (d *Docker) one(ctx context.Context, id string) (*mistify.StatusResponse, error) {
	id, err := mistify.ParseGuestID(id)
	if err != nil {
		return nil, err
	}
	out := &mistify.StatusResponse{Complete: true, Guests: []mistify.Seen{}}
	f, err := d.ours(ctx, id)
	if err == nil && f != nil && d.unwanted(id, f.job()) {
		return out, d.dropLate(ctx, id)
	}
	if err != nil || f == nil {
		return out, err
	}
	cpu, memory := limitsIn(f)
	s := seen(id, clean(f.is.Config.Labels[labelName], 200), f.state, cpu, memory)
	for _, name := range slices.Sorted(maps.Keys(f.is.NetworkSettings.Networks)) {
		if at := f.is.NetworkSettings.Networks[name]; at != nil && at.IPAddress.IsValid() && len(s.Addresses) < mistify.MaxNICs {
			s.Addresses = append(s.Addresses, at.IPAddress.String())
		}
	}
	if f.active() {
		if m, err := d.stats(ctx, id, f); err == nil { // it may have ended meanwhile
			s.CPUTime = nanoseconds(m.CPUStats.CPUUsage.TotalUsage)
		}
	}
	out.Guests = append(out.Guests, s)
	return out, nil
}

func limitsIn(f *found) (cpu int, memory int64) {
	r := f.is.HostConfig.Resources
	return int(min(max(0, r.NanoCPUs)/1e9, 1<<20)), max(0, r.Memory) >> 20
}

// limits remembers for a moment which container has which, as a listing does not
// say it and each would have to be looked at each time.
type limits struct {
	mu sync.Mutex
	of map[string]limit
}

type limit struct {
	cpu    int
	memory int64
	at     time.Time
}

// limitsAge is how long they are believed: somebody may change them by hand.
const limitsAge = time.Minute

func (l *limits) get(id string, now time.Time) (limit, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	one, ok := l.of[id]
	return one, ok && now.Sub(one.at) < limitsAge
}

func (l *limits) put(id string, one limit) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.of == nil {
		l.of = map[string]limit{}
	}
	l.of[id] = one
}

func (l *limits) forget(id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.of, id)
}

// keep forgets all others.
func (l *limits) keep(ids map[string]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	maps.DeleteFunc(l.of, func(id string, _ limit) bool { return !ids[id] })
}

func (d *Docker) limitsOf(ctx context.Context, l listed) (cpu int, memory int64, there bool, err error) {
	now := d.o.Now()
	if one, ok := d.limits.get(l.id, now); ok {
		return one.cpu, one.memory, true, nil
	}
	f, err := d.ours(ctx, l.uuid)
	if err != nil || f == nil {
		return 0, 0, false, err
	}
	cpu, memory = limitsIn(f)
	d.limits.put(l.id, limit{cpu, memory, now})
	return cpu, memory, true, nil
}

// stats reads the counters of a container that runs.
func (d *Docker) stats(ctx context.Context, id string, f *found) (*container.StatsResponse, error) {
	what := "measure the container " + id
	m, err := quick(ctx, d, what, func(ctx context.Context, c *moby.Client) (*container.StatsResponse, error) {
		got, err := c.ContainerStats(ctx, f.id, moby.ContainerStatsOptions{})
		if err != nil {
			return nil, err
		}
		defer got.Body.Close()
		m := &container.StatsResponse{}
		return m, decode(got.Body, m)
	})
	if err != nil {
		return nil, err
	}
	if len(m.Networks) > virt.MaxMeasured || len(m.BlkioStats.IoServiceBytesRecursive) > 8*virt.MaxMeasured || len(m.BlkioStats.IoServicedRecursive) > 8*virt.MaxMeasured {
		return nil, nonsense(what, "it counts what %d networks carry", len(m.Networks))
	}
	return m, nil
}

// nanoseconds are so many seconds.
func nanoseconds(n uint64) float64 { return time.Duration(min(n, 1<<62)).Seconds() }

// deviceName is how the kernel calls a disk in its counters.
func deviceName(major, minor uint64) string {
	return fmt.Sprintf("%d:%d", min(major, 1<<32), min(minor, 1<<32))
}
