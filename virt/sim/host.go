package sim

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
)

// host is one simulated hypervisor.
type host struct {
	name string

	mu     sync.Mutex // guards the rest
	loaded bool
	state  state
	faults faults
	calls  uint64 // so far; with the seed it makes chance repeatable, whatever other hosts do
}

// state is what outlives the process.
type state struct {
	Guests   []guest         `json:"guests"` // ordered by UUID
	Disks    map[string]disk `json:"disks,omitempty"`
	Capacity *virt.Capacity  `json:"capacity,omitempty"` // where it differs from the config's

	// These are replaced as a whole when they change.
	Snapshots map[string][]snapshot `json:"snapshots,omitempty"` // by guest, oldest first
	Images    []image               `json:"images,omitempty"`    // ordered by ID

	Fences map[string]trail.Token `json:"fences,omitempty"` // by guest: the highest token seen
}

// guest is one guest of a host.
type guest struct {
	UUID    string     `json:"uuid"`
	Name    string     `json:"name"`
	State   virt.State `json:"state"`
	CPU     int        `json:"cpu"`
	Memory  int64      `json:"memory"`
	Defined string     `json:"defined,omitempty"` // digest of what it was defined as
	Volumes []string   `json:"volumes,omitempty"`
	Since   time.Time  `json:"since,omitzero"`  // of the last start
	OffAt   time.Time  `json:"off_at,omitzero"` // when a shutdown takes effect
	Deaf    bool       `json:"deaf,omitempty"`  // it ignores shutdowns
}

// disk is one volume. Its text stands for its content.
type disk struct {
	Owner string `json:"owner"` // UUID of the guest it was made for
	Size  int64  `json:"size"`  // MB
	Text  string `json:"text,omitempty"`
	Image string `json:"image,omitempty"` // that it was made of
}

// faults is what a test has told a host to do.
type faults struct {
	hang      chan struct{} // closed by Heal
	deaf      bool          // the hang ignores the context
	err       error
	partial   bool
	keep      int
	intercept func(context.Context, Call) error
}

// settle brings a guest to the present.
func (g *guest) settle(now time.Time) {
	if !g.OffAt.IsZero() && !now.Before(g.OffAt) {
		g.State, g.OffAt = virt.Stopped, time.Time{}
	}
}

func (g *guest) active() bool { return g.State == virt.Running || g.State == virt.Paused }

func (g *guest) seen() virt.Seen {
	return virt.Seen{UUID: g.UUID, Name: g.Name, State: g.State, CPU: g.CPU, Memory: g.Memory}
}

// index finds the place of a guest.
func (s *state) index(uuid string) (int, bool) {
	return slices.BinarySearchFunc(s.Guests, uuid, func(g guest, u string) int { return strings.Compare(g.UUID, u) })
}

// find returns the guest, brought to the present, to read or to change.
func (s *state) find(uuid string, now time.Time) (*guest, error) {
	i, ok := s.index(uuid)
	if !ok {
		return nil, fmt.Errorf("%w: guest %.64q", virt.ErrNotFound, uuid)
	}
	s.Guests[i].settle(now)
	return &s.Guests[i], nil
}

// put adds a guest or replaces it.
func (s *state) put(g guest) {
	i, ok := s.index(g.UUID)
	if ok {
		s.Guests[i] = g
		return
	}
	s.Guests = slices.Insert(s.Guests, i, g)
}

// owns reports whether there is a volume that was made for the guest.
func (s *state) owns(uuid string) bool {
	for _, d := range s.Disks {
		if d.Owner == uuid {
			return true
		}
	}
	return false
}

func (s *state) remove(uuid string) {
	if i, ok := s.index(uuid); ok {
		s.Guests = slices.Delete(s.Guests, i, i+1)
	}
}

// clone copies all that a call can change, to fall back to.
func (s *state) clone() state {
	c := *s
	c.Guests = slices.Clone(s.Guests)
	c.Disks = make(map[string]disk, len(s.Disks))
	for k, v := range s.Disks {
		c.Disks[k] = v
	}
	return c
}

// limits of what a host takes.
const (
	maxGuests = 100_000 // of a host
	maxHosts  = 100_000
)

// check refuses a guest that no host could take.
func check(g virt.Guest) error {
	bad := func(what, reason string) error {
		return fmt.Errorf("%w: the guest's %s: %s", virt.ErrInvalid, what, reason)
	}
	if err := registry.CheckName(g.Name); err != nil {
		return bad("name", err.Error())
	}
	if err := checkUUID(g.UUID); err != nil {
		return err
	}
	d := g.Definition
	if d.CPU < 1 || d.Memory < 1 {
		return bad("definition", fmt.Sprintf("%d CPUs and %d MB: both must be at least 1", d.CPU, d.Memory))
	}
	seen := map[string]bool{}
	for i, disk := range d.Disks {
		what := fmt.Sprintf("disk %d", i)
		switch {
		case disk.Size < 0:
			return bad(what, "its size is negative")
		case disk.Source != "":
			continue
		}
		if err := registry.CheckName(disk.Volume); err != nil {
			return bad(what+"'s volume", err.Error())
		}
		if seen[disk.Volume] {
			return bad(what+"'s volume", fmt.Sprintf("%q is the volume of another of its disks", disk.Volume))
		}
		seen[disk.Volume] = true
	}
	return nil
}

func checkUUID(s string) error {
	if u, err := uuid.Parse(s); err != nil || u.String() != s {
		return fmt.Errorf("%w: the guest's UUID: %.64q is not 36 characters of lower-case hexadecimal digits and hyphens", virt.ErrInvalid, s)
	}
	return nil
}

// volumes are the volumes that Provision makes for the guest.
func volumes(g virt.Guest) (names []string) {
	for _, d := range g.Definition.Disks {
		if d.Source == "" {
			names = append(names, d.Volume)
		}
	}
	return names
}

// digest tells one definition from another.
func digest(g virt.Guest) (string, error) {
	data, err := json.Marshal(struct {
		Name       string
		Definition virt.Definition
	}{g.Name, g.Definition})
	if err != nil {
		return "", fmt.Errorf("%w: the definition cannot be encoded: %w", virt.ErrInvalid, err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:12]), nil
}
