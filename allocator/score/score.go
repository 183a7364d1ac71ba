package score

import (
	"context"
	"time"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/registry"
)

// The policies.
const (
	Spread = "spread"
	Pack   = "pack"
)

// Config is the section [allocator] of the ini file.
type Config struct {
	Policy string `ini:"policy" help:"fill the emptiest hosts first, or the fullest" oneof:"spread,pack"`

	CPU    float64 `ini:"weight_cpu" help:"weight of the share of CPUs that is free (spread) or used (pack)" max:"1000" min:"0"`
	Memory float64 `ini:"weight_memory" help:"the same of memory" max:"1000" min:"0"`
	Disk   float64 `ini:"weight_disk" help:"the same of disk space" max:"1000" min:"0"`
	Apart  float64 `ini:"weight_apart" help:"weight of the wish to stand apart from siblings" max:"1000" min:"0"`
	Prefer float64 `ini:"weight_prefer" help:"weight of the wish for hosts with certain tags" max:"1000" min:"0"`

	OverCPU    float64 `ini:"overcommit_cpu" help:"how often each hardware thread is given away, where the host does not say" min:"0.01" max:"1000"`
	OverMemory float64 `ini:"overcommit_memory" help:"the same of memory" min:"0.01" max:"1000"`
	OverDisk   float64 `ini:"overcommit_disk" help:"the same of disk space" min:"0.01" max:"1000"`
}

// Defaults are the values of an empty section.
func Defaults() Config {
	return Config{
		Policy: Spread, CPU: 1, Memory: 1, Disk: 0.5, Apart: 2, Prefer: 2,
		OverCPU: 4, OverMemory: 1, OverDisk: 1,
	}
}

// Kind is the component.
func Kind() component.Kind[allocator.Deps, allocator.Allocator] {
	return component.Define("filters, then weighted scores, over every host", Defaults(), Open)
}

// remembered is how many children's demands are kept decoded.
const remembered = 1 << 18

type scorer struct {
	policy string
	now    func() time.Time
	over   allocator.Overcommit
	rate   rate
	follower
}

// Open returns the allocator. It reads nothing before the first decision.
func Open(_ context.Context, cfg Config, deps allocator.Deps) (allocator.Allocator, error) {
	if deps.Now == nil {
		deps.Now = time.Now
	}
	if cfg.Policy == "" {
		cfg.Policy = Spread
	}
	s := &scorer{
		policy: cfg.Policy, now: deps.Now,
		over: allocator.Overcommit{CPU: cfg.OverCPU, Memory: cfg.OverMemory, Disk: cfg.OverDisk},
		rate: rate{pack: cfg.Policy == Pack, cpu: cfg.CPU, memory: cfg.Memory, disk: cfg.Disk, apart: cfg.Apart, prefer: cfg.Prefer},
	}
	s.follower = follower{maker: maker{host: deps.Host, need: allocator.MemoNeed(deps.Need, remembered), over: s.over}}
	return s, nil
}

func (s *scorer) Decide(ctx context.Context, r registry.Reader, req allocator.Request) (*allocator.Decision, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	t, err := s.at(r)
	if err != nil {
		return nil, err
	}
	if t, err = s.without(t, r, req.ID); err != nil {
		return nil, err
	}
	d := &allocator.Decision{Request: req, Policy: s.policy, Revision: t.rev, At: s.now(), Over: s.over}
	best := t.choose(compile(t, req), &s.rate)
	if best >= 0 {
		d.Host = t.layout.ids[best]
	}
	d.Hosts = func() []allocator.Verdict { return s.explain(t, req, best) }
	if best < 0 {
		return d, &allocator.NoHostError{Decision: d}
	}
	return d, nil
}

// without gives a table in which the node to be placed takes nothing of the
// host that it stands on already.
func (s *scorer) without(t *table, r registry.Reader, id string) (*table, error) {
	if id == "" {
		return t, nil
	}
	n, err := r.Get(id)
	switch {
	case notFound(err):
		return t, nil
	case err != nil:
		return nil, err
	}
	at, ok := t.layout.at[n.Parent()]
	if !ok || n.Parent() == "" {
		return t, nil
	}
	b := s.edit(t)
	b.child(at, n, -1)
	return b.table, nil
}
