package serve

import (
	"context"
	"fmt"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/vagoth/vagoth/registry"
)

// notify tells systemd, if it has started us, where the daemon stands.
func (d *daemon) notify(state string) {
	if _, err := systemd.SdNotify(false, state); err != nil {
		d.log.Warn("cannot tell systemd", "state", state, "error", err)
	}
}

func (d *daemon) notifyReloading() {
	state := systemd.SdNotifyReloading
	if at := systemd.SdNotifyMonotonicUsec(); at != "" {
		state += "\n" + at // Type=notify-reload wants to know when
	}
	d.notify(state)
}

func (d *daemon) notifyReady(format string, args ...any) {
	d.notify(systemd.SdNotifyReady + "\nSTATUS=" + fmt.Sprintf(format, args...))
}

// watchdog tells systemd now and then that the daemon lives, as long as the
// registry answers.
func (d *daemon) watchdog(ctx context.Context) {
	interval, err := systemd.SdWatchdogEnabled(false)
	if err != nil {
		d.log.Warn("systemd's watchdog stays silent", "error", err)
	}
	if err != nil || interval <= 0 {
		return
	}
	tick := time.NewTicker(interval / 3)
	defer tick.Stop()
	for {
		if err := d.healthy(ctx, interval/3); err != nil {
			if ctx.Err() != nil {
				return
			}
			d.log.Error("the registry does not answer: systemd is told nothing and will restart the daemon", "error", err)
		} else {
			d.notify(systemd.SdNotifyWatchdog)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// healthy reports whether the registry answers in time.
func (d *daemon) healthy(ctx context.Context, within time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	_, err := d.m.Registry.View(ctx, registry.Consistent()) // if it never returns, systemd is told nothing either
	return err
}
