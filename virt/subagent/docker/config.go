package docker

import (
	"time"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/virt/subagent"
	"github.com/vagoth/vagoth/virt/subagent/fetch"
)

// Config is a section [subagent.NAME] with use = docker.
type Config struct {
	Socket          component.Path `ini:"socket" help:"unix socket of this host's dockerd"`
	Timeout         time.Duration  `ini:"timeout" help:"of one call that copies nothing" min:"100ms" max:"1h"`
	TransferTimeout time.Duration  `ini:"transfer_timeout" help:"of one that pulls, loads or saves an image" min:"1s" max:"7d"`
	Stall           time.Duration  `ini:"stall" help:"how long dockerd may say nothing while it pulls or loads" min:"100ms" max:"1h"`
	Grace           time.Duration  `ini:"grace" help:"how long a container has to end before it is killed, where it is asked to: a whole number of seconds" min:"0s" max:"1h"`
	Patience        time.Duration  `ini:"patience" help:"how long dockerd may be gone before jobs fail for that and are not tried again any more" min:"0s" max:"1h"`
	Registries      []string       `ini:"registries" help:"hosts that images are pulled from, docker.io for Docker's own; empty is any" example:"docker.io, registry.example.org:5000"`
	MaxContainers   int            `ini:"max_containers" help:"a longer listing is refused" min:"1" max:"100000"`
	MaxAnswer       component.Size `ini:"max_answer" help:"of one answer of dockerd" min:"64KiB" max:"1GiB"`
	MaxPIDs         int64          `ini:"max_pids" help:"processes and threads of one container; 0 is any number" min:"0" max:"4194304"`
	MaxLog          component.Size `ini:"max_log" help:"of what is kept of a container's output" min:"64KiB"`
	fetch.Config
}

// Defaults is the Config of an empty section.
func Defaults() Config {
	return Config{
		Socket: "/var/run/docker.sock", Timeout: time.Minute, TransferTimeout: time.Hour, Stall: 2 * time.Minute, Grace: 10 * time.Second,
		Patience: 30 * time.Second, MaxContainers: 10_000, MaxAnswer: 32 << 20, MaxPIDs: 4096, MaxLog: 16 << 20, Config: fetch.Defaults(),
	}
}

// Validate checks what the tags cannot say.
func (c Config) Validate() error {
	if len(c.Socket) > 107 {
		return &component.KeyError{Key: "socket", Reason: "the path of a socket has at most 107 bytes"}
	}
	for _, host := range c.Registries {
		if !hostWord.MatchString(host) {
			return &component.KeyError{Key: "registries", Reason: "give the host as references have it", Suggestion: "such as docker.io or registry.example.org:5000"}
		}
	}
	return nil
}

// Options are those of Open.
func (c Config) Options(deps subagent.Deps) Options {
	return Options{
		Dir: deps.Data, Socket: string(c.Socket), Timeout: c.Timeout, TransferTimeout: c.TransferTimeout, Stall: c.Stall, Grace: c.Grace, Patience: c.Patience,
		Registries: c.Registries, MaxContainers: c.MaxContainers, MaxAnswer: int64(c.MaxAnswer), MaxPIDs: c.MaxPIDs, MaxLog: int64(c.MaxLog),
		Fetch: c.Config.Options(deps.Log), Log: deps.Log, Now: deps.Now,
	}
}
