package agent

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"github.com/vagoth/vagoth/internal/duplex"
	"github.com/vagoth/vagoth/virt/mistify"
)

const (
	maxConsoles = 64             // of all guests of one service, at once
	maxConsole  = 24 * time.Hour // bounds one that nobody ends, and one that says nothing
)

// console joins a request's body and its answer to a guest's serial console.
func (s *server) console(c *gin.Context) {
	g, ok := s.known(c)
	if !ok {
		return
	}
	show, err := s.a.pipeline(g.kind, mistify.ActionConsole)
	if err != nil {
		s.fail(c, err)
		return
	}
	typed, err := s.a.pipeline(g.kind, mistify.ActionTypeConsole)
	if err != nil {
		s.fail(c, err)
		return
	}
	leave, ok := s.a.typists.tryEnter(g.id)
	if !ok {
		s.fail(c, tooMany("%d consoles of %s are attached already (max_streams)", s.a.cfg.MaxStreams, g.id))
		return
	}
	defer leave()
	ctx, end := duplex.Until(c.Request.Context(), maxConsole, s.a.deps.Draining)
	defer end()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	guest, err := g.decode()
	if err != nil {
		s.fail(c, err)
		return
	}
	at := show.stages[0]
	a := &attached{
		ctx: ctx, at: typed.stages[0], timeout: s.a.cfg.InfoTimeout,
		req: mistify.ConsoleRequest{Guest: guest, Session: uuid.NewString(), Args: at.Args},
	}
	late := time.AfterFunc(s.a.timeout(at), func() { cancel(context.DeadlineExceeded) })
	d, err := at.service.consoles.Stream(ctx, at.Method, &a.req)
	if !late.Stop() && err == nil {
		err = errors.Join(context.DeadlineExceeded, d.Close())
	}
	if err != nil {
		s.fail(c, err)
		return
	}
	a.shown = d
	defer duplex.Join(c.Writer, c.Request.Body, a, func() { cancel(nil) })()
	s.show(c, a)
}

// show passes on what a console says. Its end, whichever side made it, is the end
// of the answer.
func (s *server) show(c *gin.Context, from io.Reader) {
	h := c.Writer.Header()
	h["Content-Type"] = []string{octets}
	h["X-Content-Type-Options"] = []string{"nosniff"}
	h["Cache-Control"] = []string{"no-store"}
	c.Writer.WriteHeader(http.StatusOK)
	c.Writer.WriteHeaderNow()
	c.Writer.Flush()
	if _, err := s.pass(c, &mistify.Download{ReadCloser: io.NopCloser(from), Length: -1}); err != nil {
		s.a.log.Info("agent: a console broke off", "path", c.Request.URL.Path, "err", err)
		panic(http.ErrAbortHandler)
	}
}

// attached is a console as the two methods of its sub-agent make one.
type attached struct {
	ctx     context.Context //nolint:containedctx // it lives as long as the console
	shown   io.ReadCloser
	at      step // that types
	timeout time.Duration
	req     mistify.ConsoleRequest
}

// Read ends where the console does; one that was ended from here has no error.
func (a *attached) Read(p []byte) (int, error) {
	n, err := a.shown.Read(p)
	if err != nil && !errors.Is(err, io.EOF) && a.ctx.Err() != nil {
		err = io.EOF
	}
	return n, err
}

// Write types, in pieces that one call takes.
func (a *attached) Write(p []byte) (int, error) {
	for done := 0; done < len(p); {
		req := a.req
		req.Args, req.Data = a.at.Args, p[done:min(len(p), done+mistify.MaxTyped)]
		ctx, cancel := context.WithTimeout(a.ctx, a.timeout)
		err := a.at.service.acquire(ctx)
		if err == nil {
			err = a.at.service.call(ctx, a.timeout, a.at.Method, &req, &mistify.ConsoleResponse{})
		}
		cancel()
		if err != nil {
			return done, err
		}
		done += len(req.Data)
	}
	return len(p), nil
}

// Close gives the console up.
func (a *attached) Close() error { return a.shown.Close() }
