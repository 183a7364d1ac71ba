package serve

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"

	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/scheduler"
)

// listen opens every listener, in front of which nobody is served yet.
func (d *daemon) listen(ctx context.Context) (err error) {
	cfg := d.settings.Daemon
	handler := d.handler()
	if d.socket, err = ListenUnix(ctx, string(cfg.Socket), cfg.SocketGroup); err != nil {
		return err
	}
	d.add(cfg, "socket", d.socket, nil, handler)
	if why := reachable(string(cfg.Socket)); cfg.SocketGroup != "" && why != "" {
		d.log.Warn(why)
	}
	var lc net.ListenConfig
	for _, address := range cfg.Listen {
		l, err := lc.Listen(ctx, "tcp", address)
		if err != nil {
			return fmt.Errorf("[serve] listen: %w", err)
		}
		var secure *tls.Config
		if d.certs != nil {
			secure = d.certs.Config()
		}
		d.add(cfg, "network", l, secure, handler)
	}
	served, ok := d.m.Scheduler.(scheduler.Server)
	if !ok {
		return nil
	}
	for _, own := range served.Listeners() {
		host, _, err := net.SplitHostPort(own.Address)
		if err != nil || !isLoopback(host) {
			return fmt.Errorf("the scheduler wants to be served at %q, which is no address of the loopback: it asks nobody who he is", own.Address)
		}
		l, err := lc.Listen(ctx, "tcp", own.Address)
		if err != nil {
			return fmt.Errorf("cannot serve %s: %w", own.Name, err)
		}
		if !own.Small {
			d.add(cfg, own.Name, l, nil, own.Handler)
			continue
		}
		d.servers = append(d.servers, NewLeanEndpoint(own.Name, l, own.Handler, limits(cfg), d.log))
	}
	return nil
}

// add puts a bounded server in front of h.
func (d *daemon) add(cfg manager.Daemon, name string, l net.Listener, secure *tls.Config, h http.Handler) {
	d.servers = append(d.servers, NewEndpoint(name, l, secure, h, limits(cfg), d.log))
}

func limits(cfg manager.Daemon) Limits {
	return Limits{MaxConnections: cfg.MaxConnections, HeaderTimeout: cfg.HeaderTimeout, BodyTimeout: cfg.BodyTimeout, IdleTimeout: cfg.IdleTimeout}
}

// start serves.
func (d *daemon) start() {
	for _, s := range d.servers {
		d.running.Go(func() {
			if err := s.Serve(); err != nil {
				d.fail(err)
			}
		})
	}
}

// closeListeners closes what was opened and is not served yet.
func (d *daemon) closeListeners() error {
	var errs []error
	for _, s := range d.servers {
		errs = append(errs, s.Abandon())
	}
	if d.socket != nil {
		errs = append(errs, d.socket.Remove())
	}
	return errors.Join(errs...)
}
