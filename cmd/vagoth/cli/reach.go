package cli

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/cmd/vagoth/serve"
	"github.com/vagoth/vagoth/internal/lockfile"
	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/manager/config"
)

const (
	dialTime    = 2 * time.Second        // for a daemon's socket
	versionTime = 10 * time.Second       // for its first answer
	lockSlice   = 200 * time.Millisecond // between two looks for a socket while another process has the lock
	maxToken    = 4 << 10                // bytes of a token's file
)

// reached is a cluster as a command sees it: through a daemon or inside the
// process.
type reached struct {
	client *api.Client
	close  func() error
	daemon bool
}

// settings reads the configuration.
func (a *app) settings() (*manager.Settings, error) {
	s, err := a.settingsOf(a.config)
	if errors.Is(err, fs.ErrNotExist) && !fileExists(a.config) {
		return nil, fmt.Errorf("there is no %s here: name one with --config, or begin with vagoth quickstart", a.config)
	}
	return s, err
}

func (a *app) settingsOf(file string) (*manager.Settings, error) {
	f, err := config.Load(file)
	if err != nil {
		return nil, err
	}
	return manager.Read(f, a.menu)
}

// reach finds the daemon: the one that --server names, or the one that holds the
// data directory. Without one it opens the stores itself. While another process
// holds them it waits for its end, or for its socket: a daemon that begins has
// the one before the other.
func (a *app) reach(ctx context.Context) (*reached, error) {
	if a.server != "" {
		return a.remote(ctx)
	}
	s, err := a.settings()
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(a.lockWait); ; {
		r, err := a.local(ctx, string(s.Daemon.Socket))
		if r != nil || err != nil {
			return r, err
		}
		left := time.Until(deadline)
		m, err := manager.Open(ctx, s, manager.Options{Log: a.log(), Now: a.env.Now, LockWait: max(0, min(lockSlice, left)), Work: true})
		var held *lockfile.HeldError
		switch {
		case err == nil:
			inside := api.InProcess(api.Handler(m, api.Options{Version: version(), Log: a.log(), Now: a.env.Now}))
			return &reached{
				client: api.NewClient("http://vagoth", inside),
				close:  func() error { return errors.Join(inside.Close(), m.Close()) },
			}, nil
		case !errors.As(err, &held) || left <= lockSlice || ctx.Err() != nil:
			return nil, err
		}
	}
}

// reachDaemon is the daemon that reach would find now, nil if there is none.
func (a *app) reachDaemon(ctx context.Context) (*reached, error) {
	if a.server != "" {
		return a.remote(ctx)
	}
	s, err := a.settings()
	if err != nil {
		return nil, err
	}
	return a.local(ctx, string(s.Daemon.Socket))
}

// local is the daemon at a socket, nil if nobody answers there.
func (a *app) local(ctx context.Context, path string) (*reached, error) {
	dialling, cancel := context.WithTimeout(ctx, dialTime)
	defer cancel()
	c, err := serve.Dial(dialling, path)
	switch {
	case err == nil:
		_ = c.Close()
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ENOTDIR), errors.Is(err, syscall.ENOTSOCK):
		return nil, nil
	case errors.Is(err, fs.ErrPermission):
		return nil, fmt.Errorf("a daemon's socket is at %s and you may not use it: become its user, or a member of [serve] socket_group", path)
	default:
		return nil, fmt.Errorf("the daemon at %s does not answer: %w", path, err)
	}
	t := serve.Transport(path)
	r := &reached{client: api.NewClient("http://vagoth", t), daemon: true, close: func() error { t.CloseIdleConnections(); return nil }}
	return r, a.greet(ctx, r, path)
}

// greet asks who answers. One of another version is asked all the same, as the
// interface keeps its meaning, but the person is told.
func (a *app) greet(ctx context.Context, r *reached, where string) error {
	ctx, cancel := context.WithTimeout(ctx, versionTime)
	defer cancel()
	v, err := r.client.Version(ctx)
	if api.CodeOf(err).Name == "forbidden" {
		return nil // a worker's token: what it may not do it is told when it asks
	}
	if err != nil {
		return errors.Join(fmt.Errorf("no vagoth answers at %s: %w", where, err), r.close())
	}
	if mine := version(); v.Version != mine && !a.warned {
		a.warned = true
		a.say("vagoth: the daemon at %s is of the version %s and this command of %s: start the daemon again, or use its command", where, v.Version, mine)
	}
	return nil
}

// remote is the daemon that --server or VAGOTH_URL names.
func (a *app) remote(ctx context.Context) (*reached, error) {
	if path, ok := strings.CutPrefix(a.server, "unix:"); ok {
		r, err := a.local(ctx, strings.TrimPrefix(path, "//"))
		if r == nil && err == nil {
			err = fmt.Errorf("no daemon answers at %s", a.server)
		}
		return r, err
	}
	u, err := url.Parse(a.server)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, usagef("--server %q is no address: write https://manager:8443, or unix:/path/of/vagoth.sock", a.server)
	}
	if u.Scheme == "http" && !loopback(u.Hostname()) {
		return nil, usagef("--server %s: what is asked, and the token, could be read on the way: write https://", a.server)
	}
	secret, err := a.secret()
	if err != nil {
		return nil, err
	}
	cfg, err := a.tlsConfig()
	if err != nil {
		return nil, err
	}
	t := &http.Transport{
		Proxy:           http.ProxyFromEnvironment,
		DialContext:     (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
		TLSClientConfig: cfg, TLSHandshakeTimeout: 10 * time.Second,
		IdleConnTimeout: time.Minute,
	}
	r := &reached{client: api.NewClient(a.server, bearer{t, secret}), daemon: true, close: func() error { t.CloseIdleConnections(); return nil }}
	return r, a.greet(ctx, r, a.server)
}

func loopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.Unmap().IsLoopback()
}

// secret is the token to show, from the file that is named or VAGOTH_TOKEN.
func (a *app) secret() (string, error) {
	text := a.env.Getenv("VAGOTH_TOKEN")
	if a.tokenFile != "" {
		data, err := os.ReadFile(a.tokenFile)
		if err != nil {
			return "", fmt.Errorf("--token-file: %w", err)
		}
		if len(data) > maxToken {
			return "", usagef("--token-file %s holds more than a token", a.tokenFile)
		}
		text = string(data)
	}
	text = strings.TrimSpace(text)
	if strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return "", usagef("what is given as the token holds more than a token")
	}
	return text, nil
}

func (a *app) tlsConfig() (*tls.Config, error) {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	if a.ca != "" {
		data, err := os.ReadFile(a.ca)
		if err != nil {
			return nil, fmt.Errorf("--ca: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(data) {
			return nil, usagef("--ca %s holds no certificate in PEM", a.ca)
		}
	}
	if (a.cert == "") != (a.key == "") {
		return nil, usagef("--cert and --cert-key go together: one of them is missing")
	}
	if a.cert != "" {
		pair, err := tls.LoadX509KeyPair(a.cert, a.key)
		if err != nil {
			return nil, fmt.Errorf("--cert, --cert-key: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// bearer shows a token with each request.
type bearer struct {
	http.RoundTripper
	secret string
}

// RoundTrip implements http.RoundTripper.
func (b bearer) RoundTrip(r *http.Request) (*http.Response, error) {
	if b.secret != "" {
		r = r.Clone(r.Context())
		r.Header.Set("Authorization", "Bearer "+b.secret)
	}
	return b.RoundTripper.RoundTrip(r)
}
