package api

import (
	"bufio"
	"errors"
	"io"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/vagoth/vagoth/registry"
)

func (s *server) getBlob(c *gin.Context) {
	r, n, ok := s.node(c)
	if !ok {
		return
	}
	data, err := r.Blob(n.ID(), param(c, "key"))
	if err != nil {
		s.fail(c, err)
		return
	}
	c.Header("X-Content-Type-Options", "nosniff")
	c.Header("Content-Disposition", "attachment")
	c.Data(http.StatusOK, "application/octet-stream", data)
}

func (s *server) putBlob(c *gin.Context) {
	_, n, ok := s.node(c)
	if !ok {
		return
	}
	data, ok := s.raw(c, registry.MaxBlob)
	if !ok {
		return
	}
	s.writeBlob(c, n.ID(), data)
}

func (s *server) deleteBlob(c *gin.Context) {
	if _, n, ok := s.node(c); ok {
		s.writeBlob(c, n.ID(), nil)
	}
}

// writeBlob stores data, or removes the blob, which is there, if data is nil.
func (s *server) writeBlob(c *gin.Context, id string, data []byte) {
	key := param(c, "key")
	var n *registry.Node
	err := s.m.Registry.Update(c.Request.Context(), func(tx registry.Tx) (err error) {
		if data == nil {
			if _, err := tx.Blob(id, key); err != nil {
				return err
			}
		}
		if err = tx.PutBlob(id, key, data); err == nil {
			n, err = tx.Get(id)
		}
		return err
	})
	s.answerNode(c, n, err)
}

func (s *server) export(c *gin.Context) {
	r, err := s.m.Registry.View(c.Request.Context())
	if err != nil {
		s.fail(c, err)
		return
	}
	c.Header("Content-Type", "application/x-ndjson")
	c.Header("Cache-Control", "no-store")
	if c.Request.Method == http.MethodHead {
		return
	}
	_, err = registry.Export(c.Request.Context(), r, c.Writer)
	switch {
	case err == nil:
	case !c.Writer.Written():
		s.fail(c, err)
	default:
		// The status is out already: only a broken answer tells of the error.
		s.o.Log.Error("an export was cut off", "error", err)
		panic(http.ErrAbortHandler)
	}
}

func (s *server) importNodes(c *gin.Context) {
	dry, err := onOff(c, "dry_run")
	if err != nil {
		s.fail(c, err)
		return
	}
	body := http.MaxBytesReader(c.Writer, c.Request.Body, MaxImport)
	n, err := registry.Import(c.Request.Context(), s.m.Registry, body, registry.ImportOptions{DryRun: dry})
	var large *http.MaxBytesError
	if errors.As(err, &large) {
		err = unreadable(c, err)
	}
	if errors.Is(err, bufio.ErrTooLong) {
		err = &registry.InvalidError{Field: "import", Reason: err.Error()}
	}
	if err != nil {
		// A caller that still writes would miss the answer.
		_, _ = io.CopyN(io.Discard, body, MaxBody)
	}
	s.answer(c, ImportReport{Counts: n, DryRun: dry}, err)
}

func (s *server) check(c *gin.Context) {
	r, err := s.m.Registry.View(c.Request.Context())
	if err != nil {
		s.fail(c, err)
		return
	}
	found, err := registry.Audit(r)
	s.answer(c, found, err)
}
