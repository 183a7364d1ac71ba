package standard

import (
	"context"
	"io"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/sim"
	"github.com/vagoth/vagoth/virt/subagent"
	simagent "github.com/vagoth/vagoth/virt/subagent/sim"
)

// subAgents are those that can be inside an agent's process, or one of their own.
func subAgents() map[string]component.Kind[subagent.Deps, subagent.SubAgent] {
	return map[string]component.Kind[subagent.Deps, subagent.SubAgent]{
		"sim": component.Define("a simulated host: guests, metrics, images and snapshots, for trying out and for tests",
			simulatedConfig{Config: sim.Defaults(), Host: "localhost"}, openSimulated),
	}
}

type simulatedConfig struct {
	sim.Config
	Host string `ini:"host" help:"the name of the simulated host"`
}

// simulated is the sub-agent over a simulated host of its own.
type simulated struct{ *simagent.Agent }

func openSimulated(ctx context.Context, cfg simulatedConfig, deps subagent.Deps) (subagent.SubAgent, error) {
	d, err := sim.Open(ctx, cfg.Config, virt.DriverDeps{Name: deps.Name, Data: deps.Data, Log: deps.Log, Now: deps.Now})
	if err != nil {
		return nil, err
	}
	host := virt.Host{ID: cfg.Host}
	return simulated{simagent.New(d, host, simagent.Options{Log: deps.Log, Now: deps.Now})}, nil
}

// Close implements subagent.SubAgent.
func (simulated) Close() error { return nil }

// WriteConfig implements subagent.Configurer.
func (simulated) WriteConfig(w io.Writer, service string) error {
	return simagent.WriteConfig(w, service)
}
