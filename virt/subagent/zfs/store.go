package zfs

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	gozfs "github.com/mistifyio/go-zfs/v4"

	"github.com/vagoth/vagoth/internal/lockfile"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/fetch"
	"github.com/vagoth/vagoth/virt/subagent/qemuimg"
	"github.com/vagoth/vagoth/virt/subagent/store"
)

// Options modify Open. Dir and Pool must be given.
type Options struct {
	Dir             string        // for the lock and for downloads; one store a directory, one directory a dataset
	Pool            string        // which is there
	Dataset         string        // the parent of all that is made, below the pool, which is made if it is not there; vagoth if ""
	QemuImg         string        // the program; qemu-img if ""
	RunTimeout      time.Duration // of one run of zfs; 2 minutes if 0
	TransferTimeout time.Duration // of what copies whole disks; 6 hours if 0
	Patience        time.Duration // with a device that is to appear, and with who looks at one for a moment; 10 seconds if 0
	MaxSize         uint64        // of a disk or image, in MB; 16 TiB if 0
	Overcommit      float64       // how many times the free space new disks may have; 0 is any number
	Reserve         bool          // a disk has its whole size from the beginning
	Fetch           fetch.Options
	Log             *slog.Logger

	// Device finds the device of a volume; for tests without ZFS. nil finds it.
	Device func(ctx context.Context, volume string) (path string, err error)
	// QemuRun runs qemu-img; for tests. nil runs it.
	QemuRun qemuimg.Runner
}

// Store is the sub-agent. Its methods are those of the actions; they are safe for
// concurrent use.
type Store struct {
	o       Options
	parent  string // POOL/DATASET
	root    *os.Root
	inbox   *os.Root
	lock    *lockfile.Lock
	fetcher *fetch.Fetcher
	qemu    qemuimg.Tool
	rules   store.Rules
	locks   store.Locks // of guests and volumes
	uses    store.Uses
	running sync.WaitGroup // commands
	stuck   atomic.Int32   // those of them that cannot be ended
}

// The datasets of a store below its parent, and the folder of downloads.
const (
	images   = store.ImagesFolder
	guests   = store.GuestsFolder
	volumes  = store.VolumesFolder
	half     = "half"
	incoming = "incoming"
)

// maxParent leaves room for the longest name of a snapshot.
const maxParent = 64

// maxName is how long ZFS lets a name be.
const maxName = 255

var (
	poolName    = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9_.:-]*$`)
	datasetName = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.:-]*(/[a-zA-Z0-9][a-zA-Z0-9_.:-]*)*$`)
)

// Open makes the datasets that are not there, and brings what an earlier process
// left half done to an end. A pool that is not there is a virt.ErrUnreachable.
// One process uses a directory at a time.
//
// go-zfs has one timeout for all of a process: that of the store that was opened
// last.
func Open(ctx context.Context, o Options) (*Store, error) {
	o.Dataset = cmp.Or(o.Dataset, "vagoth")
	o.RunTimeout = cmp.Or(o.RunTimeout, 2*time.Minute)
	o.TransferTimeout = cmp.Or(o.TransferTimeout, 6*time.Hour)
	o.Patience = cmp.Or(o.Patience, 10*time.Second)
	o.MaxSize = cmp.Or(o.MaxSize, 16<<20)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Fetch.Log == nil {
		o.Fetch.Log = o.Log
	}
	s := &Store{o: o, parent: o.Pool + "/" + o.Dataset}
	if o.Dir == "" {
		return nil, fmt.Errorf("%w: the store has no directory", virt.ErrInvalid)
	}
	if !poolName.MatchString(o.Pool) || !datasetName.MatchString(o.Dataset) || strings.Contains(s.parent, "..") || len(s.parent) > maxParent {
		return nil, fmt.Errorf("%w: the pool %.100q and its dataset %.100q must be words of letters, digits, -, _, : and single dots, together at most %d bytes; the dataset can have slashes between words",
			virt.ErrInvalid, o.Pool, o.Dataset, maxParent)
	}
	s.qemu = qemuimg.Tool{Program: o.QemuImg, Timeout: o.TransferTimeout, Run: o.QemuRun}
	s.rules = store.Rules{MaxSize: o.MaxSize, Formats: []string{qemuimg.Raw}, Root: zvolLinks + s.parent + "/"}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open the store %s: %w", s.parent, err), s.Close())
	}
	return s, nil
}

// lockWait is how long a store that is in use is waited for: a command that was
// begun by a process that was killed holds it until it has ended.
const lockWait = 20 * time.Second

