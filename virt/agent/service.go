package agent

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/vagoth/vagoth/virt/mistify"
)

// Caller asks one sub-agent. A *mistify.RPC is one.
type Caller interface {
	Call(ctx context.Context, method string, request, response any) error
	Stream(ctx context.Context, method string, request any) (*mistify.Download, error)
	Upload(ctx context.Context, method string, request any, content io.ReadCloser, response any) error
	Close()
}

// service is a sub-agent as the agent uses it.
type service struct {
	name     string
	caller   Caller
	consoles Caller        // which last: they take no places of the others
	places   chan struct{} // max_pending of them
	timeout  time.Duration // 0 is that of the action
}

// acquire takes one of the places that max_pending gives the service.
func (s *service) acquire(ctx context.Context) error {
	select {
	case s.places <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *service) tryAcquire() bool {
	select {
	case s.places <- struct{}{}:
		return true
	default:
		return false
	}
}

func (s *service) release() { <-s.places }

// call asks with a place that the caller has taken, and that call gives back. A
// panic, of a codec or of a service in this process, is an error.
func (s *service) call(ctx context.Context, timeout time.Duration, method string, request, response any) (err error) {
	defer s.release()
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{v}
		}
	}()
	if s.timeout > 0 {
		timeout = s.timeout
	}
	if end, ok := ctx.Deadline(); !ok || time.Until(end) > timeout {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, timeout)
		defer cancel()
	}
	return s.caller.Call(ctx, method, request, response)
}

// defaultPending is Mistify's.
const defaultPending = 4

// openServices makes the clients. Nothing is dialled yet.
func openServices(cfg Config, local map[string]http.Handler) (map[string]*service, error) {
	services := map[string]*service{}
	for _, name := range slices.Sorted(maps.Keys(cfg.Services)) {
		c := cfg.Services[name]
		if c.MaxPending == 0 {
			c.MaxPending = defaultPending
		}
		s := &service{name: name, places: make(chan struct{}, c.MaxPending), timeout: c.Timeout}
		services[name] = s
		var err error
		if s.caller, err = c.open(name, c.MaxPending, cfg.StreamStall, local[name]); err != nil {
			return services, err
		}
		if s.consoles, err = c.open(name, maxConsoles, maxConsole, local[name]); err != nil {
			return services, err
		}
	}
	return services, nil
}

// open makes a client of a service. Nothing is dialled yet.
func (c ServiceConfig) open(name string, pending int, stall time.Duration, inside http.Handler) (caller Caller, err error) {
	switch {
	case c.Port == 0 && c.Socket == "" && inside == nil:
		return nil, fmt.Errorf("[agent.service.%s] has neither a port nor a socket, and there is no such sub-agent in this program", name)
	case c.Port == 0 && c.Socket == "":
		caller, err = newInside(name, c.Path, pending, inside, stall)
	default:
		caller, err = mistify.NewRPC(mistify.Endpoint{Port: c.Port, Socket: c.Socket, Path: c.Path},
			mistify.RPCOptions{Name: name, MaxPending: pending, Stall: stall})
	}
	if err != nil {
		return nil, fmt.Errorf("[agent.service.%s] %w", name, err)
	}
	return caller, nil
}

func (s *service) close() {
	for _, c := range []Caller{s.caller, s.consoles} {
		if c != nil {
			c.Close()
		}
	}
}
