package zfs

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"path/filepath"

	"github.com/vagoth/vagoth/virt/cloudinit"
	"github.com/vagoth/vagoth/virt/mistify"
)

// seeds is the folder of the disks for cloud-init. They are small files, which
// follow from a definition: nothing of them is worth a volume.
const seeds = "cidata"

func seedFile(guest string) string { return seeds + "/" + guest + ".iso" }

func (s *Store) seedPath(guest string) string { return filepath.Join(s.o.Dir, seedFile(guest)) }

// seed is the disk for cloud-init that a guest asks for; nil if it asks for none,
// or has one from elsewhere. The definition says where it is, or is to be.
func (s *Store) seed(g *mistify.Guest) ([]byte, error) {
	if d := g.CloudInit.Disk; !g.CloudInit.Wanted() || d != "" && d != s.seedPath(g.ID) {
		return nil, nil
	}
	v, err := g.Virt()
	if err != nil {
		return nil, err
	}
	data, err := cloudinit.Disk(v)
	if err == nil && data != nil {
		g.CloudInit.Disk = s.seedPath(g.ID)
	}
	return data, err
}

// putSeed makes the disk for cloud-init, anew if it is there. Only root reads it.
func (s *Store) putSeed(guest string, data []byte) error {
	if data == nil {
		return nil
	}
	tmp := seeds + "/.half-" + rand.Text()
	err := s.root.WriteFile(tmp, data, 0o600)
	if err == nil {
		err = s.root.Rename(tmp, seedFile(guest))
	}
	if err != nil {
		return errors.Join(err, s.dropFile(tmp))
	}
	return nil
}

func (s *Store) dropSeed(guest string) error { return s.dropFile(seedFile(guest)) }

func (s *Store) dropFile(name string) error {
	if err := s.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// forget takes out of a guest's definition where everything of it was here.
func (s *Store) forget(g *mistify.Guest, id string) *mistify.Guest {
	g = s.rules.Forget(g, id)
	if g.CloudInit.Disk == s.seedPath(id) {
		g.CloudInit.Disk = ""
	}
	return g
}
