package agent

import (
	"fmt"

	"github.com/gin-gonic/gin"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// save makes an image of what a container has written. What a virtual machine has
// written is on its disks, and those have snapshots.
func (s *server) save(c *gin.Context) {
	g, ok := s.known(c)
	if !ok {
		return
	}
	given := mistify.SaveRequest{}
	if !s.body(c, &given) {
		return
	}
	if g.kind != mistify.TypeContainer {
		s.fail(c, fmt.Errorf("%w: the guest %s is no container, and only what a container has written becomes an image: keep what its disks hold with a snapshot, POST /guests/%s/snapshots",
			virt.ErrUnsupported, g.id, g.id))
		return
	}
	if given.Dest == "" {
		s.fail(c, invalid("missing dest: say what the image is to be called"))
		return
	}
	if err := mistify.CheckImageID(mistify.TypeContainer, given.Dest); err != nil {
		s.fail(c, err)
		return
	}
	s.orderJob(c, order{action: mistify.ActionSave, guest: g.id, save: &mistify.SaveRequest{ID: g.id, Dest: given.Dest}})
}
