package serve

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// reloadable are the keys of [serve] that are taken while the daemon runs.
func reloadable() []string {
	return []string{"tls_cert", "tls_key", "client_ca", "log_level", "shutdown_timeout"}
}

// reload takes what can be taken of the file as it is now. If any of it is
// wrong all of it stays as it was.
func (d *daemon) reload(ctx context.Context) {
	d.systemd().Reloading()
	restart, err := d.take(ctx)
	switch {
	case err != nil:
		d.log.Error("nothing was reloaded: the old configuration stays", "error", err)
		d.systemd().Ready("serving; the last reload failed: %s", err)
		return
	case len(restart) > 0:
		d.log.Warn("reloaded; these keys are taken when the daemon is started again", "keys", strings.Join(restart, ", "))
	default:
		d.log.Info("reloaded")
	}
	d.systemd().Ready("serving at %s", d.settings.Daemon.Socket)
}

func (d *daemon) take(ctx context.Context) (restart []string, err error) {
	next, err := d.o.Load()
	if err != nil {
		return nil, err
	}
	if next.Data != d.settings.Data {
		return nil, fmt.Errorf("data is %s now, and was %s: start the daemon again to serve another directory", next.Data, d.settings.Data)
	}
	if err := d.tokens.Reload(); err != nil {
		return nil, fmt.Errorf("[serve] tokens: %w", err)
	}
	if err := checkListen(next.Daemon, d.tokens.HasTokens()); err != nil {
		return nil, err
	}
	takeCertificates, err := d.certs.Reload(files(next.Daemon))
	if err != nil {
		return nil, err
	}
	if (d.certs != nil) != (next.Daemon.TLSCert != "") {
		restart = []string{"[serve] tls_cert"} // a listener begins with TLS or without
	}
	of, err := d.m.Reload(ctx, next)
	if err != nil {
		return nil, err
	}
	restart = append(restart, of...)
	for _, key := range d.settings.Changed(next) {
		if name, ok := strings.CutPrefix(key, "[serve] "); ok && !slices.Contains(reloadable(), name) {
			restart = append(restart, key)
		}
	}
	takeCertificates()
	d.mu.Lock()
	d.current = next.Daemon
	d.mu.Unlock()
	return restart, d.setLevel(next.Daemon.LogLevel)
}
