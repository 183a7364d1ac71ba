package dir

import (
	"strings"

	"github.com/vagoth/vagoth/virt/cloudinit"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/store"
)

// seedName is the file of the disk for cloud-init.
const seedName = "cidata.iso"

func seedFile(guest string) string { return store.GuestFolder(guest) + "/" + seedName }

// seed is the disk for cloud-init that a guest asks for; nil if it asks for none,
// or has one from elsewhere.
func (s *Store) seed(g *mistify.Guest) ([]byte, error) {
	if d := g.CloudInit.Disk; !g.CloudInit.Wanted() || d != "" && d != s.path(seedFile(g.ID)) {
		return nil, nil
	}
	v, err := g.Virt()
	if err != nil {
		return nil, err
	}
	return cloudinit.Disk(v)
}

// putSeed makes the disk for cloud-init, anew if it is there: all that is on it
// follows from the definition.
func (s *Store) putSeed(g *mistify.Guest, data []byte) error {
	name := seedFile(g.ID)
	if err := s.make(name, 0o600, func(tmp string) error { return s.root.WriteFile(tmp, data, 0o600) }); err != nil {
		return err
	}
	g.CloudInit.Disk = s.path(name)
	return nil
}

// forget takes out of a guest's definition where everything of it was here.
func (s *Store) forget(g *mistify.Guest, id string) *mistify.Guest {
	g = s.rules.Forget(g, id)
	if strings.HasPrefix(g.CloudInit.Disk, s.path(store.GuestFolder(id))+"/") {
		g.CloudInit.Disk = ""
	}
	return g
}
