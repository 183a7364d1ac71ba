package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/vagoth/vagoth/virt/mistify"
)

// maxUpload bounds one that never stands still for long, and never ends.
const maxUpload = 24 * time.Hour

// putImage passes what is sent on to the sub-agent, as it comes. It is no job: what
// was sent is not there a second time, and so it is done now or not at all.
func (s *server) putImage(c *gin.Context) {
	req := mistify.ImageRequest{ID: param(c, "image"), SHA256: c.Query("sha256")}
	err := mistify.CheckImageID("", req.ID)
	if size := c.Query("size"); err == nil && size != "" {
		if req.Size, err = strconv.ParseUint(size, 10, 63); err != nil {
			err = invalid("size = %.32q is no number of bytes", size)
		}
	}
	if n := c.Request.ContentLength; err == nil && n >= 0 && req.Size > 0 && uint64(n) != req.Size {
		err = invalid("size = %d, and the body has %d bytes", req.Size, n)
	}
	p, missing := s.a.pipeline("", mistify.ActionPutImage)
	if err = errors.Join(err, missing); err != nil {
		s.fail(c, err)
		return
	}
	at := p.stages[0]
	leave, ok := s.place(c, hostQueue, "uploads of images", at)
	if !ok {
		return
	}
	defer leave()
	ctx, cancel := context.WithTimeout(c.Request.Context(), maxUpload+s.a.cfg.AsyncTimeout)
	defer cancel()
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	in := &sent{body: c.Request.Body, wire: http.NewResponseController(c.Writer), stall: s.a.cfg.StreamStall}
	late := time.AfterFunc(maxUpload, func() { end(context.DeadlineExceeded) })
	defer late.Stop()
	in.after = func() { late.Reset(s.a.cfg.AsyncTimeout) }
	defer func() { _ = in.Close() }()
	_ = in.wire.SetWriteDeadline(time.Time{}) // the answer is begun when all has come
	var made mistify.ImageResponse
	err = at.service.caller.Upload(ctx, at.Method, &req, in, &made)
	if err == nil && len(made.Images) != 1 {
		err = fmt.Errorf("the sub-agent %s answers %d images where it was sent one", at.Service, len(made.Images))
	}
	var said *mistify.RemoteError
	if cut := in.failure(); cut != nil && err != nil && !errors.As(err, &said) {
		err = invalid("what was sent broke off: %s", cut)
	}
	if err != nil {
		s.fail(c, err)
		return
	}
	s.write(c, http.StatusOK, made.Images[0])
}

// sent is the body of a request. It may take as long as it likes, but not stand
// still; to close it wakes who reads it.
type sent struct {
	body  io.Reader
	wire  *http.ResponseController
	stall time.Duration
	after func() // is called once, at its end

	mu     sync.Mutex
	closed bool
	ended  bool
	failed error
}

func (s *sent) Read(p []byte) (int, error) {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return 0, net.ErrClosed
	}
	_ = s.wire.SetReadDeadline(time.Now().Add(s.stall))
	s.mu.Unlock()
	n, err := s.body.Read(p)
	if err == nil {
		return n, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case errors.Is(err, io.EOF) && !s.ended:
		s.ended = true
		_ = s.wire.SetReadDeadline(time.Time{}) // past it the server takes the client for gone
		s.after()
	case !errors.Is(err, io.EOF):
		s.failed = err
	}
	return n, err
}

// failure is why the body could not be read, nil if it could.
func (s *sent) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failed
}

// Close implements io.Closer.
func (s *sent) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed && !s.ended {
		s.closed = true
		_ = s.wire.SetReadDeadline(time.Unix(1, 0))
	}
	return nil
}
