package fetch

import (
	"log/slog"
	"net/netip"
	"time"

	"github.com/vagoth/vagoth/manager/component"
)

// Config is what the section of a sub-agent says of its downloads.
type Config struct {
	MaxBytes    component.Size `ini:"fetch_max" help:"bytes that one download may send" min:"1B"`
	MaxUnpacked component.Size `ini:"fetch_max_unpacked" help:"bytes of it once it is unpacked" min:"1B"`
	Timeout     time.Duration  `ini:"fetch_timeout" help:"of a whole download" min:"1s" max:"7d"`
	Stall       time.Duration  `ini:"fetch_stall" help:"how long a download may bring next to nothing" min:"100ms" max:"1h"`
	Concurrent  int            `ini:"fetch_concurrent" help:"downloads at once; further ones wait" min:"1" max:"1000"`
	RequireSum  bool           `ini:"fetch_require_sum" help:"refuse what comes without a sha256"`
	Private     bool           `ini:"fetch_private" help:"download from addresses too that are not public"`
	Allow       []netip.Prefix `ini:"fetch_allow" help:"networks that are downloaded from though they are not public" example:"10.0.0.0/24"`
}

// Defaults is the Config of an empty section.
func Defaults() Config {
	return Config{MaxBytes: 64 << 30, MaxUnpacked: 256 << 30, Timeout: 6 * time.Hour, Stall: 30 * time.Second, Concurrent: 4}
}

// Options are those of Open.
func (c Config) Options(log *slog.Logger) Options {
	return Options{
		MaxBytes: int64(c.MaxBytes), MaxUnpacked: int64(c.MaxUnpacked), Timeout: c.Timeout, Stall: c.Stall,
		Concurrent: c.Concurrent, RequireSum: c.RequireSum, Private: c.Private, Allow: c.Allow, Log: log,
	}
}
