package zfs

import (
	"time"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/virt/subagent"
	"github.com/vagoth/vagoth/virt/subagent/fetch"
)

// Config is a section [subagent.NAME] with use = zfs.
type Config struct {
	Pool            string         `ini:"pool" help:"the ZFS pool, which is imported already" required:"true"`
	Dataset         string         `ini:"dataset" help:"the dataset below the pool that all is made in; it is made if it is not there"`
	QemuImg         string         `ini:"qemu_img" help:"the program qemu-img, for images that are no zfs stream"`
	RunTimeout      time.Duration  `ini:"run_timeout" help:"of one run of zfs or zpool that copies nothing" min:"1s" max:"1h"`
	TransferTimeout time.Duration  `ini:"transfer_timeout" help:"of one run that copies a disk" min:"1s" max:"7d"`
	MaxSize         component.Size `ini:"max_size" help:"of a disk or image" min:"1MiB"`
	Overcommit      float64        `ini:"overcommit" help:"how many times the free space new disks may have; 0 is any number" min:"0"`
	Reserve         bool           `ini:"reserve" help:"keep the whole size of each disk free for it from the beginning"`
	fetch.Config
}

// Defaults is the Config of an empty section.
func Defaults() Config {
	return Config{
		Dataset: "vagoth", QemuImg: "qemu-img", RunTimeout: 2 * time.Minute, TransferTimeout: 6 * time.Hour, MaxSize: 16 << 40,
		Config: fetch.Defaults(),
	}
}

// Options are those of Open.
func (c Config) Options(deps subagent.Deps) Options {
	return Options{
		Dir: deps.Data, Pool: c.Pool, Dataset: c.Dataset, QemuImg: c.QemuImg, RunTimeout: c.RunTimeout, TransferTimeout: c.TransferTimeout,
		MaxSize: uint64(c.MaxSize) >> 20, Overcommit: c.Overcommit, Reserve: c.Reserve, Fetch: c.Config.Options(deps.Log), Log: deps.Log,
	}
}
