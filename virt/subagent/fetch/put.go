package fetch

import (
	"context"
	"fmt"
	"io"

	"github.com/vagoth/vagoth/virt"
)

// Put takes content as an item, whose URL is "", with all bounds and checks of a
// download, and lets finish make something of it, or with no finish renames it to
// its name. It is of one call only: while anything else of that name is under way
// it is a virt.ErrConflict at once. Content whose reading fails is never whole. It
// is closed by the end of ctx, which must wake who reads it, and when Put returns.
//
// That the config wants a sum does not count here: it is for what a URL names,
// which can be anybody's by then, and who sends content has it.
func (f *Fetcher) Put(ctx context.Context, item Item, content io.ReadCloser, finish Finish) error {
	defer func() { _ = content.Close() }()
	item, err := f.check(item)
	if err == nil && item.URL != "" {
		err = fmt.Errorf("%w: what is sent as %s has a source too", virt.ErrInvalid, item.Name)
	}
	if err != nil {
		return err
	}
	one, err := f.beginPut(ctx, &flight{item: item, content: content}, finish)
	if err != nil {
		return err
	}
	<-one.ended // ctx ends it
	return one.err
}

func (f *Fetcher) beginPut(ctx context.Context, one *flight, finish Finish) (*flight, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case f.closed:
		return nil, fmt.Errorf("cannot take what was sent as %s: %w", one.item.Name, errClosed)
	case f.flights[one.item.Name] != nil:
		return nil, taken(one.item.Name)
	}
	return f.begin(ctx, one, finish), nil
}

// open opens what a flight is of: content, which the end of ctx closes, or the
// answer to a request.
func (f *Fetcher) open(ctx context.Context, one *flight) (body io.ReadCloser, done func(), err error) {
	if one.content == nil {
		body, err = f.ask(ctx, one)
		return body, func() {}, err
	}
	if one.item.Size > 0 {
		one.total.Store(one.item.Size)
	}
	stop := context.AfterFunc(ctx, func() { _ = one.content.Close() })
	return one.content, func() { stop() }, nil
}
