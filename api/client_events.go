package api

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/url"
	"strings"
)

// maxEvent bounds the lines of an event that a client reads.
const maxEvent = 16 << 20

// Events yields changes of nodes and jobs as they happen: those behind the
// cursor or, if it is empty, those from now on. The first event is EventBegin,
// and what is asked of the cluster after it misses no change.
//
// It ends silently with ctx, and otherwise with an error: resume with the
// cursor of the last event. After one in which errors.Is finds
// registry.ErrCompacted changes were lost: begin without a cursor, and list.
func (c *Client) Events(ctx context.Context, cursor string, f EventFilter) iter.Seq2[Event, error] {
	v := url.Values{}
	for name, text := range map[string]string{"cursor": cursor, "type": f.Type, "queue": f.Queue, "action": f.Action, "package": f.Package, "job": f.Job} {
		if text != "" {
			v.Set(name, text)
		}
	}
	for name, on := range map[string]bool{"nodes": f.Nodes, "jobs": f.Jobs} {
		if on {
			v.Set(name, "true")
		}
	}
	return func(yield func(Event, error) bool) {
		body, err := c.open(ctx, "GET", "/v1/events?"+v.Encode(), nil)
		if err == nil {
			defer func() { _ = body.Close() }()
			lines := bufio.NewScanner(body)
			lines.Buffer(nil, maxEvent)
			for err == nil {
				var e Event
				if e, err = readEvent(lines); err == nil && !yield(e, nil) {
					return
				}
			}
		}
		if ctx.Err() == nil {
			yield(Event{}, err)
		}
	}
}

// readEvent reads up to the end of the next event.
func readEvent(lines *bufio.Scanner) (e Event, err error) {
	var data []byte
	for size := 0; lines.Scan(); {
		line := lines.Text()
		if size += len(line); size > maxEvent {
			return e, errors.New("the server sent an event of endless length")
		}
		name, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case line == "" && e.Type == "":
			size, data, e = 0, nil, Event{}
			continue
		case line == "":
			return e, e.decode(data)
		case name == "id":
			e.Cursor = value
		case name == "event":
			e.Type = value
		case name == "data":
			data = append(data, value...)
		}
	}
	err = lines.Err()
	if err == nil {
		err = io.ErrUnexpectedEOF
	}
	return e, fmt.Errorf("the stream of events was cut off: %w", err)
}

// decode reads the data of an event. One of a type that is not known is left as
// it is: it has a cursor all the same.
func (e *Event) decode(data []byte) error {
	var into any
	switch e.Type {
	case EventBegin:
		e.Begun = new(Begun)
		into = e.Begun
	case EventNode:
		e.Node = new(NodeEvent)
		into = e.Node
	case EventJob:
		into = &e.Job
	case EventGone, EventEnd:
		p := Problem{Code: Internal}
		if err := json.Unmarshal(data, &p); err != nil {
			return fmt.Errorf("cannot read why the stream of events ends: %w", err)
		}
		return &Error{Problem: p, Status: statusOf(p.Code)}
	default:
		return nil
	}
	if err := json.Unmarshal(data, into); err != nil {
		return fmt.Errorf("cannot read an event of type %s: %w", e.Type, err)
	}
	if e.Type == EventNode && e.Node.Node == nil || e.Type == EventJob && e.Job == nil {
		return errNoNode
	}
	return nil
}
