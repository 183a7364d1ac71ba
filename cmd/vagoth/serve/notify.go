package serve

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"

	"github.com/vagoth/vagoth/registry"
)

// Systemd tells systemd, if it has started the process, where that stands.
type Systemd struct{ Log *slog.Logger }

// Notify tells it anything.
func (s Systemd) Notify(state string) {
	if _, err := systemd.SdNotify(false, state); err != nil {
		s.Log.Warn("cannot tell systemd", "state", state, "error", err)
	}
}

// Status says what the process is busy with.
func (s Systemd) Status(text string) { s.Notify("STATUS=" + oneLine(text)) }

// Stopping says that it ends, and what that takes.
func (s Systemd) Stopping(text string) {
	s.Notify(systemd.SdNotifyStopping + "\nSTATUS=" + oneLine(text))
}

// Reloading says that it reads its configuration again.
func (s Systemd) Reloading() {
	state := systemd.SdNotifyReloading
	if at := systemd.SdNotifyMonotonicUsec(); at != "" {
		state += "\n" + at // Type=notify-reload wants to know when
	}
	s.Notify(state)
}

// Ready says that all is served.
func (s Systemd) Ready(format string, args ...any) {
	s.Notify(systemd.SdNotifyReady + "\nSTATUS=" + oneLine(fmt.Sprintf(format, args...)))
}

// Watchdog tells it now and then that the process lives, as long as healthy
// finds nothing, which it has to say in time.
func (s Systemd) Watchdog(ctx context.Context, what string, healthy func(context.Context) error) {
	interval, err := systemd.SdWatchdogEnabled(false)
	if err != nil {
		s.Log.Warn("systemd's watchdog stays silent", "error", err)
	}
	if err != nil || interval <= 0 {
		return
	}
	tick := time.NewTicker(interval / 3)
	defer tick.Stop()
	for {
		if err := within(ctx, interval/3, healthy); err != nil {
			if ctx.Err() != nil {
				return
			}
			s.Log.Error(what+" does not answer: systemd is told nothing and will restart the process", "error", err)
		} else {
			s.Notify(systemd.SdNotifyWatchdog)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func within(ctx context.Context, d time.Duration, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	return do(ctx)
}

func (d *daemon) systemd() Systemd { return Systemd{d.log} }

// healthy reports whether the registry answers. That it says that the store which it
// shares with others does not is an answer: to start again would bring nothing back, and
// what can be read would be gone.
func (d *daemon) healthy(ctx context.Context) error {
	_, err := d.m.Registry.View(ctx, registry.Consistent()) // if it never returns, systemd is told nothing either
	if errors.Is(err, registry.ErrUnavailable) {
		return nil
	}
	return err
}

// oneLine is text that systemd takes as one.
func oneLine(text string) string { return strings.Join(strings.Fields(text), " ") }
