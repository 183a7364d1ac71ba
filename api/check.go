package api

import (
	"context"

	"github.com/gin-gonic/gin"

	"github.com/vagoth/vagoth/registry"
)

// Check reads the whole registry and checks every promise.
func (c *Client) Check(ctx context.Context) (a registry.Audited, err error) {
	return a, c.call(ctx, "GET", "/v1/registry/check", nil, &a)
}

func (s *server) check(c *gin.Context) {
	r, err := s.m.Registry.View(c.Request.Context())
	if err != nil {
		s.fail(c, err)
		return
	}
	a, err := registry.Audit(r)
	s.answer(c, a, err)
}
