package api

import (
	"github.com/gin-gonic/gin"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
)

const operating = "operations on jobs and queues"

func (s *server) retryJob(c *gin.Context) {
	op, ok := capable[scheduler.Operator](s, c, operating)
	var o scheduler.RetryOptions
	if !ok {
		return
	}
	id, ok := s.checkRef(c, "id")
	if !ok || !s.body(c, &o, MaxBody) {
		return
	}
	list, err := op.Retry(c.Request.Context(), id, o)
	s.answerJobs(c, list, 0, err)
}

func (s *server) skipJob(c *gin.Context) {
	op, ok := capable[scheduler.Operator](s, c, operating)
	if !ok {
		return
	}
	if id, ok := s.checkRef(c, "id"); ok && s.body(c, &struct{}{}, MaxBody) {
		st, err := op.Skip(c.Request.Context(), id)
		s.answer(c, coded(st), err)
	}
}

func (s *server) doneJob(c *gin.Context) {
	op, ok := capable[scheduler.Operator](s, c, operating)
	var req DoneRequest
	if !ok {
		return
	}
	if id, ok := s.checkRef(c, "id"); ok && s.body(c, &req, MaxBody) {
		st, err := op.Done(c.Request.Context(), id, req.Result)
		s.answer(c, coded(st), err)
	}
}

func (s *server) setQueue(m scheduler.QueueMode) gin.HandlerFunc {
	return func(c *gin.Context) {
		op, ok := capable[scheduler.Operator](s, c, operating)
		if !ok {
			return
		}
		if name, ok := s.checkRef(c, "name"); ok && s.body(c, &struct{}{}, MaxBody) {
			st, err := op.SetQueue(c.Request.Context(), name, m)
			s.answer(c, st, err)
		}
	}
}

const inspecting = "queues"

func (s *server) getQueue(c *gin.Context) {
	q, ok := capable[scheduler.QueueInspector](s, c, inspecting)
	if !ok {
		return
	}
	if name, ok := s.checkRef(c, "name"); ok {
		st, err := q.Queue(c.Request.Context(), name)
		s.answer(c, st, err)
	}
}

func (s *server) listQueues(c *gin.Context) {
	q, ok := capable[scheduler.QueueInspector](s, c, inspecting)
	if !ok {
		return
	}
	limit, err := pageLimit(c)
	after := c.Query("after")
	if err == nil && after != "" {
		if bad := registry.CheckKey(after); bad != nil {
			err = &registry.InvalidError{Field: "after", Reason: bad.Error()}
		}
	}
	if err != nil {
		s.fail(c, err)
		return
	}
	list := []scheduler.QueueStatus{}
	for st, err := range q.Queues(c.Request.Context()) {
		if err != nil {
			s.fail(c, err)
			return
		}
		if st.Name <= after && after != "" {
			continue
		}
		if list = append(list, st); len(list) == limit {
			break
		}
	}
	s.answer(c, list, nil)
}

func (s *server) limits(c *gin.Context) {
	q, ok := capable[scheduler.QueueInspector](s, c, inspecting)
	if !ok {
		return
	}
	list, err := q.Limits(c.Request.Context())
	if list == nil {
		list = []scheduler.LimitStatus{}
	}
	s.answer(c, list, err)
}

func (s *server) stats(c *gin.Context) {
	q, ok := capable[scheduler.QueueInspector](s, c, inspecting)
	if !ok {
		return
	}
	st, err := q.Stats(c.Request.Context())
	s.answer(c, st, err)
}