func (s *Store) open(ctx context.Context) (err error) {
	dir, err := filepath.Abs(s.o.Dir)
	if err != nil {
		return err
	}
	s.o.Dir = dir
	for _, name := range [...]string{incoming, seeds} {
		if err := os.MkdirAll(filepath.Join(dir, name), 0o711); err != nil {
			return err
		}
	}
	if s.lock, err = lockfile.Acquire(ctx, filepath.Join(dir, "lock"), lockWait); err != nil {
		return err
	}
	if s.root, err = os.OpenRoot(dir); err != nil {
		return err
	}
	if s.inbox, err = s.root.OpenRoot(incoming); err != nil {
		return err
	}
	gozfs.SetRunner(&gozfs.Runner{Timeout: s.o.RunTimeout, Grace: stuckAfter})
	if err := s.poolThere(); err != nil {
		return err
	}
	have, err := s.makeParents(ctx)
	if err != nil {
		return err
	}
	if err := s.sweep(ctx, have); err != nil {
		return err
	}
	if s.fetcher, err = fetch.Open(s.inbox, s.o.Fetch); err != nil {
		return err
	}
	if err := s.recoverAll(ctx, have); err != nil {
		return err
	}
	return s.linkAll(ctx, have)
}

// poolThere refuses a pool that is not there or cannot be used.
func (s *Store) poolThere() error {
	pool, err := gozfs.GetZpool(s.o.Pool)
	var failed *gozfs.Error
	switch {
	case errors.As(err, &failed):
		said := strings.Join(strings.Fields(failed.Stderr), " ")
		return fmt.Errorf("%w: the pool %s cannot be used, zpool import %s if it is only not imported: %.500s: %w", virt.ErrUnreachable, s.o.Pool, s.o.Pool, said, failed.Err)
	case err != nil:
		return fmt.Errorf("%w: zpool says of %s what cannot be understood: %w", virt.ErrUnreachable, s.o.Pool, err)
	case pool.Health != gozfs.ZpoolOnline && pool.Health != gozfs.ZpoolDegraded:
		return fmt.Errorf("%w: the pool %s is %s: look at zpool status %s", virt.ErrUnreachable, s.o.Pool, pool.Health, s.o.Pool)
	case pool.ReadOnly:
		return fmt.Errorf("%w: the pool %s is imported to be read only", virt.ErrUnreachable, s.o.Pool)
	}
	return nil
}

// makeParents makes the datasets that are not there, and returns all that there
// is. None is ever mounted, and nobody looks for partitions in what guests write.
func (s *Store) makeParents(ctx context.Context) ([]dataset, error) {
	out, err := s.run(ctx, "list", "-Hp", "-o", columns(), "-t", "filesystem,volume,snapshot", "-r", "--", s.parent)
	if errors.Is(err, virt.ErrNotFound) {
		_, err = s.run(ctx, "create", "-p", "-o", "canmount=off", "-o", "mountpoint=none", "-o", "volmode=dev", "--", s.parent)
		out = nil
	}
	if err != nil {
		return nil, err
	}
	have, err := s.parse(out)
	if err != nil {
		return nil, err
	}
	for _, name := range [...]string{images, guests, volumes, half} {
		if named(have, name) != nil {
			continue
		}
		if _, err := s.run(ctx, "create", "-o", "canmount=off", "--", s.full(name)); err != nil {
			return nil, err
		}
	}
	return have, nil
}

// sweep removes what was half made or half removed. What is still in use stays
// until the store is opened again.
func (s *Store) sweep(ctx context.Context, have []dataset) error {
	for _, d := range have {
		name, below := strings.CutPrefix(d.name, half+"/")
		left := below && !strings.ContainsAny(name, "/@")
		if id, ok := strings.CutPrefix(d.name, images+"/"); ok && d.kind == volume && named(have, imageSnapshot(id)) == nil {
			left = true // a removal took its snapshot
		}
		if !left {
			continue
		}
		err := s.destroy(ctx, d.name, true)
		if errors.Is(err, virt.ErrBusy) {
			s.o.Log.Warn("what was half removed is still in use, and stays", "dataset", s.full(d.name), "error", err)
			continue
		}
		if err != nil {
			return err
		}
		s.unlink(d.name)
		s.o.Log.Info("what was half made or half removed is swept", "dataset", s.full(d.name))
	}
	return nil
}

// Close ends the downloads under way and lets another process open the store.
func (s *Store) Close() error {
	var errs []error
	if s.fetcher != nil {
		errs = append(errs, s.fetcher.Close())
	}
	if s.stuck.Load() == 0 {
		s.running.Wait()
	} else {
		errs = append(errs, fmt.Errorf("%d zfs commands hang in the kernel and are left alone: look at zpool status %s", s.stuck.Load(), s.o.Pool))
	}
	for _, root := range []*os.Root{s.inbox, s.root} {
		if root != nil {
			errs = append(errs, root.Close())
		}
	}
	if s.lock != nil {
		errs = append(errs, s.lock.Release())
	}
	return errors.Join(errs...)
}

// Register makes a server answer every method of the store.
func (s *Store) Register(server *mistify.Server) { store.Register(server, s) }

// Fetching returns the downloads under way, by image.
func (s *Store) Fetching() map[string]fetch.Progress { return s.fetcher.Under() }

// unnamed is a name in half that nothing has.
func unnamed() string { return half + "/" + rand.Text() }

// patient asks until the answer is yes or the store's patience runs out.
func (s *Store) patient(ctx context.Context, ask func() bool) error {
	ctx, cancel := context.WithTimeout(ctx, s.o.Patience)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for !ask() {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}
