package libvirt

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"

	golibvirt "github.com/digitalocean/go-libvirt"
	"libvirt.org/go/libvirtxml"

	"github.com/vagoth/vagoth/virt"
)

// Provision makes the guest's disks that are not there yet. What is there is
// never overwritten: the same disk in another format or size is an
// ErrConflict.
func (d *Driver) Provision(ctx context.Context, h virt.Host, g virt.Guest) error {
	if err := checkGuest(g); err != nil {
		return err
	}
	p, err := d.pool(h)
	if err != nil {
		return err
	}
	disks := ownDisks(g)
	return p.do(ctx, changes, "make the disks of "+g.ID, func(ctx context.Context, c *conn) error {
		if len(disks) == 0 {
			return nil
		}
		store, release, err := p.storeAlone(ctx, c)
		if err != nil {
			return err
		}
		defer release()
		for _, disk := range disks {
			if err := makeDisk(c, store, disk); err != nil {
				return fmt.Errorf("disk %s: %w", disk.Device, err)
			}
		}
		return nil
	})
}

// Deprovision wipes the disks that Provision makes of this guest.
func (d *Driver) Deprovision(ctx context.Context, h virt.Host, g virt.Guest) error {
	if err := checkVolumes(g); err != nil {
		return err
	}
	p, err := d.pool(h)
	if err != nil {
		return err
	}
	disks := ownDisks(g)
	return p.do(ctx, changes, "wipe the disks of "+clean(g.ID, 128), func(ctx context.Context, c *conn) error {
		dom, err := lookup(c, g)
		if err == nil {
			state, err := stateOf(c, dom)
			if err != nil {
				return err
			}
			if state == virt.Running || state == virt.Paused {
				return fmt.Errorf("%w: stop it first", virt.ErrBusy)
			}
		} else if !errors.Is(err, virt.ErrNotFound) {
			return err
		}
		if len(disks) == 0 {
			return nil
		}
		store, release, err := p.storeAlone(ctx, c)
		if err != nil {
			return err
		}
		defer release()
		for _, disk := range disks {
			if err := wipeDisk(c, store, disk); err != nil {
				return fmt.Errorf("disk %s: %w", disk.Device, err)
			}
		}
		return nil
	})
}

// ownDisks are the disks that Provision makes.
func ownDisks(g virt.Guest) []virt.Disk {
	var own []virt.Disk
	for _, disk := range g.Definition.Disks {
		if disk.Source == "" {
			own = append(own, disk)
		}
	}
	return own
}

// checkVolumes is what Deprovision has to know of a guest.
func checkVolumes(g virt.Guest) error {
	if _, err := checkIdentity(g); err != nil {
		return err
	}
	for _, disk := range ownDisks(g) {
		if err := checkVolume(disk); err != nil {
			return problem(g, virt.ErrInvalid, "disk %.16q: %v", disk.Device, err)
		}
	}
	return nil
}

// storeAlone is store for a caller that makes or wipes disks, alone until release
// is called: of a qcow2 disk that is half made libvirt tells a size of nothing.
func (p *pool) storeAlone(ctx context.Context, c *conn) (store golibvirt.StoragePool, release func(), err error) {
	select {
	case p.making <- struct{}{}:
	case <-ctx.Done():
		return store, nil, ctx.Err()
	}
	release = func() { <-p.making }
	if store, err = p.store(ctx, c); err != nil {
		release()
	}
	return store, release, err
}

// store finds the storage pool over the disks' directory. It makes and starts
// it if need be.
func (p *pool) store(ctx context.Context, c *conn) (golibvirt.StoragePool, error) {
	select {
	case p.storing <- struct{}{}:
		defer func() { <-p.storing }()
	case <-ctx.Done():
		return golibvirt.StoragePool{}, ctx.Err()
	}
	store, err := p.findStore(c)
	if errors.Is(err, virt.ErrNotFound) {
		store, err = p.makeStore(c)
	}
	if err != nil {
		return golibvirt.StoragePool{}, err
	}
	return store, startStore(c, store)
}

// findStore takes the pool of our name, or any over the same directory: libvirt
// allows one only.
func (p *pool) findStore(c *conn) (golibvirt.StoragePool, error) {
	store, err := c.StoragePoolLookupByName(p.cfg.Pool)
	if answered(err, golibvirt.ErrNoStoragePool) {
		store, err = c.StoragePoolLookupByTargetPath(p.cfg.Disks)
		return store, translate(err)
	}
	if err != nil {
		return golibvirt.StoragePool{}, translate(err)
	}
	text, err := c.StoragePoolGetXMLDesc(store, 0)
	if err != nil {
		return golibvirt.StoragePool{}, translate(err)
	}
	var is libvirtxml.StoragePool
	if err := xml.Unmarshal([]byte(text), &is); err != nil {
		return golibvirt.StoragePool{}, unreachable(malformed("a storage pool whose XML cannot be read: %s", clean(err.Error(), maxMessage)))
	}
	if is.Type != "dir" || is.Target == nil || is.Target.Path != p.cfg.Disks {
		return golibvirt.StoragePool{}, fmt.Errorf("%w: the host's storage pool %s is not the directory %s: give the driver another pool = NAME",
			virt.ErrConflict, p.cfg.Pool, p.cfg.Disks)
	}
	return store, nil
}

