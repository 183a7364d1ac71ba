package libvirt

import (
	"context"
	"fmt"
	"log/slog"
	"path"
	"sync"
	"time"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/virt"
)

// Config is what a [drivers.NAME] section with use = libvirt says of hosts.
type Config struct {
	URI            string         `ini:"uri" help:"libvirtd of the hosts without an address of their own: qemu:///system, with ?socket=PATH, qemu+tls://HOST/system or qemu+ssh://USER@HOST/system"`
	Timeout        time.Duration  `ini:"timeout" help:"of one call" min:"100ms" max:"1h"`
	MigrateTimeout time.Duration  `ini:"migrate_timeout" help:"of one migration" min:"1s" max:"7d"`
	Disks          string         `ini:"disks" help:"directory on each host for the disks that provision makes"`
	Pool           string         `ini:"pool" help:"libvirt's storage pool over that directory, made if it is missing"`
	Emulator       string         `ini:"emulator" help:"kvm, qemu (software emulation) or auto: kvm on hosts that have it" oneof:"auto,kvm,qemu"`
	Connections    int            `ini:"connections" help:"to one host for calls that change something, and as many for those that only look" min:"1" max:"64"`
	MaxDomains     int            `ini:"max_domains" help:"of one host; a longer listing is refused" min:"1" max:"100000"`
	Filter         bool           `ini:"filter" help:"let the NICs of guests on networks and bridges send only from their own MAC and IPv4 address (libvirt's clean-traffic)"`
	CA             component.Path `ini:"tls_ca" help:"certificate authority of the hosts, for qemu+tls"`
	Cert           component.Path `ini:"tls_cert" help:"our own certificate, for qemu+tls"`
	Key            component.Path `ini:"tls_key" help:"our own key, for qemu+tls"`
	SSH            string         `ini:"ssh" help:"the ssh program, for qemu+ssh"`
}

// Defaults is the Config of an empty section.
func Defaults() Config {
	return Config{
		URI:            "qemu:///system",
		Timeout:        30 * time.Second,
		MigrateTimeout: time.Hour,
		Disks:          "/var/lib/vagoth/disks",
		Pool:           "vagoth",
		Emulator:       "auto",
		Connections:    4,
		MaxDomains:     10_000,
		CA:             "/etc/pki/CA/cacert.pem",
		Cert:           "/etc/pki/libvirt/clientcert.pem",
		Key:            "/etc/pki/libvirt/private/clientkey.pem",
		SSH:            "ssh",
	}
}

// Validate checks what the tags cannot say.
func (c Config) Validate() error {
	if _, err := parseAddress(c.URI); err != nil {
		return &component.KeyError{Key: "uri", Reason: err.Error()}
	}
	if !path.IsAbs(c.Disks) || path.Clean(c.Disks) != c.Disks || c.Disks == "/" || !printable(c.Disks) || len(c.Disks) > 512 {
		return &component.KeyError{Key: "disks", Reason: "must be a plain absolute path on the hosts", Suggestion: "such as /var/lib/vagoth/disks"}
	}
	if !word(c.Pool, "._-", 64) {
		return &component.KeyError{Key: "pool", Reason: "must be a name of letters, digits and . _ -"}
	}
	return nil
}

// filter is the name of libvirt's filter for NICs; "" is none.
func (c Config) filter() string {
	if c.Filter {
		return "clean-traffic"
	}
	return ""
}

// Driver is a virt.Driver, Suspender, Migrator, Measurer, Meter, DiskAttacher and
// Consoler over libvirt. It dials when it is first asked about a host.
type Driver struct {
	cfg Config
	log *slog.Logger
	now func() time.Time

	mu     sync.Mutex
	pools  map[string]*pool // by address
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
	_ virt.DriverCloser = (*Driver)(nil)
)

// Open makes a driver. No host is asked yet.
func Open(_ context.Context, cfg Config, deps virt.DriverDeps) (*Driver, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("cannot open the libvirt driver %s: %w", deps.Name, err)
	}
	d := &Driver{cfg: cfg, log: deps.Log, now: deps.Now, pools: map[string]*pool{}}
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	if d.now == nil {
		d.now = time.Now
	}
	return d, nil
}

// maxHosts bounds the addresses that one driver keeps connections for.
const maxHosts = 10_000

// pool finds the connections to a host.
func (d *Driver) pool(h virt.Host) (*pool, error) {
	address := h.Address
	if address == "" {
		address = d.cfg.URI
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return nil, fmt.Errorf("%w: the driver is closed", virt.ErrUnreachable)
	}
	if p, ok := d.pools[address]; ok {
		return p, nil
	}
	e, err := parseAddress(address)
	if err != nil {
		return nil, err
	}
	if len(d.pools) >= maxHosts {
		return nil, fmt.Errorf("%w: this driver has connections to %d addresses, which is the most it keeps", virt.ErrUnreachable, maxHosts)
	}
	p := newPool(e, d.cfg, d.now)
	d.pools[address] = p
	return p, nil
}

// Local reports whether a host is this machine: its libvirtd is spoken to over a
// socket here.
func (d *Driver) Local(h virt.Host) (bool, error) {
	p, err := d.pool(h)
	if err != nil {
		return false, err
	}
	return p.endpoint.transport == overUnix && !p.endpoint.isTest(), nil
}

// Close ends what is under way and waits for it.
func (d *Driver) Close() error {
	d.mu.Lock()
	d.closed = true
	pools := d.pools
	d.pools = map[string]*pool{}
	d.mu.Unlock()
	var wg sync.WaitGroup
	for _, p := range pools {
		wg.Go(p.close)
	}
	wg.Wait()
	return nil
}
