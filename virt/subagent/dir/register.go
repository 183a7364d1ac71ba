package dir

import (
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/store"
)

// Register makes a server answer every method of the store.
func (s *Store) Register(server *mistify.Server) { store.Register(server, s) }
