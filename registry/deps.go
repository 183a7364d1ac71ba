package registry

import (
	"log/slog"
	"time"
)

// Deps is what a backend is given when it is opened.
type Deps struct {
	Data     string           // the data directory; a backend keeps its files below it
	Log      *slog.Logger     // nil discards
	Now      func() time.Time // nil is the machine's clock
	LockWait time.Duration    // how long to wait for another process to release the store

	// Wrote is told how long each Update took that committed something or could
	// not; it must not block. nil is nobody.
	Wrote func(time.Duration)
}

// WithDefaults returns d with the fields that are nil filled in.
func (d Deps) WithDefaults() Deps {
	if d.Log == nil {
		d.Log = slog.New(slog.DiscardHandler)
	}
	if d.Now == nil {
		d.Now = time.Now
	}
	if d.Wrote == nil {
		d.Wrote = func(time.Duration) {}
	}
	return d
}
