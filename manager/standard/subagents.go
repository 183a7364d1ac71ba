package standard

import (
	"context"
	"errors"
	"fmt"
	"path"
	"time"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/libvirt"
	"github.com/vagoth/vagoth/virt/libvirtdir"
	"github.com/vagoth/vagoth/virt/sim"
	"github.com/vagoth/vagoth/virt/subagent"
	"github.com/vagoth/vagoth/virt/subagent/dir"
	"github.com/vagoth/vagoth/virt/subagent/docker"
	libvirtagent "github.com/vagoth/vagoth/virt/subagent/libvirt"
	simagent "github.com/vagoth/vagoth/virt/subagent/sim"
	"github.com/vagoth/vagoth/virt/subagent/store"
	"github.com/vagoth/vagoth/virt/subagent/zfs"
)

// subAgents are those that can be inside an agent's process, or one of their own.
func subAgents() map[string]component.Kind[subagent.Deps, subagent.SubAgent] {
	return map[string]component.Kind[subagent.Deps, subagent.SubAgent]{
		"dir":     component.Define("images, disks and snapshots as qcow2 files in a directory, with qemu-img", dirDefaults(), openDir),
		"docker":  component.Define("containers and their images on this host's dockerd", dockerConfig{Config: docker.Defaults()}, openDocker),
		"libvirt": component.Define("guests on this host's libvirt", libvirtDefaults(), openLibvirt),
		"sim": component.Define("a simulated host: guests, metrics, images and snapshots, for trying out and for tests",
			simulatedConfig{Config: sim.Defaults(), Host: "localhost"}, openSimulated),
		"zfs": component.Define("images, disks and snapshots in a ZFS pool", zfsConfig{Config: zfs.Defaults()}, openZFS),
	}
}

// stages are what each of them does for which action.
func stages() map[string][]subagent.Stage {
	return map[string][]subagent.Stage{
		"dir":     store.Stages(),
		"docker":  docker.Stages(),
		"libvirt": libvirtagent.Stages(),
		"sim":     simagent.Stages(),
		"zfs":     store.Stages(),
	}
}

type dirConfig struct {
	dir.Config
	Libvirt string `ini:"libvirt" help:"libvirtd that has the guests which run: their disks are snapshotted through it; empty refuses such snapshots"`
}

func dirDefaults() dirConfig {
	return dirConfig{Config: dir.Defaults(), Libvirt: libvirt.Defaults().URI}
}

func openDir(ctx context.Context, cfg dirConfig, deps subagent.Deps) (subagent.SubAgent, error) {
	o := cfg.Options(deps)
	var d *libvirt.Driver
	if cfg.Libvirt != "" {
		c := libvirt.Defaults()
		c.URI = cfg.Libvirt
		var err error
		if d, err = libvirt.Open(ctx, c, virt.DriverDeps{Name: deps.Name, Data: deps.Data, Log: deps.Log, Now: deps.Now}); err != nil {
			return nil, err
		}
		o.Live = libvirtdir.Live{Driver: d}
	}
	s, err := dir.Open(ctx, o)
	switch {
	case err != nil && d != nil:
		return nil, errors.Join(err, d.Close())
	case err != nil:
		return nil, err
	case d == nil:
		return s, nil
	}
	return withLibvirt{s, d}, nil
}

// withLibvirt is a sub-agent with a driver that was opened for it.
type withLibvirt struct {
	subagent.SubAgent
	driver *libvirt.Driver
}

// Close implements subagent.SubAgent.
func (w withLibvirt) Close() error { return errors.Join(w.SubAgent.Close(), w.driver.Close()) }

type zfsConfig struct{ zfs.Config }

func openZFS(ctx context.Context, cfg zfsConfig, deps subagent.Deps) (subagent.SubAgent, error) {
	return zfs.Open(ctx, cfg.Options(deps))
}

type dockerConfig struct{ docker.Config }

func openDocker(ctx context.Context, cfg dockerConfig, deps subagent.Deps) (subagent.SubAgent, error) {
	return docker.Open(ctx, cfg.Options(deps))
}

// libvirtConfig are the keys of the driver that are of use on a host's own
// libvirtd, whose guests have the disks of another sub-agent.
type libvirtConfig struct {
	URI         string        `ini:"uri" help:"libvirtd of this host: qemu:///system, or with ?socket=PATH"`
	Timeout     time.Duration `ini:"timeout" help:"of one call" min:"100ms" max:"1h"`
	Emulator    string        `ini:"emulator" help:"kvm, qemu (software emulation) or auto: kvm if this host has it" oneof:"auto,kvm,qemu"`
	Connections int           `ini:"connections" help:"for calls that change something, and as many for those that only look" min:"1" max:"64"`
	MaxDomains  int           `ini:"max_domains" help:"a longer listing is refused" min:"1" max:"100000"`
	Filter      bool          `ini:"filter" help:"let the NICs of guests on networks and bridges send only from their own MAC and IPv4 address (libvirt's clean-traffic)"`
	Peers       []string      `ini:"peers" help:"libvirt URIs of other hosts to which guests may be moved while they run, such as qemu+tls://*.example.com/system; empty moves none"`
}

func libvirtDefaults() libvirtConfig {
	d := libvirt.Defaults()
	return libvirtConfig{URI: d.URI, Timeout: d.Timeout, Emulator: d.Emulator, Connections: d.Connections, MaxDomains: d.MaxDomains}
}

// Validate refuses what could match no address.
func (c libvirtConfig) Validate() error {
	for _, p := range c.Peers {
		if _, err := path.Match(p, ""); err != nil {
			return &component.KeyError{Key: "peers", Reason: fmt.Sprintf("%.200q is no libvirt URI and no pattern of one", p), Suggestion: "such as qemu+tls://*.example.com/system"}
		}
	}
	return nil
}

func openLibvirt(ctx context.Context, cfg libvirtConfig, deps subagent.Deps) (subagent.SubAgent, error) {
	c := libvirt.Defaults()
	c.URI, c.Timeout, c.Emulator, c.Connections, c.MaxDomains, c.Filter = cfg.URI, cfg.Timeout, cfg.Emulator, cfg.Connections, cfg.MaxDomains, cfg.Filter
	d, err := libvirt.Open(ctx, c, virt.DriverDeps{Name: deps.Name, Data: deps.Data, Log: deps.Log, Now: deps.Now})
	if err != nil {
		return nil, err
	}
	return withLibvirt{overLibvirt{libvirtagent.New(d, libvirtdir.Here(), libvirtagent.Options{Log: deps.Log, Peers: cfg.Peers})}, d}, nil
}

// overLibvirt is the sub-agent, which itself has nothing to close.
type overLibvirt struct{ *libvirtagent.Agent }

// Close implements subagent.SubAgent.
func (overLibvirt) Close() error { return nil }

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
