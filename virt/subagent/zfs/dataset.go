package zfs

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/vagoth/vagoth/virt"
)

// The properties that are ours.
const (
	propSource  = "vagoth:source"  // of an image: sha256 of its URL; of one that was sent there is none
	propSHA256  = "vagoth:sha256"  // of an image: of what was sent
	propSent    = "vagoth:sent"    // of an image: bytes
	propDisks   = "vagoth:disks"   // of a snapshot: the numbers of the guest's disks then
	propPending = "vagoth:pending" // of a guest: a rollback that was begun
	propJob     = "vagoth:job"     // of a disk: the agent's job that it was made for
)

// The kinds of datasets.
const (
	filesystem = "filesystem"
	volume     = "volume"
	snapshot   = "snapshot"
)

// dataset is one row of what zfs lists.
type dataset struct {
	name    string // below the parent, "" for it itself
	kind    string
	size    int64 // bytes of a volume
	origin  string
	txg     uint64 // in which it was made
	source  string
	sha256  string
	sent    int64
	disks   string
	pending string
	job     string
}

func columns() string {
	return strings.Join([]string{"name", "type", "volsize", "origin", "createtxg", propSource, propSHA256, propSent, propDisks, propPending, propJob}, ",")
}

// parse reads what zfs list -Hp -o columns writes.
func (s *Store) parse(out []byte) (list []dataset, err error) {
	for line := range strings.Lines(string(out)) {
		d, err := s.parseLine(strings.TrimSuffix(line, "\n"))
		if err != nil {
			return nil, fmt.Errorf("zfs list: what it says cannot be understood: %.200q: %w", line, err)
		}
		list = append(list, d)
	}
	return list, nil
}

func (s *Store) parseLine(line string) (d dataset, err error) {
	f := strings.Split(line, "\t")
	if len(f) != 11 {
		return d, fmt.Errorf("it has %d columns", len(f))
	}
	for i := range f {
		if f[i] == "-" {
			f[i] = ""
		}
	}
	rest, below := strings.CutPrefix(f[0], s.parent)
	if !below || rest != "" && rest[0] != '/' && rest[0] != '@' {
		return d, errors.New("it is elsewhere")
	}
	if d.size, err = number(f[2]); err != nil {
		return d, err
	}
	if d.sent, err = number(f[7]); err != nil {
		return d, err
	}
	txg, err := number(f[4])
	if err != nil {
		return d, err
	}
	d.name, d.kind, d.origin, d.txg = strings.TrimPrefix(rest, "/"), f[1], f[3], uint64(txg)
	d.source, d.sha256, d.disks, d.pending, d.job = f[5], f[6], f[8], f[9], f[10]
	return d, nil
}

func number(text string) (int64, error) {
	if text == "" || text == "none" {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err == nil && n < 0 {
		err = errors.New("it is negative")
	}
	return n, err
}

// full is the name of a dataset as zfs has it.
func (s *Store) full(name string) string {
	if name == "" || name[0] == '@' {
		return s.parent + name
	}
	return s.parent + "/" + name
}

// list lists what is below a dataset, so many levels deep, 0 for all, and it
// itself. There is nothing if it is not there.
func (s *Store) list(ctx context.Context, name string, depth int, kinds ...string) ([]dataset, error) {
	args := []string{"list", "-Hp", "-o", columns(), "-t", strings.Join(kinds, ",")}
	if depth > 0 {
		args = append(args, "-d", strconv.Itoa(depth))
	} else {
		args = append(args, "-r")
	}
	out, err := s.run(ctx, append(args, "--", s.full(name))...)
	if errors.Is(err, virt.ErrNotFound) {
		return nil, s.parentThere(ctx, name, err)
	}
	if err != nil {
		return nil, err
	}
	return s.parse(out)
}

// get looks at one dataset, nil if it is not there.
func (s *Store) get(ctx context.Context, name string) (*dataset, error) {
	out, err := s.run(ctx, "list", "-Hp", "-o", columns(), "-t", "filesystem,volume,snapshot", "--", s.full(name))
	if errors.Is(err, virt.ErrNotFound) {
		return nil, s.parentThere(ctx, name, err)
	}
	if err != nil {
		return nil, err
	}
	found, err := s.parse(out)
	if err != nil || len(found) != 1 {
		return nil, errors.Join(err, fmt.Errorf("zfs list: %s is %d datasets", s.full(name), len(found)))
	}
	return &found[0], nil
}

// parentThere tells a dataset that is not there from a pool that is not: zfs has
// the same words for both.
func (s *Store) parentThere(ctx context.Context, name string, err error) error {
	if name == "" {
		return s.missing(err)
	}
	if _, gone := s.run(ctx, "list", "-Hp", "-o", "name", "--", s.parent); gone != nil {
		return s.missing(gone)
	}
	return nil
}

func (s *Store) missing(err error) error {
	if !errors.Is(err, virt.ErrNotFound) {
		return err
	}
	return fmt.Errorf("%w: the dataset %s is not there: import its pool, zpool import %s: %w", virt.ErrUnreachable, s.parent, s.o.Pool, hidden{err})
}

// hidden has the text of an error and not its kind.
type hidden struct{ err error }

func (h hidden) Error() string { return h.err.Error() }

// destroy removes a dataset with its snapshots, or nothing if it is not there. What
// looks at new devices has a volume open for a moment, so that is waited for.
func (s *Store) destroy(ctx context.Context, name string, recursive bool) error {
	args := []string{"destroy"}
	if recursive {
		args = append(args, "-r")
	}
	args = append(args, "--", s.full(name))
	var err error
	again := s.patient(ctx, func() bool {
		_, err = s.run(ctx, args...)
		return !errors.Is(err, virt.ErrBusy)
	})
	if again != nil && err == nil {
		err = again
	}
	if errors.Is(err, virt.ErrNotFound) {
		return s.parentThere(ctx, name, err)
	}
	return err
}

// rename gives a dataset, with all below it, another name.
func (s *Store) rename(ctx context.Context, from, to string) error {
	_, err := s.run(ctx, "rename", "--", s.full(from), s.full(to))
	return err
}

// named returns the dataset of a name in a list.
func named(list []dataset, name string) *dataset {
	if i := slices.IndexFunc(list, func(d dataset) bool { return d.name == name }); i >= 0 {
		return &list[i]
	}
	return nil
}
