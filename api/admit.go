package api

import (
	"bytes"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/vagoth/vagoth/scheduler"
)

// load says with what a request is counted.
type load int

const (
	ordinary      load = iota
	urgent             // reading a status, stopping, cancelling, pausing: passes when ordinary ones are refused
	perhapsUrgent      // urgent if the action in its body is
	waiting            // costs little, but lasts: long polls and streams
	heavy              // reads or writes the whole registry
	uncounted          // whether it lives
)

// The limits where Options are silent.
const (
	DefaultMaxRequests = 256
	DefaultMaxWaiting  = 10_000
	maxHeavy           = 4
)

// gate counts requests of one load.
type gate chan struct{}

func (g gate) enter() bool {
	select {
	case g <- struct{}{}:
		return true
	default:
		return false
	}
}

func (g gate) leave() { <-g }

// gates are those of a server.
type gates struct{ ordinary, urgent, waiting, heavy gate }

func newGates(o Options) gates {
	return gates{
		ordinary: make(gate, o.MaxRequests), urgent: make(gate, o.MaxRequests),
		waiting: make(gate, o.MaxWaiting), heavy: make(gate, maxHeavy),
	}
}

func (g *gates) of(l load) gate {
	switch l {
	case urgent:
		return g.urgent
	case waiting:
		return g.waiting
	case heavy:
		return g.heavy
	}
	return g.ordinary
}

const gateKey = "vagoth.gate"

// admit refuses a request when too many of its kind run. It is asked last, so
// that whoever may not ask at all takes nobody's place.
func (s *server) admit(r route) gin.HandlerFunc {
	if r.load == uncounted {
		return func(*gin.Context) {}
	}
	return func(c *gin.Context) {
		g := s.gates.of(r.load)
		ok := g.enter()
		switch {
		case ok:
		case r.load == urgent: // both are full of urgent ones only if those hang
			g = s.gates.ordinary
			ok = g.enter()
		case r.load == perhapsUrgent:
			g = s.gates.urgent
			if ok = g.enter(); ok && !s.isUrgent(c) {
				g.leave()
				ok = false
			}
		}
		if !ok {
			s.overloaded(c)
			return
		}
		if r.load == heavy || r.media == eventStream {
			extend(c, MaxWait)
		}
		c.Set(gateKey, g)
		defer func() { c.MustGet(gateKey).(gate).leave() }()
		c.Next()
	}
}

func (s *server) overloaded(c *gin.Context) {
	err := &Error{Problem: Problem{Message: "too many requests at once: nothing was done, try again in a second", Code: overloaded, After: scheduler.Span(minRetry)}}
	s.fail(c, err)
}

// idle counts the request from now on as one that waits.
func (s *server) idle(c *gin.Context) bool {
	if !s.gates.waiting.enter() {
		return false
	}
	extend(c, MaxWait)
	c.MustGet(gateKey).(gate).leave()
	c.Set(gateKey, s.gates.waiting)
	return true
}

// extend gives a request that lasts more time than the server's own timeouts
// do, which are for those that are slow.
func extend(c *gin.Context, d time.Duration) {
	rc, until := http.NewResponseController(c.Writer), time.Now().Add(d+writeWithin)
	_ = rc.SetReadDeadline(until) // what has no deadlines needs none moved
	_ = rc.SetWriteDeadline(until)
}

// isUrgent reads ahead which action a request asks for.
func (s *server) isUrgent(c *gin.Context) bool {
	data, err := io.ReadAll(io.LimitReader(c.Request.Body, MaxBody+1))
	if err != nil {
		return false
	}
	c.Request.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(data), c.Request.Body), c.Request.Body}
	var req JobRequest
	return len(data) <= MaxBody && s.shapes.decode(data, &req) == nil && s.m.Actions[req.Action].Urgent
}

// retryAfter is the header of the time after which to try again.
func retryAfter(h http.Header, after time.Duration) {
	if after > 0 {
		h.Set("Retry-After", strconv.FormatInt(int64((after+time.Second-1)/time.Second), 10))
	}
}

// multiple are the parameters that may be given several times.
func multiple(name string) bool { return slices.Contains([]string{"tag", "state"}, name) }
