package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// late is a container that was asked for and given up before dockerd answered:
// one that hangs can still make it, hours later. It is noted on disk, so that who
// finds it knows what it is.
type late struct {
	Job    string    `json:"job"` // that it was to be made for
	At     time.Time `json:"at"`
	Undone bool      `json:"undone"` // it was taken back, or the guest removed: nobody wants it any more
}

// Bounds of what is noted. A dockerd that was not started anew for a week is none.
const (
	maxLate = 1000
	lateAge = 7 * 24 * time.Hour
)

// expected are the notes, by guest.
type expected struct {
	mu sync.Mutex
	of map[string]late
}

func lateFile(guest string) string { return lates + "/" + guest + ".json" }

// readLate reads the notes of an earlier process. One that cannot be read is of no
// use to anybody.
func (d *Docker) readLate() error {
	d.late.of = map[string]late{}
	entries, err := fs.ReadDir(d.dir.FS(), lates)
	if err != nil {
		return err
	}
	for _, e := range entries {
		guest := strings.TrimSuffix(e.Name(), ".json")
		var n late
		data, err := d.dir.ReadFile(lates + "/" + e.Name())
		if err == nil && len(data) <= maxRecord {
			err = json.Unmarshal(data, &n)
		}
		if id, bad := mistify.ParseGuestID(guest); err != nil || bad != nil || id+".json" != e.Name() || d.o.Now().Sub(n.At) > lateAge || len(d.late.of) >= maxLate {
			d.o.Log.Info("a note of a container that may come late is dropped", "file", e.Name())
			if err := d.dir.Remove(lates + "/" + e.Name()); err != nil {
				return err
			}
			continue
		}
		d.late.of[guest] = n
	}
	return nil
}

// expect notes a container that may still come.
func (d *Docker) expect(guest string, n late) error {
	d.late.mu.Lock()
	defer d.late.mu.Unlock()
	for id, old := range d.late.of {
		if d.o.Now().Sub(old.At) > lateAge {
			delete(d.late.of, id)
			_ = d.dir.Remove(lateFile(id)) // it is dropped when it is read, too
		}
	}
	if _, known := d.late.of[guest]; !known && len(d.late.of) >= maxLate {
		return fmt.Errorf("%d containers were given up already and may still come: start dockerd anew", maxLate)
	}
	data, err := json.Marshal(n)
	if err == nil {
		err = d.put(lateFile(guest), data)
	}
	if err == nil {
		d.late.of[guest] = n
	}
	return err
}

// awaited is the note of a guest.
func (d *Docker) awaited(guest string) (late, bool) {
	d.late.mu.Lock()
	defer d.late.mu.Unlock()
	n, ok := d.late.of[guest]
	return n, ok
}

// came forgets the note of a guest, whose container of that job is there, or gone
// again.
func (d *Docker) came(guest, job string) error {
	d.late.mu.Lock()
	defer d.late.mu.Unlock()
	if n, ok := d.late.of[guest]; !ok || n.Job != job {
		return nil
	}
	if err := d.dir.Remove(lateFile(guest)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	delete(d.late.of, guest)
	return nil
}

// unwanted reports whether a container is one that came after it was taken back.
func (d *Docker) unwanted(guest, job string) bool {
	n, ok := d.awaited(guest)
	return ok && n.Undone && n.Job == job
}

// givenUp notes a container of which dockerd did not say whether it made it.
func (d *Docker) givenUp(guest, job string, err error) error {
	var gone *goneError
	told := err == nil || errors.As(err, &gone) || !errors.Is(err, virt.ErrUnreachable) && !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded)
	if told {
		return err
	}
	if noted := d.expect(guest, late{Job: job, At: d.o.Now()}); noted != nil {
		return errors.Join(err, fmt.Errorf("it may still be made, and that cannot be noted: %w", noted))
	}
	return err
}

// takenBack notes that nobody wants the container any more that may still come.
func (d *Docker) takenBack(guest string, of func(job string) bool) error {
	n, ok := d.awaited(guest)
	if !ok || n.Undone || !of(n.Job) {
		return nil
	}
	n.Undone = true
	return d.expect(guest, n)
}

// sweepLate removes the containers of a listing that came after they were taken
// back, and returns the others. One that cannot be removed now is left for the next
// listing, and is no guest meanwhile.
func (d *Docker) sweepLate(ctx context.Context, all []listed) []listed {
	kept := all[:0]
	for _, l := range all {
		if !d.unwanted(l.uuid, l.job) {
			kept = append(kept, l)
			continue
		}
		if err := d.dropLate(ctx, l.uuid); err != nil {
			d.o.Log.WarnContext(ctx, "a container that came after it was taken back cannot be removed yet", "guest", l.uuid, "error", err)
		}
	}
	return kept
}

func (d *Docker) dropLate(ctx context.Context, guest string) error {
	release, err := d.locks.Hold(ctx, "guest "+guest)
	if err != nil {
		return err
	}
	defer release()
	f, err := d.ours(ctx, guest)
	if err != nil || f == nil || !d.unwanted(guest, f.job()) {
		return err // somebody was faster
	}
	if err := d.remove(ctx, guest, f); err != nil {
		return err
	}
	d.o.Log.InfoContext(ctx, "a container that came after it was taken back is removed", "guest", guest)
	return d.came(guest, f.job())
}

// put writes a small file, as a whole and on disk.
func (d *Docker) put(name string, data []byte) error {
	f, err := d.dir.OpenFile(name+".half", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := d.dir.Rename(name+".half", name); err != nil {
		return err
	}
	folder, err := d.dir.Open(filepath.Dir(name))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}
