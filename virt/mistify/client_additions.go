package mistify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/vagoth/vagoth/internal/duplex"
	"github.com/vagoth/vagoth/virt"
)

// GuestStatus looks at one guest: the listing has it if it is on the host. An
// agent without our additions is a virt.ErrUnsupported. An addition.
func (c *Client) GuestStatus(ctx context.Context, id string) (s Status, err error) {
	_, err = c.call(ctx, http.MethodGet, PathStatus+"?id="+url.QueryEscape(id), nil, &s)
	if errors.Is(err, virt.ErrNotFound) {
		err = fmt.Errorf("%w: the agent has no live listing: %w", virt.ErrUnsupported, unmarked{err})
	}
	return s, err
}

// ProvisionGuest makes the disks of a guest that are not there yet, whether the
// agent knows it or not. An addition.
func (c *Client) ProvisionGuest(ctx context.Context, g Guest) (job string, err error) {
	job, err = c.call(ctx, http.MethodPost, path("guests", g.ID, ActionProvision), &g, nil)
	return job, named(job, err)
}

// Console attaches to a guest's serial console: what is read is what it prints, what
// is written is typed, until it is closed, ctx ends, or the guest does. An addition.
func (c *Client) Console(ctx context.Context, id string) (io.ReadWriteCloser, error) {
	return duplex.Open(ctx, func(ctx context.Context, body io.Reader) (*http.Response, error) {
		return c.open(ctx, http.MethodPost, path("guests", id, ActionConsole), body)
	})
}

// DeprovisionGuest wipes the disks that were made for a guest, whether the agent
// knows it or not. An addition.
func (c *Client) DeprovisionGuest(ctx context.Context, g Guest) (job string, err error) {
	job, err = c.call(ctx, http.MethodPost, path("guests", g.ID, ActionDeprovision), &g, nil)
	return job, named(job, err)
}

// MigrateGuest moves a guest that runs to another host. An addition.
func (c *Client) MigrateGuest(ctx context.Context, id string, r MigrateRequest) (job string, err error) {
	job, err = c.call(ctx, http.MethodPost, path("guests", id, ActionMigrate), r, nil)
	return job, named(job, err)
}

// Settle makes the token in the trail the highest that the agent has seen for a
// guest, and waits up to the time given for the end of what was queued for it
// before. An agent without our additions is a virt.ErrUnsupported. An addition.
func (c *Client) Settle(ctx context.Context, id string, wait time.Duration) (s Settled, err error) {
	_, err = c.call(ctx, http.MethodPut, path("v1", "guests", id, "fence")+"?wait="+url.QueryEscape(wait.String()), nil, &s)
	if errors.Is(err, virt.ErrNotFound) {
		err = fmt.Errorf("%w: the agent settles nothing: %w", virt.ErrUnsupported, unmarked{err})
	}
	return s, err
}
