package zfs

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// tokens are those that zfs get receive_resume_token prints.
var tokens = regexp.MustCompile(`^[0-9]+-[0-9a-f]+-[0-9a-f]+-[0-9a-f]+$`)

// maxToken bounds one; those of ZFS have a few hundred bytes.
const maxToken = 8192

// DownloadSnapshot opens a disk's snapshot as a stream for zfs receive. With From,
// the name of an older snapshot of the disk, it has only what changed since. With
// Resume, what zfs get receive_resume_token says where an earlier stream of this
// snapshot was cut, it is the rest of that. A guest with one disk need not name it.
func (s *Store) DownloadSnapshot(ctx context.Context, r *mistify.SnapshotRequest) (*mistify.Download, error) {
	if r.From != "" {
		if err := mistify.CheckSnapshotName(r.From); err != nil {
			return nil, err
		}
	}
	if r.Resume != "" && (len(r.Resume) > maxToken || !tokens.MatchString(r.Resume)) {
		return nil, fmt.Errorf("%w: %.50q is no token to go on with: it must be what zfs get -H -o value receive_resume_token prints where the stream was received", virt.ErrInvalid, r.Resume)
	}
	var body io.ReadCloser
	_, err := s.onShelf(ctx, r.ID, true, func(sh *shelf, at mistify.SnapshotID) (*mistify.SnapshotResponse, error) {
		args, err := s.sendArgs(ctx, sh, at, r)
		if err != nil {
			return nil, err
		}
		if body, err = s.stream(ctx, args...); err != nil || r.Offset <= 0 {
			return nil, err
		}
		// The same snapshot is the same stream, and who receives it checks its sum.
		if _, short := io.CopyN(io.Discard, body, r.Offset); short != nil {
			err = errors.Join(fmt.Errorf("%w: the stream has less than %d bytes: %w", virt.ErrInvalid, r.Offset, short), body.Close())
		}
		return nil, err
	})
	if err != nil {
		return nil, err
	}
	return &mistify.Download{ReadCloser: body, ContentType: "application/octet-stream", Length: -1}, nil
}

func (s *Store) sendArgs(ctx context.Context, sh *shelf, at mistify.SnapshotID, r *mistify.SnapshotRequest) ([]string, error) {
	disks, err := sh.having(at)
	if err != nil {
		return nil, err
	}
	if len(disks) != 1 {
		return nil, fmt.Errorf("%w: the snapshot %s is of %d disks: name one, as in guests/%s/disk-0@%s", virt.ErrInvalid, at, len(disks), at.Guest, at.Name)
	}
	d := disks[0]
	to := s.full(d.name + "@" + at.Name)
	if r.Resume != "" {
		if err := s.tokenOf(ctx, r.Resume, to); err != nil {
			return nil, err
		}
		return []string{"send", "-t", r.Resume}, nil
	}
	args := []string{"send", "-L", "-c"}
	if r.From != "" {
		from := d.snap(r.From)
		if from == nil {
			return nil, fmt.Errorf("%w: snapshot %s of disk %d, to begin from", virt.ErrNotFound, r.From, d.n)
		}
		if from.txg >= d.snap(at.Name).txg {
			return nil, fmt.Errorf("%w: the snapshot %s is not older than %s", virt.ErrInvalid, r.From, at.Name)
		}
		args = append(args, "-i", s.full(d.name+"@"+r.From))
	}
	return append(args, "--", to), nil
}

// tokenOf refuses a token that is of another snapshot: it has the name of what it
// sends in it, and whoever has it could have written it.
func (s *Store) tokenOf(ctx context.Context, token, to string) error {
	out, err := s.run(ctx, "send", "-nvt", token)
	if err != nil {
		return err
	}
	var names []string
	for line := range strings.Lines(string(out)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "toname = "); ok {
			names = append(names, name)
		}
	}
	if len(names) != 1 || names[0] != to {
		return fmt.Errorf("%w: the token is to go on with another snapshot", virt.ErrInvalid)
	}
	return nil
}
