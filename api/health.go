package api

import (
	"context"
	"fmt"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/vagoth/vagoth/scheduler"
)

// readyWithin bounds how long a store may take to answer.
const readyWithin = 5 * time.Second

func (s *server) healthz(c *gin.Context) { s.answer(c, Health{Status: "ok"}, nil) }

// readyz asks both stores for something that costs nothing.
func (s *server) readyz(c *gin.Context) {
	if s.draining() {
		s.fail(c, problem(notReady, "draining: vagoth is being shut down"))
		return
	}
	ctx, cancel := context.WithTimeout(c.Request.Context(), readyWithin)
	defer cancel()
	_, err := s.m.Registry.View(ctx)
	if err != nil {
		err = fmt.Errorf("the registry does not answer: %w", err)
	} else if q, ok := s.m.Scheduler.(scheduler.QueueInspector); ok {
		if _, err = q.Stats(ctx); err != nil {
			err = fmt.Errorf("the scheduler does not answer: %w", err)
		}
	}
	if err != nil {
		s.o.Log.Warn("not ready", "error", err)
		s.fail(c, problem(notReady, err.Error()))
		return
	}
	s.answer(c, Health{Status: "ready"}, nil)
}

// draining reports whether the server is being shut down.
func (s *server) draining() bool {
	select {
	case <-s.o.Draining: // nil never is
		return true
	default:
		return false
	}
}
