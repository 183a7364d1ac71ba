package fetch

import (
	"cmp"
	"context"
	"log/slog"
	"net/netip"
	"time"
)

// Options are the bounds of downloads, and of what is sent. The zero Options are fine.
type Options struct {
	MaxBytes    int64         // as they are sent; 64 GiB if 0
	MaxUnpacked int64         // as they are unpacked; 256 GiB if 0
	Timeout     time.Duration // of a whole download; 6 hours if 0
	Stall       time.Duration // in each span of waiting so long, MinPerStall bytes must come; 30 seconds if 0
	MinPerStall int64         // 32 KiB if 0
	Concurrent  int           // downloads at once, further ones wait; 4 if 0
	RequireSum  bool          // refuses a download whose sha256 is not given; what is sent needs none
	WriteBack   bool          // begins to put on disk what comes while it comes: for who keeps the file and syncs it

	// Private allows addresses that are not public: loopback, private networks,
	// link-local. Allow allows only these networks more.
	Private bool
	Allow   []netip.Prefix

	Log *slog.Logger
}

func (o Options) filled() Options {
	o.MaxBytes = cmp.Or(o.MaxBytes, 64<<30)
	o.MaxUnpacked = cmp.Or(o.MaxUnpacked, 256<<30)
	o.Timeout = cmp.Or(o.Timeout, 6*time.Hour)
	o.Stall = cmp.Or(o.Stall, 30*time.Second)
	o.MinPerStall = cmp.Or(o.MinPerStall, 32<<10)
	o.Concurrent = cmp.Or(max(o.Concurrent, 0), 4)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

// Item is something to download, or to take as it is sent.
type Item struct {
	Name   string // of the file; letters, digits and -_.: only
	URL    string // http or https; "" for what is sent
	Size   int64  // bytes that must be sent; 0 if it is not known
	SHA256 string // of what is sent, in hex; "" if it is not known
}

// Got is a download that is whole and checked, and not synced.
type Got struct {
	Name   string // of the file in the folder, while it is being used
	Size   int64  // bytes of the file
	Sent   int64  // bytes that were sent
	SHA256 string // of what was sent
	Packed string // "gzip", "xz", "zstd" or ""
}

// Progress is how far a download is.
type Progress struct {
	Done  int64 // bytes that were sent
	Total int64 // -1 if it is not known

	Waiting int // calls of Fetch that share it
}

// Finish makes something of a download whose file is not visible yet and goes
// away when Finish returns.
type Finish func(ctx context.Context, got Got) error
