package dir

import (
	"cmp"
	"log/slog"
	"time"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/virt/subagent"
	"github.com/vagoth/vagoth/virt/subagent/fetch"
)

// Config is a section [subagent.NAME] with use = dir.
type Config struct {
	Dir        component.Path `ini:"dir" help:"directory of images, disks and snapshots; empty is one in the data directory. Every folder above it must let QEMU's user through"`
	QemuImg    string         `ini:"qemu_img" help:"the program qemu-img"`
	RunTimeout time.Duration  `ini:"run_timeout" help:"of one run of it" min:"1s" max:"7d"`
	MaxSize    component.Size `ini:"max_size" help:"of a disk or image" min:"1MiB"`
	Overcommit float64        `ini:"overcommit" help:"how many times the free space new disks may have; 0 is any number" min:"0"`
	fetch.Config
}

// Defaults is the Config of an empty section.
func Defaults() Config {
	return Config{QemuImg: "qemu-img", RunTimeout: time.Hour, MaxSize: 16 << 40, Config: fetch.Defaults()}
}

// Options are those of Open.
func (c Config) Options(deps subagent.Deps) Options {
	return c.In(cmp.Or(string(c.Dir), deps.Data), nil, deps.Log)
}

// In are the Options of a store in this directory. live can be nil.
func (c Config) In(dir string, live subagent.LiveSnapshotter, log *slog.Logger) Options {
	return Options{
		Dir: dir, QemuImg: c.QemuImg, RunTimeout: c.RunTimeout, MaxSize: uint64(c.MaxSize) >> 20,
		Overcommit: c.Overcommit, Fetch: c.Config.Options(log), Log: log, Live: live,
	}
}
