package api

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
)

// place is where a stream of events stands in both stores. A part is empty if
// the stream does not show its store.
type place struct {
	Nodes registry.Cursor `json:"n,omitempty"`
	Jobs  string          `json:"j,omitempty"`
}

// Limits of a cursor.
const (
	cursorPrefix = "e1."
	maxCursor    = 4096
)

// String is the cursor: opaque to clients, one word.
func (p place) String() string {
	data, err := json.Marshal(p)
	if err != nil {
		panic(err) // two strings are always encoded
	}
	return cursorPrefix + base64.RawURLEncoding.EncodeToString(data)
}

var errCursor = errors.New("it is no cursor of a stream of events: send one back as it came, or none to begin now")

// parsePlace reads a cursor.
func parsePlace(text string) (p place, err error) {
	if len(text) > maxCursor || len(text) < len(cursorPrefix) || text[:len(cursorPrefix)] != cursorPrefix {
		return p, errCursor
	}
	data, err := base64.RawURLEncoding.Strict().DecodeString(text[len(cursorPrefix):])
	if err != nil || decodeStrict(data, &p) != nil || p.Nodes == registry.Now || p.String() != text {
		return place{}, errCursor
	}
	return p, nil
}

// noType is the type of no node: what is asked of it costs nothing.
const noType = "vagoth.none"

// nodesNow is the place behind the last change of a node.
func nodesNow(ctx context.Context, reg registry.Registry) (registry.Cursor, error) {
	for ch, err := range reg.Watch(ctx, registry.Query{Type: noType}, registry.Start) {
		if err != nil {
			return "", err
		}
		if ch.Kind == registry.Synced {
			return ch.Cursor, nil
		}
	}
	return "", errors.Join(ctx.Err(), fmt.Errorf("%w: the registry does not say where it stands", registry.ErrUnavailable))
}

// begin is the place at which a stream begins: the given one, or now.
func (s *server) begin(ctx context.Context, f EventFilter, cursor string) (p place, err error) {
	if cursor != "" {
		p, err = parsePlace(cursor)
		if err == nil && (f.Nodes && p.Nodes == "" || f.Jobs && p.Jobs == "") {
			err = errors.New("it is of a stream that showed less: begin without one")
		}
		if err != nil {
			return p, &registry.InvalidError{Field: "cursor", Reason: err.Error()}
		}
	}
	if !f.Nodes {
		p.Nodes = ""
	}
	if !f.Jobs {
		p.Jobs = ""
	}
	if f.Nodes && p.Nodes == "" {
		if p.Nodes, err = nodesNow(ctx, s.m.Registry); err != nil {
			return p, err
		}
	}
	if f.Jobs && p.Jobs == "" {
		w, ok := s.m.Scheduler.(scheduler.Watcher)
		if !ok {
			return p, s.unsupported("events")
		}
		p.Jobs, err = w.Cursor(ctx)
	}
	return p, err
}
