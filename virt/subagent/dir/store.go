package dir

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/vagoth/vagoth/internal/lockfile"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent"
	"github.com/vagoth/vagoth/virt/subagent/fetch"
	"github.com/vagoth/vagoth/virt/subagent/qemuimg"
	"github.com/vagoth/vagoth/virt/subagent/store"
)

// Options modify Open. All but Dir can be left out.
type Options struct {
	Dir        string
	QemuImg    string        // the program; qemu-img if ""
	RunTimeout time.Duration // of one run of qemu-img; 1 hour if 0
	MaxSize    uint64        // of a disk or image, in MB; 16 TiB if 0
	Overcommit float64       // how many times the free space new disks may have; 0 is any number
	Fetch      fetch.Options
	Live       subagent.LiveSnapshotter // snapshots of guests that run; nil refuses them
	Log        *slog.Logger

	// Run runs a program and returns what it writes; for tests. nil runs it.
	Run qemuimg.Runner
}

// Store is the sub-agent. Its methods are those of the actions; they are safe
// for concurrent use.
type Store struct {
	o       Options
	dir     string // absolute
	root    *os.Root
	lock    *lockfile.Lock
	inbox   *os.Root
	fetcher *fetch.Fetcher

	qemu  qemuimg.Tool
	rules store.Rules
	locks store.Locks // of guests and volumes
	uses  store.Uses

	reading readings // snapshots that are being downloaded
}

// The folders of a store.
const (
	images   = store.ImagesFolder
	guests   = store.GuestsFolder
	volumes  = store.VolumesFolder
	incoming = "incoming"
	half     = "half"
	lockName = "lock"
)

// The formats that there are.
const (
	qcow2 = qemuimg.QCOW2
	raw   = qemuimg.Raw
)

// lockWait is how long a store that is in use is waited for: a process that was
// killed while it began a program leaves a copy of itself for a moment, which
// has the lock until it is that program.
const lockWait = 2 * time.Second

// Open makes the folders that are not there, and brings what an earlier process
// left half done to an end. One process uses a store at a time.
func Open(ctx context.Context, o Options) (*Store, error) {
	o.MaxSize = cmp.Or(o.MaxSize, 16<<20)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Fetch.Log == nil {
		o.Fetch.Log = o.Log
	}
	o.Fetch.WriteBack = true
	if o.Dir == "" {
		return nil, fmt.Errorf("%w: the store has no directory", virt.ErrInvalid)
	}
	dir, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("cannot open the store %s: %w", o.Dir, err)
	}
	s := &Store{o: o, dir: dir, qemu: qemuimg.Tool{Program: o.QemuImg, Timeout: o.RunTimeout, Run: o.Run}}
	s.rules = store.Rules{MaxSize: o.MaxSize, Formats: []string{qcow2, raw}, Root: strings.TrimSuffix(dir, "/") + "/", Dotted: true}
	if err := s.open(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot open the store %s: %w", dir, err), s.Close())
	}
	return s, nil
}

func (s *Store) open(ctx context.Context) (err error) {
	// A path goes to qemu-img as an option too, where a comma or a line would end it.
	if strings.ContainsFunc(s.dir, func(r rune) bool { return r < ' ' || r == ',' || r == 0x7f }) {
		return fmt.Errorf("%w: the path %q has a comma or control character", virt.ErrInvalid, s.dir)
	}
	if err := os.MkdirAll(s.dir, 0o711); err != nil {
		return err
	}
	if s.lock, err = lockfile.Acquire(ctx, filepath.Join(s.dir, lockName), lockWait); err != nil {
		return err
	}
	if s.root, err = os.OpenRoot(s.dir); err != nil {
		return err
	}
	for _, name := range [...]string{images, guests, volumes, incoming, half} {
		if err := s.root.Mkdir(name, 0o711); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
	}
	names, err := s.list(half)
	if err != nil {
		return err
	}
	for _, name := range names {
		s.o.Log.Info("what was half made or half removed is swept", "file", name)
		if err := s.root.RemoveAll(half + "/" + name); err != nil {
			return err
		}
	}
	if s.inbox, err = s.root.OpenRoot(incoming); err != nil {
		return err
	}
	if s.fetcher, err = fetch.Open(s.inbox, s.o.Fetch); err != nil {
		return err
	}
	return s.recoverAll(ctx)
}

// Close ends the downloads under way and lets another process open the store.
func (s *Store) Close() error {
	var errs []error
	if s.fetcher != nil {
		errs = append(errs, s.fetcher.Close())
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

// Fetching returns the downloads under way, by image.
func (s *Store) Fetching() map[string]fetch.Progress { return s.fetcher.Under() }

// path is the absolute path of a file of the store.
func (s *Store) path(name string) string { return filepath.Join(s.dir, name) }

// list returns the names in a folder, none if it is not there.
func (s *Store) list(folder string) ([]string, error) {
	entries, err := fs.ReadDir(s.root.FS(), folder)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	names := make([]string, len(entries))
	for i, e := range entries {
		names[i] = e.Name()
	}
	return names, err
}

// there reports whether there is a file or folder.
func (s *Store) there(name string) (bool, error) {
	_, err := s.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// unnamed is a name in half that nothing has.
func unnamed() string { return half + "/" + rand.Text() }

// make makes the file called name with do, which is given the name of a file to
// make first. It is there as a whole, and on disk, or not at all.
func (s *Store) make(name string, mode fs.FileMode, do func(half string) error) (err error) {
	tmp := unnamed()
	defer func() {
		if err != nil {
			err = errors.Join(err, s.root.RemoveAll(tmp))
		}
	}()
	if err := do(tmp); err != nil {
		return err
	}
	if err := s.root.Chmod(tmp, mode); err != nil {
		return err
	}
	if err := s.sync(tmp); err != nil {
		return err
	}
	if err := s.root.Rename(tmp, name); err != nil {
		return err
	}
	return s.sync(filepath.Dir(name))
}

// remove removes a file or folder. It is gone as a whole or not at all.
func (s *Store) remove(name string) error {
	tmp := unnamed()
	err := s.root.Rename(name, tmp)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return errors.Join(s.sync(filepath.Dir(name)), s.root.RemoveAll(tmp))
}

// sync puts a file or folder on disk.
func (s *Store) sync(name string) error {
	f, err := s.root.Open(name)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// mkdir makes a folder if it is not there.
func (s *Store) mkdir(name string) error {
	err := s.root.Mkdir(name, 0o711)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return s.sync(filepath.Dir(name))
}

// write writes a small file.
func (s *Store) write(name string, value any) error {
	data, err := json.Marshal(value)
	if err != nil {
		return err
	}
	return s.make(name, 0o600, func(tmp string) error { return s.root.WriteFile(tmp, data, 0o600) })
}

const maxSmall = 64 << 10

// read reads a small file. There is a fs.ErrNotExist if it is not there.
func (s *Store) read(name string, value any) error {
	f, err := s.root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	data, err := mistify.ReadBody(f, maxSmall)
	if err == nil {
		err = json.NewDecoder(bytes.NewReader(data)).Decode(value)
	}
	if err != nil {
		return fmt.Errorf("cannot read %s: %w", s.path(name), err)
	}
	return nil
}
