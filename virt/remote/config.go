package remote

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/virt"
)

// Config is a [drivers.NAME] section with use = remote.
type Config struct {
	URL   string           `ini:"url" help:"of the hosts' agents; {host} stands for the hypervisor's address, or its ID if it has none; an address that is a URL itself is taken as it is"`
	Token component.Secret `ini:"token" help:"bearer token that the agents take, or file:PATH of one"`
	CA    component.Path   `ini:"ca" help:"certificate authority of the agents; the system's if empty"`
	Cert  component.Path   `ini:"cert" help:"our own certificate, for agents that ask for one"`
	Key   component.Path   `ini:"key" help:"our own key"`

	Timeout     time.Duration  `ini:"timeout" help:"of one request" min:"100ms" max:"1h"`
	JobTimeout  time.Duration  `ini:"job_timeout" help:"how long a job of the agent is waited for" min:"1s" max:"7d"`
	Connections int            `ini:"connections" help:"to one agent for requests that only look, as many for those that change something, and as many that wait for jobs" min:"1" max:"1024"`
	MaxGuests   int            `ini:"max_guests" help:"of one host; a longer listing is refused" min:"1" max:"100000"`
	MaxAnswer   component.Size `ini:"max_answer" help:"of one answer" min:"64KiB" max:"1GiB"`
}

// Defaults is the Config of an empty section.
func Defaults() Config {
	return Config{
		URL: "https://{host}:8080", Timeout: 30 * time.Second, JobTimeout: time.Hour,
		Connections: 32, MaxGuests: 10_000, MaxAnswer: 64 << 20,
	}
}

// Validate checks what the tags cannot say.
func (c Config) Validate() error {
	if _, err := parseAddress(strings.ReplaceAll(c.URL, hostMark, "host")); err != nil {
		return &component.KeyError{Key: "url", Reason: err.Error(), Suggestion: "such as " + Defaults().URL}
	}
	if (c.Cert == "") != (c.Key == "") {
		return &component.KeyError{Key: "cert", Reason: "cert and key go together: give both, or none"}
	}
	if t := c.Token.Reveal(); len(t) > maxToken || strings.ContainsFunc(t, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return &component.KeyError{Key: "token", Reason: "must be printable characters without spaces"}
	}
	return nil
}

const maxToken = 4096

// Kind is the component.
func Kind() component.Kind[virt.DriverDeps, virt.Driver] {
	return component.Define("hosts with an agent of their own, over its REST API", Defaults(),
		func(ctx context.Context, cfg Config, deps virt.DriverDeps) (virt.Driver, error) {
			return Open(ctx, cfg, deps)
		})
}

// Driver is a virt.Driver, Suspender, Measurer, Snapshotter, Meter, Imager,
// Consoler, LiveMigrator, DiskMover and Settler over the agents of its hosts.
// It dials when it is first asked about a host.
type Driver struct {
	cfg   Config
	log   *slog.Logger
	paths [uses]*bounded
}

var (
	_ virt.Driver       = (*Driver)(nil)
	_ virt.Suspender    = (*Driver)(nil)
	_ virt.Measurer     = (*Driver)(nil)
	_ virt.Snapshotter  = (*Driver)(nil)
	_ virt.Meter        = (*Driver)(nil)
	_ virt.Imager       = (*Driver)(nil)
	_ virt.Consoler     = (*Driver)(nil)
	_ virt.DriverCloser = (*Driver)(nil)
	_ virt.Fencer       = (*Driver)(nil)
	_ virt.LiveMigrator = (*Driver)(nil)
	_ virt.DiskMover    = (*Driver)(nil)
	_ virt.Settler      = (*Driver)(nil)
)

// Fences implements virt.Fencer: the agents compare tokens.
func (d *Driver) Fences() bool { return true }

// Open makes a driver. No agent is asked yet.
func Open(_ context.Context, cfg Config, deps virt.DriverDeps) (*Driver, error) {
	fail := func(err error) (*Driver, error) {
		return nil, fmt.Errorf("cannot open the remote driver %s: %w", deps.Name, err)
	}
	if err := cfg.Validate(); err != nil {
		return fail(err)
	}
	secure, err := cfg.tls()
	if err != nil {
		return fail(err)
	}
	d := &Driver{cfg: cfg, log: deps.Log}
	for i := range d.paths {
		d.paths[i] = &bounded{Transport: newTransport(cfg, secure), most: int64(cfg.MaxAnswer)}
	}
	d.paths[streams].most = 0
	d.paths[uploads].ResponseHeaderTimeout = cfg.JobTimeout // what was sent may be worked on
	if d.log == nil {
		d.log = slog.New(slog.DiscardHandler)
	}
	return d, nil
}

// Close lets go of the connections that are kept. Calls under way end by their
// own contexts.
func (d *Driver) Close() error {
	for _, p := range d.paths {
		p.CloseIdleConnections()
	}
	return nil
}

// tls reads the certificates: a file that is missing is found when the driver
// is opened, not when a host is needed.
func (c Config) tls() (*tls.Config, error) {
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		data, err := readPEM(string(c.CA))
		if err != nil {
			return nil, fmt.Errorf("cannot read ca: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(data) {
			return nil, fmt.Errorf("ca %s holds no certificate", c.CA)
		}
	}
	if c.Cert == "" {
		return t, nil
	}
	cert, err := readPEM(string(c.Cert))
	if err != nil {
		return nil, fmt.Errorf("cannot read cert: %w", err)
	}
	key, err := readPEM(string(c.Key))
	if err != nil {
		return nil, fmt.Errorf("cannot read key: %w", err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("cert and key do not belong together: %w", err)
	}
	t.Certificates = []tls.Certificate{pair}
	return t, nil
}

const maxPEM = 1 << 20

func readPEM(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, maxPEM))
}
