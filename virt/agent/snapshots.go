package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt/mistify"
)

// snapshotID is what the path names, every part of it checked, or an answer was
// given. The guest is known.
func (s *server) snapshotID(c *gin.Context) (id mistify.SnapshotID, g *guest, ok bool) {
	if g, ok = s.known(c); !ok {
		return id, nil, false
	}
	id = mistify.SnapshotID{Guest: g.id, Disk: param(c, "disk"), Name: param(c, "name")}
	var err error
	if c.Param("disk") != "" {
		err = mistify.CheckDiskID(id.Disk)
	}
	if err == nil && c.Param("name") != "" {
		err = mistify.CheckSnapshotName(id.Name)
	}
	if err != nil {
		s.fail(c, err)
		return id, nil, false
	}
	return id, g, true
}

func (s *server) listSnapshots(c *gin.Context) { s.askSnapshots(c, "listSnapshots") }

func (s *server) getSnapshot(c *gin.Context) { s.askSnapshots(c, "getSnapshot") }

func (s *server) askSnapshots(c *gin.Context, action string) {
	id, g, ok := s.snapshotID(c)
	if !ok {
		return
	}
	p, err := s.a.pipeline(g.kind, action)
	if err != nil {
		s.fail(c, err)
		return
	}
	within(c, s.a.cfg.InfoTimeout*time.Duration(len(p.stages)+1))
	list := []mistify.Snapshot{}
	err = s.a.ask(c.Request.Context(), g.id, p, func(ctx context.Context, at step) error {
		var one mistify.SnapshotResponse
		req := mistify.SnapshotRequest{ID: id.String()}
		if err := at.service.call(ctx, s.a.cfg.InfoTimeout, at.Method, &req, &one); err != nil {
			return err
		}
		list = append(list, one.Snapshots...)
		return nil
	})
	s.answer(c, list, err)
}

// createSnapshot calls the snapshot dest; without a disk it is of all of them.
func (s *server) createSnapshot(c *gin.Context) {
	id, _, ok := s.snapshotID(c)
	if !ok {
		return
	}
	given := mistify.SnapshotRequest{}
	if !s.body(c, &given) {
		return
	}
	req := id.Request()
	req.Dest = given.Dest
	if req.Dest == "" {
		req.Dest = fmt.Sprintf("snap-%d", s.a.now().Unix())
	}
	if err := mistify.CheckSnapshotName(req.Dest); err != nil {
		s.fail(c, err)
		return
	}
	s.orderJob(c, order{action: "createSnapshot", guest: id.Guest, snapshot: &req})
}

func (s *server) deleteSnapshot(c *gin.Context) {
	if id, _, ok := s.snapshotID(c); ok {
		req := id.Request()
		s.orderJob(c, order{action: "deleteSnapshot", guest: id.Guest, snapshot: &req})
	}
}

func (s *server) rollback(c *gin.Context) {
	id, _, ok := s.snapshotID(c)
	if !ok {
		return
	}
	given := mistify.SnapshotRequest{}
	if !s.body(c, &given) {
		return
	}
	req := mistify.SnapshotRequest{ID: id.String(), DestroyMoreRecent: given.DestroyMoreRecent}
	s.orderJob(c, order{action: "rollbackSnapshot", guest: id.Guest, snapshot: &req})
}

// download copies what the sub-agent sends, as it comes.
func (s *server) download(c *gin.Context) {
	id, g, ok := s.snapshotID(c)
	if !ok {
		return
	}
	p, err := s.a.pipeline(g.kind, "downloadSnapshot")
	if from := c.Query("from"); err == nil && from != "" {
		err = mistify.CheckSnapshotName(from)
	}
	if err != nil {
		s.fail(c, err)
		return
	}
	ctx := c.Request.Context()
	within(c, 2*s.a.cfg.InfoTimeout+s.a.cfg.StreamStall)
	at := p.stages[0]
	leave, ok := s.place(c, g.id, "downloads of "+g.id, at)
	if !ok {
		return
	}
	defer leave()
	req := id.Request()
	req.From, req.Resume = c.Query("from"), c.Query("resume")
	d, err := at.service.caller.Stream(ctx, at.Method, &req)
	if err != nil {
		s.fail(c, err)
		return
	}
	defer func() { _ = d.Close() }()
	s.copy(c, d)
}

// place takes one of the places that who has for streams, and one of the sub-agent's,
// or an answer was given.
func (s *server) place(c *gin.Context, who, what string, at step) (leave func(), ok bool) {
	ctx := c.Request.Context()
	wait, cancel := context.WithTimeout(ctx, s.a.cfg.InfoTimeout)
	defer cancel()
	out, err := s.a.streams.enter(wait, who)
	if err != nil {
		s.fail(c, s.a.late(ctx, err, "%d %s run already (max_streams)", s.a.cfg.MaxStreams, what))
		return nil, false
	}
	if err := at.service.acquire(wait); err != nil {
		out()
		s.fail(c, s.a.late(ctx, err, "the sub-agent %s is being asked %d times already (max_pending)", at.Service, cap(at.service.places)))
		return nil, false
	}
	return func() { at.service.release(); out() }, true
}

// copyAtOnce is how many bytes are read before they are passed on. What came in
// smaller pieces is passed on in these.
const copyAtOnce = 64 << 10

// copy passes a download on. One that breaks off breaks the answer off too, so
// that nobody takes it for a whole one.
func (s *server) copy(c *gin.Context, d *mistify.Download) {
	h := c.Writer.Header()
	h["Content-Type"] = []string{d.ContentType}
	h["X-Content-Type-Options"] = []string{"nosniff"}
	h["Cache-Control"] = []string{"no-store"}
	h["Content-Disposition"] = []string{"attachment"}
	if d.Length >= 0 {
		h["Content-Length"] = []string{strconv.FormatInt(d.Length, 10)}
	}
	c.Writer.WriteHeader(http.StatusOK)
	c.Writer.WriteHeaderNow()
	sent, err := s.pass(c, d)
	if err == nil {
		return
	}
	var away *awayError
	if errors.As(err, &away) || c.Request.Context().Err() != nil {
		s.a.log.Info("agent: a download was given up by its client", "path", c.Request.URL.Path, "bytes", sent, "err", err, "trail", trail.From(c.Request.Context()))
	} else {
		s.a.log.Warn("agent: a download broke off", "path", c.Request.URL.Path, "bytes", sent, "err", err, "trail", trail.From(c.Request.Context()))
	}
	panic(http.ErrAbortHandler)
}

// awayError is a client that takes nothing any more.
type awayError struct{ error }

// pass copies a download to its client. As long as something moves there is time.
func (s *server) pass(c *gin.Context, d *mistify.Download) (sent int64, err error) {
	rc := http.NewResponseController(c.Writer)
	buf := make([]byte, copyAtOnce)
	for {
		n, err := d.Read(buf)
		if n > 0 {
			_ = rc.SetWriteDeadline(time.Now().Add(s.a.cfg.StreamStall))
			if _, err := c.Writer.Write(buf[:n]); err != nil {
				return sent, &awayError{err}
			}
			c.Writer.Flush()
			sent += int64(n)
		}
		switch {
		case errors.Is(err, io.EOF) && (d.Length < 0 || sent == d.Length):
			return sent, nil
		case err != nil:
			return sent, err
		}
	}
}
