package cli

import (
	"context"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/scheduler"
)

// follower is a command that shows how jobs change.
type follower interface {
	// look asks for what has changed, and reports whether it has seen enough.
	look(ctx context.Context, client *api.Client) (bool, error)
	// take is told of a change by the daemon, and reports the same.
	take(ctx context.Context, client *api.Client, st scheduler.Status) (bool, error)
	// tick is called now and then; it reports whether to look, since something
	// changes of which the daemon does not tell.
	tick() (bool, error)
}

// How changes are followed.
const (
	followAll = 5 * time.Second // between two looks, however much is told: not every reason to wait is a change
	followBuf = 1024            // changes that wait to be shown
)

// follow goes on until it has seen enough. Where a daemon tells of changes it
// listens; elsewhere it looks again and again, with the cluster opened afresh
// each time, so that others can work on the jobs.
func (a *app) follow(cmd *cobra.Command, every time.Duration, filter api.EventFilter, f follower) error {
	return a.again(cmd, every, func(ctx context.Context, client *api.Client) (bool, error) {
		if !a.daemon() {
			return f.look(ctx, client)
		}
		return listen(ctx, client, every, filter, f)
	})
}

// listen is told of changes by the daemon until it has seen enough, or there is
// nothing more to hear: then it has to begin again, with a look at everything.
func listen(ctx context.Context, client *api.Client, every time.Duration, filter api.EventFilter, f follower) (enough bool, err error) {
	listening, cancel := context.WithCancel(ctx)
	events := make(chan api.Event, followBuf)
	var reader sync.WaitGroup
	reader.Go(func() {
		defer close(events)
		for e, err := range client.Events(listening, "", filter) {
			if err != nil {
				return // what it is, a look tells as well
			}
			select {
			case events <- e:
			case <-listening.Done():
				return
			}
		}
	})
	defer func() { cancel(); reader.Wait() }()
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for begun, looked := false, time.Now(); ; {
		look := false
		select {
		case e, open := <-events:
			switch {
			case !open && begun:
				return false, ctx.Err()
			case !open || e.Type == api.EventBegin:
				if begun, look = open, true; !open {
					return f.look(ctx, client) // this daemon tells of nothing: it is asked again and again
				}
			case e.Type == api.EventJob:
				enough, err = f.take(ctx, client, *e.Job)
			}
		case <-ticker.C:
			if look, err = f.tick(); time.Since(looked) > followAll {
				look = true
			}
		}
		if look && err == nil {
			enough, err = f.look(ctx, client)
			looked = time.Now()
		}
		if err != nil || enough {
			return enough, err
		}
	}
}
