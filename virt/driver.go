package virt

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"
)

// Driver does to hosts what it is told. Its methods are safe for concurrent use
// and idempotent: starting what runs, stopping what is off, defining what is
// already defined that way all succeed. What is not there is ErrNotFound; a
// host that cannot be asked, or not in time, is ErrUnreachable; what this host
// can never do is ErrUnsupported. A driver never trusts its host: every call
// has a deadline, every frame and list a bound.
type Driver interface {
	// Status lists every VM of the host with its state.
	Status(ctx context.Context, h Host) (Listing, error)
	// Info looks at one VM.
	Info(ctx context.Context, h Host, g Guest) (Info, error)
	// Define makes the guest known to the host, as it is defined, without
	// starting it.
	Define(ctx context.Context, h Host, g Guest) error
	// Undefine makes the host forget a guest that does not run (ErrBusy if it
	// does). Its disks stay.
	Undefine(ctx context.Context, h Host, g Guest) error
	// Provision makes the disks that are not there yet.
	Provision(ctx context.Context, h Host, g Guest) error
	// Deprovision wipes the disks that Provision made. It refuses a guest that
	// runs (ErrBusy).
	Deprovision(ctx context.Context, h Host, g Guest) error
	// Power starts or stops.
	Power(ctx context.Context, h Host, g Guest, op PowerOp) error
}

// PowerOp is what Power does.
type PowerOp string

// The operations of Power. Shutdown and Reboot ask the guest, and return when
// it was asked; Start and Stop return when it is done.
const (
	PowerStart    PowerOp = "start"
	PowerStop     PowerOp = "stop" // as if the plug were pulled
	PowerShutdown PowerOp = "shutdown"
	PowerReboot   PowerOp = "reboot"
)

// Suspender is a Driver that can hold a guest and let it go on.
type Suspender interface {
	Suspend(ctx context.Context, h Host, g Guest) error
	Resume(ctx context.Context, h Host, g Guest) error
}

// Migrator is a Driver that can move a guest to another of its hosts. After an
// error the guest is where Info finds it.
type Migrator interface {
	Migrate(ctx context.Context, from, to Host, g Guest, live bool) error
}

// LiveMigrator is a Driver that can move a guest that runs, without disks of its
// own; one that is off is moved by defining it there. After an error the guest is
// where Info finds it once both hosts are settled.
type LiveMigrator interface {
	MigrateLive(ctx context.Context, from, to Host, g Guest) error
}

// DiskMover is a Driver that can bring the disks of a guest that is off to another
// of its hosts, for one that is no Migrator.
type DiskMover interface {
	// CopyDisks makes the guest's disks on the host to, with what those on from hold,
	// and returns when they are whole. Those on from stay, and the guest where it is.
	// What an earlier CopyDisks left at either host is removed first; whatever comes of
	// this one, TidyDisks is to be called. progress is told
	// the bytes that were copied so far. Disks that cannot be copied with all that
	// they have, such as snapshots, are ErrUnsupported.
	CopyDisks(ctx context.Context, from, to Host, g Guest, progress func(done int64)) error
	// TidyDisks removes all that there is of the guest's disks on the host left, on
	// which it must not be, and at home, whose disks stay, what a CopyDisks left
	// there beside them. Home has no ID if the guest has none.
	TidyDisks(ctx context.Context, home, left Host, g Guest) error
}

// Settler is a Driver that can end, or wait for, what somebody who may have died had
// asked of a host.
type Settler interface {
	// Settle returns when nothing that the host was asked for the guest is under
	// way, or will be, with a token no higher than that in the trail: what Info says
	// from then on stays so.
	Settle(ctx context.Context, h Host, g Guest) error
}

// Measurer is a Driver that can say what a host has.
type Measurer interface {
	Capacity(ctx context.Context, h Host) (Capacity, error)
}

// Consoler is a Driver that can attach to a guest's serial console: what the
// guest prints from then on is read, what is written is typed. Of a guest that is
// off it is ErrConflict, of one without such a console ErrUnsupported. The console
// lives until it is closed, ctx ends or the guest stops, which reads as io.EOF.
type Consoler interface {
	Console(ctx context.Context, h Host, g Guest) (io.ReadWriteCloser, error)
}

// Host is a hypervisor as a driver needs it.
type Host struct {
	ID      string
	Address string // from its definition; the driver's own if empty
	Peer    string // from its definition: where guests that run are moved to; "" if they are not
}

// Guest is a VM as a driver needs it.
type Guest struct {
	ID         string
	UUID       string
	Name       string
	Tenant     string
	Definition Definition // UUID, volumes and device names filled in
}

// Listing is what Status saw.
type Listing struct {
	Complete bool // false: what is not listed may be there all the same
	Guests   []Seen
	Capacity Capacity // as far as the host says; 0 is unknown
}

// Seen is one VM of a Listing.
type Seen struct {
	UUID   string
	Name   string // as the host calls it
	State  State
	CPU    int
	Memory int64 // MB
}

// Capacity is what a host has.
type Capacity struct {
	CPU    int64 `json:"cpu,omitempty"`    // hardware threads
	Memory int64 `json:"memory,omitempty"` // MB
	Disk   int64 `json:"disk,omitempty"`   // MB
}

// Info is a closer look at one VM.
type Info struct {
	Seen
	CPUTime   time.Duration     `json:"cpu_time"`
	VNC       string            `json:"vnc,omitempty"`     // host:port
	Console   string            `json:"console,omitempty"` // pty or file of the serial console
	Addresses []string          `json:"addresses,omitempty"`
	Extra     map[string]string `json:"extra,omitempty"`
}

// What a driver's error can be; test with errors.Is.
var (
	ErrNotFound    = errors.New("not found")
	ErrUnreachable = errors.New("host cannot be reached")
	ErrUnsupported = errors.New("not supported")
	ErrBusy        = errors.New("running")
	ErrConflict    = errors.New("conflict")
	ErrInvalid     = errors.New("invalid")
)

// DriverDeps is what a driver is given.
type DriverDeps struct {
	Name string // of its [drivers.NAME] section
	Data string // the data directory
	Log  *slog.Logger
	Now  func() time.Time
}

// Fencer is a driver that compares the token in the trail of each call that changes
// something with that of the last one for the same guest, or whose hosts do, and
// refuses the lower. A job that was given to another manager, as this one was taken
// for dead, does no harm then.
type Fencer interface{ Fences() bool }

// DriverCloser is a Driver with something to release.
type DriverCloser interface{ Close() error }