func (p *pool) makeStore(c *conn) (golibvirt.StoragePool, error) {
	text, err := xml.Marshal(libvirtxml.StoragePool{Type: "dir", Name: p.cfg.Pool, Target: &libvirtxml.StoragePoolTarget{Path: p.cfg.Disks}})
	if err != nil {
		return golibvirt.StoragePool{}, fmt.Errorf("%w: the storage pool cannot be encoded: %w", virt.ErrInvalid, err)
	}
	store, err := c.StoragePoolDefineXML(string(text), 0)
	if err != nil {
		return store, translate(err)
	}
	if err := c.StoragePoolBuild(store, 0); err != nil {
		return store, translate(err)
	}
	p.mu.Lock()
	p.has = measured{} // its disk is known now
	p.mu.Unlock()
	return store, translate(c.StoragePoolSetAutostart(store, 1))
}

func startStore(c *conn, store golibvirt.StoragePool) error {
	running := func() (bool, error) {
		state, _, _, _, err := c.StoragePoolGetInfo(store)
		return golibvirt.StoragePoolState(state) == golibvirt.StoragePoolRunning, translate(err)
	}
	if up, err := running(); up || err != nil {
		return err
	}
	err := c.StoragePoolCreate(store, 0)
	if err == nil {
		return nil
	}
	if up, _ := running(); up {
		return nil // somebody else was quicker
	}
	return translate(err)
}

const megabyte = 1 << 20

func makeDisk(c *conn, store golibvirt.StoragePool, disk virt.Disk) error {
	if there, err := sameDisk(c, store, disk); there || err != nil {
		return err
	}
	vol := libvirtxml.StorageVolume{
		Name:     disk.Volume,
		Capacity: &libvirtxml.StorageVolumeSize{Unit: "bytes", Value: uint64(disk.Size) * megabyte},
		Target:   &libvirtxml.StorageVolumeTarget{Format: &libvirtxml.StorageVolumeTargetFormat{Type: disk.Format}},
	}
	if disk.Format == "raw" {
		vol.Allocation = &libvirtxml.StorageVolumeSize{Unit: "bytes"}
	}
	text, err := xml.Marshal(vol)
	if err != nil {
		return fmt.Errorf("%w: the volume cannot be encoded: %w", virt.ErrInvalid, err)
	}
	_, err = c.StorageVolCreateXML(store, string(text), 0)
	if err == nil {
		return nil
	}
	if err = translate(err); isUnreachable(err) {
		return err
	}
	// Somebody was quicker, or the file is there and the pool did not know.
	if refreshed := c.StoragePoolRefresh(store, 0); isUnreachable(translate(refreshed)) {
		return translate(refreshed)
	}
	if there, problem := sameDisk(c, store, disk); there || problem != nil {
		return problem
	}
	return err
}

// sameDisk reports whether the disk is there already.
func sameDisk(c *conn, store golibvirt.StoragePool, disk virt.Disk) (bool, error) {
	vol, err := c.StorageVolLookupByName(store, disk.Volume)
	if answered(err, golibvirt.ErrNoStorageVol) {
		return false, nil
	}
	if err != nil {
		return false, translate(err)
	}
	text, err := c.StorageVolGetXMLDesc(vol, 0)
	if err != nil {
		return false, translate(err)
	}
	var is libvirtxml.StorageVolume
	if err := xml.Unmarshal([]byte(text), &is); err != nil {
		return false, unreachable(malformed("a volume whose XML cannot be read: %s", clean(err.Error(), maxMessage)))
	}
	format, bytes := "", uint64(0)
	if is.Target != nil && is.Target.Format != nil {
		format = is.Target.Format.Type
	}
	if is.Capacity != nil {
		bytes = is.Capacity.Value
	}
	if format != disk.Format || bytes != uint64(disk.Size)*megabyte {
		return false, fmt.Errorf("%w: the volume %s is there already, as %s of %d MB, not %s of %d: deprovision it, or name another",
			virt.ErrConflict, disk.Volume, clean(format, 32), bytes/megabyte, disk.Format, disk.Size)
	}
	return true, nil
}

func wipeDisk(c *conn, store golibvirt.StoragePool, disk virt.Disk) error {
	vol, err := c.StorageVolLookupByName(store, disk.Volume)
	if answered(err, golibvirt.ErrNoStorageVol) {
		// The pool knows the files that it made or saw when it was last refreshed.
		if err := translate(c.StoragePoolRefresh(store, 0)); isUnreachable(err) {
			return err
		}
		if vol, err = c.StorageVolLookupByName(store, disk.Volume); answered(err, golibvirt.ErrNoStorageVol) {
			return nil
		}
	}
	if err != nil {
		return translate(err)
	}
	return translate(c.StorageVolDelete(vol, golibvirt.StorageVolDeleteNormal))
}
