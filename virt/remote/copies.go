package remote

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// copying is the snapshot that disks are copied from, while they are.
const copying = "vagoth-copying"

// copiesOf begins the names of the images that disks are made of on the other host.
func copiesOf(g virt.Guest) string { return "vagoth-copy-" + g.UUID + "-" }

// CopyDisks makes the disks of a guest that is off on another host: of each a
// snapshot is downloaded from one agent and sent to the other as an image, and there
// the images become the disks. It goes through this program, which both agents
// trust; neither need reach the other. What it leaves, whole or not, is for TidyDisks.
func (d *Driver) CopyDisks(ctx context.Context, from, to virt.Host, g virt.Guest, progress func(done int64)) error {
	w, err := wire(g)
	if err != nil {
		return err
	}
	if w.Container() {
		return fmt.Errorf("%w: what the container %s has written does not move: save it as an image (`vagoth image save`), or deprovision it, and start it there", virt.ErrUnsupported, g.ID)
	}
	if err := d.TidyDisks(ctx, from, to, g); err != nil {
		return err
	}
	list, err := d.Snapshots(ctx, from, g)
	if err != nil {
		return err
	}
	if len(list) > 0 {
		return fmt.Errorf("%w: the disks of %s have snapshots (%s), which would not come along: delete them, or download them first", virt.ErrUnsupported, g.ID, list[0].Name)
	}
	if err := d.CreateSnapshot(ctx, from, g, copying); err != nil {
		return err
	}
	var done atomic.Int64
	for i, disk := range g.Definition.Disks {
		if disk.Source != "" {
			continue
		}
		w.Disks[i].Image, w.Disks[i].Take = copiesOf(g)+strconv.Itoa(i)+"-"+strings.ToLower(rand.Text()[:8]), true
		content, err := d.DownloadSnapshot(ctx, from, g, copying, disk.Device)
		if err != nil {
			return err
		}
		counted := &counting{ReadCloser: content, done: &done, tell: progress}
		if err := d.putImage(ctx, to, w.Disks[i].Image, content.Length, counted); err != nil {
			return err
		}
	}
	return d.about(ctx, to, g, "make the copied disks of", func(ctx context.Context, t *task) error {
		return t.job(ctx, func(ctx context.Context) (string, error) { return t.c[changes].ProvisionGuest(ctx, *w) })
	})
}

// putImage sends an image to a host.
func (d *Driver) putImage(ctx context.Context, h virt.Host, id string, size int64, content io.ReadCloser) error {
	c, address, err := d.agent(h)
	if err != nil {
		return errors.Join(err, content.Close())
	}
	if _, err := c[uploads].PutImage(ctx, mistify.ImageRequest{ID: id, Size: uint64(max(0, size))}, content); err != nil {
		return &Error{What: "send a disk as the image " + id, Address: address, Kind: as(err, false), Err: err}
	}
	return nil
}

// counting tells how much of something was read.
type counting struct {
	io.ReadCloser
	done *atomic.Int64
	tell func(done int64)
}

func (c *counting) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	if done := c.done.Add(int64(n)); n > 0 {
		c.tell(done)
	}
	return n, err
}

// TidyDisks removes what there is of a guest's disks on the host left, and what a copy
// of them left at home.
func (d *Driver) TidyDisks(ctx context.Context, home, left virt.Host, g virt.Guest) error {
	return errors.Join(d.dropSnapshot(ctx, home, g), d.wipeCopy(ctx, left, g), d.dropImages(ctx, left, g))
}

func (d *Driver) dropSnapshot(ctx context.Context, home virt.Host, g virt.Guest) error {
	if home.ID == "" {
		return nil
	}
	return unlessGone(d.DeleteSnapshot(ctx, home, g, copying))
}

func (d *Driver) wipeCopy(ctx context.Context, left virt.Host, g virt.Guest) error {
	return unlessGone(d.Deprovision(ctx, left, g))
}

func unlessGone(err error) error {
	if errors.Is(err, virt.ErrNotFound) {
		return nil
	}
	return err
}

func (d *Driver) dropImages(ctx context.Context, h virt.Host, g virt.Guest) error {
	list, err := d.Images(ctx, h)
	if err != nil {
		return err
	}
	for _, i := range list {
		if strings.HasPrefix(i.ID, copiesOf(g)) {
			err = errors.Join(err, unlessGone(d.DeleteImage(ctx, h, i.ID)))
		}
	}
	return err
}
