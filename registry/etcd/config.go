package etcd

import (
	"context"
	"time"

	"github.com/vagoth/vagoth/internal/etcdclient"
	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/registry"
)

// Config is the section [registry] of the ini file, or [registry.etcd].
type Config struct {
	etcdclient.Config
	Probe        time.Duration  `ini:"probe" help:"how often it is looked whether etcd answers, and whether we have seen all it has" min:"100ms" max:"1m"`
	Alone        time.Duration  `ini:"session" help:"after which the marks of a manager that is gone vanish from etcd" min:"5s" max:"1h"`
	History      int            `ini:"history" help:"latest changes kept in memory for watchers" min:"100" max:"10000000"`
	HistoryBytes component.Size `ini:"history_bytes" help:"memory that they may take" min:"1MiB"`
}

// Defaults is the config of an empty section.
func Defaults() Config {
	return Config{
		Config: etcdclient.Defaults(), Probe: 2 * time.Second, Alone: time.Minute,
		History: 1 << 16, HistoryBytes: 64 << 20,
	}
}

// Kind is the registry for the ini file.
func Kind() component.Kind[registry.Deps, registry.Registry] {
	return component.Define("on etcd; several managers can share it", Defaults(),
		func(ctx context.Context, c Config, deps registry.Deps) (registry.Registry, error) {
			return Open(ctx, c, deps)
		})
}
