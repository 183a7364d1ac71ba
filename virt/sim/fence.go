package sim

import (
	"fmt"
	"maps"

	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
)

// maxFences is how many tokens of guests that are gone a host keeps.
const maxFences = 10_000

// Fences implements virt.Fencer: each host keeps the highest token that it has seen for
// a guest, also when that is gone.
func (d *Driver) Fences() bool { return true }

// looks reports whether a call only looks. Those are not fenced.
func looks(op string) bool {
	switch op {
	case "info", "metrics", "snapshots", "download", "console":
		return true
	}
	return false
}

// fence refuses a token that is lower than one seen before, and remembers a higher one.
func (s *state) fence(uuid string, token trail.Token) (raised bool, err error) {
	highest := s.Fences[uuid]
	switch {
	case uuid == "" || token.IsZero() || token == highest:
		return false, nil
	case token.Compare(highest) < 0:
		return false, fmt.Errorf("%w: fenced off by a newer token: the guest %s has seen %s, and %s is lower: somebody else was given it since; nothing was done",
			virt.ErrConflict, uuid, highest, token)
	}
	// Replaced as a whole, so that a clone keeps what it had.
	s.Fences = maps.Clone(s.Fences)
	if s.Fences == nil {
		s.Fences = map[string]trail.Token{}
	}
	s.Fences[uuid] = token
	if len(s.Fences) > len(s.Guests)+maxFences {
		s.forgetFence(uuid)
	}
	return true, nil
}

// forgetFence drops the lowest token of those of guests that are gone, but for one.
func (s *state) forgetFence(but string) {
	lowest := ""
	for uuid, t := range s.Fences {
		if _, there := s.index(uuid); !there && uuid != but && (lowest == "" || t.Compare(s.Fences[lowest]) < 0) {
			lowest = uuid
		}
	}
	delete(s.Fences, lowest)
}
