package store

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// DiskSpec is what a disk is to be.
type DiskSpec struct {
	Image  string // it begins as; "" for a blank one
	Take   bool   // the image becomes it, and is gone then; no other disk of the guest has that image
	Format string
	Size   int64 // bytes, at least
}

// Plan is what the disks of a guest are, or are to be.
type Plan struct {
	Guest *mistify.Guest // with all that is known before they are made
	Specs []DiskSpec
	Names []string // of disks of the guest; "" for one from elsewhere
}

// Rules are how a store has its disks.
type Rules struct {
	MaxSize uint64 // MB
	Formats []string
	Root    string // stands before a disk's name where it is opened, with a slash at its end
	Dotted  bool   // its format stands behind it
}

func (r Rules) source(volume, format string) string {
	if r.Dotted {
		volume += "." + format
	}
	return r.Root + volume
}

// Plan checks the disks of a guest. One whose Volume is a disk here is that; the
// others get numbers by their order that no Volume has. One with a Source that is
// not here is somebody else's and stays as it is. A disk without a format gets the
// first of the rules.
func (r Rules) Plan(g *mistify.Guest) (*Plan, error) {
	if g == nil {
		return nil, fmt.Errorf("%w: the request has no guest", virt.ErrInvalid)
	}
	if err := g.Validate(); err != nil {
		return nil, err
	}
	p := &Plan{Guest: g.Clone()}
	p.Guest.ID, _ = mistify.ParseGuestID(g.ID) // Validate did
	id := p.Guest.ID
	numbers, taken := make([]int, len(g.Disks)), map[int]bool{}
	for i, d := range p.Guest.Disks {
		numbers[i] = -1
		if number, ours := strings.CutPrefix(d.Volume, GuestFolder(id)+"/disk-"); ours {
			n, err := strconv.Atoi(number)
			if err != nil || n < 0 || n >= 10*mistify.MaxDisks || d.Volume != DiskName(id, n) || taken[n] {
				return nil, fmt.Errorf("%w guest %s: disks[%d].volume: %.100q is no disk of it, or given twice", virt.ErrInvalid, id, i, d.Volume)
			}
			numbers[i], taken[n] = n, true
		}
	}
	for i := range p.Guest.Disks {
		d := &p.Guest.Disks[i]
		if numbers[i] < 0 && d.Source != "" && !strings.HasPrefix(d.Source, r.Root+GuestFolder(id)+"/") {
			p.Specs, p.Names = append(p.Specs, DiskSpec{}), append(p.Names, "")
			continue
		}
		for n := i; numbers[i] < 0; n++ {
			if !taken[n] {
				numbers[i], taken[n] = n, true
			}
		}
		spec, err := r.spec(id, i, d)
		if err != nil {
			return nil, err
		}
		d.Volume, d.Format = DiskName(id, numbers[i]), spec.Format
		d.Source = r.source(d.Volume, spec.Format)
		p.Specs, p.Names = append(p.Specs, spec), append(p.Names, d.Volume)
	}
	return p, p.takenOnce()
}

// takenOnce refuses an image that becomes a disk and is asked for by another one.
func (p *Plan) takenOnce() error {
	taken, used := map[string]bool{}, map[string]int{}
	for _, spec := range p.Specs {
		used[spec.Image]++
		taken[spec.Image] = taken[spec.Image] || spec.Take
	}
	for id := range taken {
		if taken[id] && used[id] > 1 {
			return fmt.Errorf("%w guest %s: %d disks have the image %s, and one takes it", virt.ErrInvalid, p.Guest.ID, used[id], id)
		}
	}
	return nil
}

// Made takes out of the answer what was to be done and is.
func (p *Plan) Made() *mistify.Guest {
	for i, name := range p.Names {
		if name != "" {
			p.Guest.Disks[i].Take = false
		}
	}
	return p.Guest
}

func (r Rules) spec(guest string, i int, d *mistify.Disk) (DiskSpec, error) {
	spec := DiskSpec{Image: d.Image, Take: d.Take, Format: r.Formats[0], Size: int64(min(d.Size, 1<<40)) << 20}
	if d.Format != "" {
		spec.Format = ""
		for _, known := range r.Formats {
			if d.Format == known {
				spec.Format = known
			}
		}
	}
	switch {
	case spec.Format == "":
		return spec, fmt.Errorf("%w guest %s: disks[%d].format: %.20q must be %s", virt.ErrInvalid, guest, i, d.Format, strings.Join(r.Formats, " or "))
	case d.Size > r.MaxSize:
		return spec, fmt.Errorf("%w guest %s: disks[%d].size: %d MB are too many, at most %d are made", virt.ErrInvalid, guest, i, d.Size, r.MaxSize)
	case d.Take && d.Image == "":
		return spec, fmt.Errorf("%w guest %s: disks[%d]: it takes an image and names none", virt.ErrInvalid, guest, i)
	case d.Image == "" && d.Size == 0:
		return spec, fmt.Errorf("%w guest %s: disks[%d]: it has neither an image nor a size", virt.ErrInvalid, guest, i)
	case d.Image != "":
		return spec, CheckImage(d.Image)
	}
	return spec, nil
}

// Ours reports whether any disk of the plan is one of the store.
func (p *Plan) Ours() bool {
	for _, name := range p.Names {
		if name != "" {
			return true
		}
	}
	return false
}

// Forget takes out of a guest's definition where its disks were.
func (r Rules) Forget(g *mistify.Guest, id string) *mistify.Guest {
	g = g.Clone()
	for i := range g.Disks {
		if d := &g.Disks[i]; strings.HasPrefix(d.Source, r.Root+GuestFolder(id)+"/") || strings.HasPrefix(d.Volume, GuestFolder(id)+"/") {
			d.Volume, d.Source = "", ""
		}
	}
	return g
}
