// Package fixed places everything where it is told to: on the host that the
// request names, or on the one host of the configuration.
//
// # Why
//
// A single machine needs no choice, and somebody who always names the host
// wants none. What is placed must fit all the same, and the Decision says of
// every other host why it was not it.
package fixed

import (
	"context"
	"time"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/registry"
)

// Config is the section [allocator] of the ini file.
type Config struct {
	Host   string  `ini:"host" help:"where everything is placed that names no host: the ID or the name of a node; if empty, each request has to name one"`
	CPU    float64 `ini:"overcommit_cpu" help:"how often each hardware thread is given away, where the host does not say" min:"0.01" max:"1000"`
	Memory float64 `ini:"overcommit_memory" help:"the same of memory" min:"0.01" max:"1000"`
	Disk   float64 `ini:"overcommit_disk" help:"the same of disk space" min:"0.01" max:"1000"`
}

// Defaults are the values of an empty section.
func Defaults() Config { return Config{CPU: 4, Memory: 1, Disk: 1} }

// Kind is the component.
func Kind() component.Kind[allocator.Deps, allocator.Allocator] {
	return component.Define("the host that is asked for, or the one configured", Defaults(), Open)
}

type fixed struct {
	host string
	over allocator.Overcommit
	deps allocator.Deps
}

// Open returns the allocator.
func Open(_ context.Context, cfg Config, deps allocator.Deps) (allocator.Allocator, error) {
	if deps.Now == nil {
		deps.Now = time.Now
	}
	return &fixed{
		host: cfg.Host, deps: deps,
		over: allocator.Overcommit{CPU: cfg.CPU, Memory: cfg.Memory, Disk: cfg.Disk},
	}, nil
}

// Decide takes the named host if it fits. It reads every node, which a place
// with one host can afford.
func (f *fixed) Decide(ctx context.Context, r registry.Reader, req allocator.Request) (*allocator.Decision, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	target := req.Hint
	if target == "" {
		target = f.host
	}
	d := &allocator.Decision{Request: req, Policy: "fixed", At: f.deps.Now(), Over: f.over}
	named := req
	named.Hint = target
	var verdicts []allocator.Verdict
	exists := map[string]bool{}
	for n, err := range r.List(registry.Query{}) {
		if err != nil {
			return nil, err
		}
		d.Revision = max(d.Revision, n.Revision())
		h, ok := f.deps.Host(n)
		if !ok {
			continue
		}
		exists[h.ID], exists[h.Name] = true, true
		v := allocator.Verdict{Host: h.ID, Name: h.Name}
		switch {
		case target == "":
			v.Ruled = []allocator.Ruled{{Filter: "fixed", Required: "a host named in the request or as host in [allocator]", Observed: "none is named"}}
		case target != h.ID && target != h.Name:
			v.Ruled = []allocator.Ruled{{Filter: f.why(req), Required: target, Observed: h.ID}}
		default:
			children, err := r.Children(h.ID)
			if err != nil {
				return nil, err
			}
			v.Ruled = allocator.Rules(h, f.over, named, allocator.Occupy(children.Nodes, f.deps.Need, req.ID))
			if len(v.Ruled) == 0 {
				v.Chosen, v.Score, d.Host = true, 1, h.ID
				v.Terms = []allocator.Term{{Name: f.why(req), Weight: 1, Value: 1}}
			}
		}
		verdicts = append(verdicts, v)
	}
	if s, ok := r.(registry.Delta); ok {
		d.Revision = s.Revision()
	}
	verdicts = append(verdicts, allocator.Absent(named, func(host string) bool { return exists[host] })...)
	allocator.SortVerdicts(verdicts)
	d.Hosts = func() []allocator.Verdict { return verdicts }
	if d.Host == "" {
		return d, &allocator.NoHostError{Decision: d}
	}
	return d, nil
}

// why is the word for the reason that a host is the one.
func (f *fixed) why(req allocator.Request) string {
	if req.Hint != "" {
		return "hint"
	}
	return "fixed"
}
