package mistify

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/google/uuid"

	"github.com/vagoth/vagoth/virt"
)

// ConsoleRequest attaches to a guest's serial console, or types into one that is
// attached. It is an addition, as is all of this file.
type ConsoleRequest struct {
	Guest   *Guest            `json:"guest"`
	Session string            `json:"session"`        // a UUID that the agent makes: what is typed belongs to what is shown
	Data    []byte            `json:"data,omitempty"` // what is typed, at most MaxTyped bytes; in base64
	Args    map[string]string `json:"args,omitempty"`
}

// ConsoleResponse is the answer to what was typed.
type ConsoleResponse struct{}

// MaxTyped bounds what is typed in one call, in bytes.
const MaxTyped = 16 << 10

// RegisterConsole makes attach answer the method called show with what a guest
// prints, as it prints it, and the method called typed by typing into the same
// session. What attach returns is closed, once, when the agent has given the
// session up, which ends its Read; what types into it then is told
// virt.ErrNotFound.
//
// A console is two methods because a call of JSON-RPC has one request: so a
// sub-agent in any language can have one.
func RegisterConsole(s *Server, show, typed string, attach func(context.Context, *ConsoleRequest) (io.ReadWriteCloser, error)) {
	open := &sessions{by: map[uuid.UUID]io.Writer{}}
	RegisterStream(s, show, "", func(ctx context.Context, r *ConsoleRequest) (*Download, error) {
		id, err := r.check()
		if err != nil {
			return nil, err
		}
		if err := open.reserve(id); err != nil {
			return nil, err
		}
		rw, err := attach(ctx, r)
		if err != nil {
			open.put(id, nil)
			return nil, err
		}
		open.put(id, rw)
		one := &session{ReadWriteCloser: rw}
		one.close = sync.OnceValue(func() error {
			open.put(id, nil)
			return rw.Close()
		})
		stop := context.AfterFunc(ctx, func() { _ = one.close() }) // Read may wait for a guest that says nothing
		one.stop = func() { stop() }
		return &Download{ReadCloser: one, Length: -1, live: true}, nil
	})
	Register(s, typed, func(_ context.Context, r *ConsoleRequest) (*ConsoleResponse, error) {
		id, err := r.check()
		if err != nil {
			return nil, err
		}
		w := open.get(id)
		if w == nil {
			return nil, fmt.Errorf("%w: nobody is attached to the console of %s by the session %s any more", virt.ErrNotFound, r.Guest.ID, id)
		}
		if _, err := w.Write(r.Data); err != nil {
			return nil, fmt.Errorf("cannot type into the console of %s: %w", r.Guest.ID, err)
		}
		return &ConsoleResponse{}, nil
	})
}

func (r *ConsoleRequest) check() (uuid.UUID, error) {
	id, err := uuid.Parse(r.Session)
	switch {
	case err != nil || len(r.Session) != 36:
		return id, fmt.Errorf("%w session %.64q of a console: give a UUID", virt.ErrInvalid, r.Session)
	case r.Guest == nil:
		return id, fmt.Errorf("%w request: it has no guest", virt.ErrInvalid)
	case len(r.Data) > MaxTyped:
		return id, fmt.Errorf("%w request: %d bytes are typed, at most %d are taken at once", virt.ErrInvalid, len(r.Data), MaxTyped)
	}
	return id, nil
}

// sessions are the consoles that are attached; nil is one that is about to be.
type sessions struct {
	mu sync.Mutex
	by map[uuid.UUID]io.Writer
}

func (o *sessions) reserve(id uuid.UUID) error {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, taken := o.by[id]; taken {
		return fmt.Errorf("%w: the session %s is attached already", virt.ErrConflict, id)
	}
	o.by[id] = nil
	return nil
}

// put says who gets what is typed; nobody ends the session.
func (o *sessions) put(id uuid.UUID, w io.Writer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if w == nil {
		delete(o.by, id)
		return
	}
	o.by[id] = w
}

func (o *sessions) get(id uuid.UUID) io.Writer {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.by[id]
}

// session is a console as long as it is attached.
type session struct {
	io.ReadWriteCloser
	stop  func()
	close func() error
}

func (s *session) Close() error {
	s.stop()
	return s.close()
}
