package libvirtdir

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/libvirt"
	"github.com/vagoth/vagoth/virt/subagent/dir"
	"github.com/vagoth/vagoth/virt/subagent/fetch"
)

// Hosts are the keys of package virt/libvirt.
type Hosts = libvirt.Config

// Fetching are the keys of downloads.
type Fetching = fetch.Config

// Config is a [drivers.NAME] section with use = libvirt.
type Config struct {
	Hosts
	QemuImg string `ini:"qemu_img" help:"the program qemu-img, for images and snapshots on this machine"`
	Fetching
}

// Defaults is the Config of an empty section.
func Defaults() Config {
	return Config{Hosts: libvirt.Defaults(), QemuImg: dir.Defaults().QemuImg, Fetching: fetch.Defaults()}
}

// Validate checks what the tags cannot say.
func (c Config) Validate() error { return c.Hosts.Validate() }

// Kind is the component.
func Kind() component.Kind[virt.DriverDeps, virt.Driver] {
	return component.Define("real hypervisors, over libvirt's RPC protocol", Defaults(),
		func(ctx context.Context, cfg Config, deps virt.DriverDeps) (virt.Driver, error) {
			return Open(ctx, cfg, deps)
		})
}

// Driver is a virt.Driver, and whatever else a driver can be.
type Driver struct {
	*libvirt.Driver
	cfg Config
	log *slog.Logger

	mu     sync.Mutex
	store  *dir.Store // nil until it is first needed
	closed bool
}

var (
	_ virt.Driver       = (*Driver)(nil)
	_ virt.Suspender    = (*Driver)(nil)
	_ virt.Migrator     = (*Driver)(nil)
	_ virt.Settler      = (*Driver)(nil)
	_ virt.Measurer     = (*Driver)(nil)
	_ virt.Meter        = (*Driver)(nil)
	_ virt.DiskAttacher = (*Driver)(nil)
	_ virt.Consoler     = (*Driver)(nil)
	_ virt.Snapshotter  = (*Driver)(nil)
	_ virt.Imager       = (*Driver)(nil)
	_ virt.DriverCloser = (*Driver)(nil)
)

// Open makes a driver. Neither a host nor the directory is asked yet.
func Open(ctx context.Context, cfg Config, deps virt.DriverDeps) (*Driver, error) {
	over, err := libvirt.Open(ctx, cfg.Hosts, deps)
	if err != nil {
		return nil, err
	}
	d := &Driver{Driver: over, cfg: cfg, log: deps.Log}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	return d, nil
}

// Close ends what is under way and waits for it.
func (d *Driver) Close() error {
	d.mu.Lock()
	d.closed = true
	s := d.store
	d.store = nil
	d.mu.Unlock()
	var err error
	if s != nil {
		err = s.Close()
	}
	return errors.Join(err, d.Driver.Close())
}

// disks is the store of a host that is this machine.
func (d *Driver) disks(ctx context.Context, h virt.Host) (*dir.Store, error) {
	local, err := d.Local(h)
	if err != nil {
		return nil, err
	}
	if !local {
		return nil, fmt.Errorf("%w: the disks of host %.64s are not on this machine, and libvirt's protocol neither copies nor snapshots them: run an agent there (`vagoth agent`), and give the host the driver remote",
			virt.ErrUnsupported, h.ID)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, fmt.Errorf("%w: the driver is closed", virt.ErrUnreachable)
	}
	if d.store == nil {
		o := dir.Config{QemuImg: d.cfg.QemuImg, RunTimeout: dir.Defaults().RunTimeout, MaxSize: dir.Defaults().MaxSize, Config: d.cfg.Fetching}
		s, err := dir.Open(ctx, o.In(d.cfg.Hosts.Disks, Live{d.Driver}, d.log))
		if err != nil {
			return nil, err
		}
		d.store = s
	}
	return d.store, nil
}

// kept reports whether the store knows of a guest, without opening it.
func (d *Driver) kept(h virt.Host, g virt.Guest) bool {
	local, err := d.Local(h)
	if err != nil || !local {
		return false
	}
	_, err = os.Lstat(filepath.Join(d.cfg.Hosts.Disks, dir.FolderOf(idOf(g))))
	return err == nil
}
