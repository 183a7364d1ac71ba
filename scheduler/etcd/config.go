package etcd

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/vagoth/vagoth/internal/etcdclient"
	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/scheduler/engine"
)

// Connection is how etcd is reached.
type Connection = etcdclient.Config

// Queueing is what the scheduler broker can be told, too.
type Queueing = engine.Config

// Config is the section [scheduler] of the ini file, or [scheduler.etcd], with the
// sections [queue.NAME] and [limit.NAME]. What it says of queues, limits, leases and
// history is taken from the manager that leads.
type Config struct {
	Connection
	Queueing
	Session   time.Duration `ini:"session" help:"after which a manager that says nothing is taken for dead, and another leads in its place" min:"2s" max:"10m"`
	Listen    string        `ini:"listen" help:"host:port at which the other managers reach this one; empty is a free port of the address from which etcd is reached"`
	Advertise string        `ini:"advertise" help:"host:port that they are told, if that is another one"`
	Unfenced  string        `ini:"unfenced" help:"whether drivers are taken that cannot refuse a manager which was taken for dead" oneof:"refuse,accept"`
}

// Defaults is the Config that an empty section gives.
func Defaults() Config {
	c := Config{Connection: etcdclient.Defaults(), Queueing: engine.Defaults(), Session: 10 * time.Second, Unfenced: "refuse"}
	c.Timeout = 4 * time.Second
	return c
}

// Kind is this scheduler on a menu.
func Kind() component.Kind[scheduler.Deps, scheduler.Scheduler] {
	return component.Define("durable queues on etcd, which any number of managers share", Defaults(),
		func(ctx context.Context, cfg Config, deps scheduler.Deps) (scheduler.Scheduler, error) {
			if deps.Still {
				return OpenStill(ctx, cfg, deps)
			}
			return Open(ctx, cfg, deps)
		})
}

// Validate refuses what no single key shows.
func (c Config) Validate() error {
	errs := []error{c.Connection.Validate(), c.Queueing.Validate()}
	if c.Timeout > c.Session/answersInSession {
		errs = append(errs, &component.KeyError{
			Key: "timeout", Reason: fmt.Sprintf("an answer of etcd that takes %s would end the session of %s: at most half of it", c.Timeout, c.Session),
			Suggestion: fmt.Sprintf("timeout = %s, or session = %s", c.Session/answersInSession, answersInSession*c.Timeout),
		})
	}
	for key, at := range map[string]string{"listen": c.Listen, "advertise": c.Advertise} {
		if at == "" {
			continue
		}
		host, port, err := net.SplitHostPort(at)
		if err != nil || key == "advertise" && (host == "" || port == "0") {
			errs = append(errs, &component.KeyError{Key: key, Reason: fmt.Sprintf("%.64q is no address: write 10.0.0.5:7411", at)})
		}
	}
	return errors.Join(errs...)
}
