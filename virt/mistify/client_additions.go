package mistify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"

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

// DeprovisionGuest wipes the disks that were made for a guest, whether the agent
// knows it or not. An addition.
func (c *Client) DeprovisionGuest(ctx context.Context, g Guest) (job string, err error) {
	job, err = c.call(ctx, http.MethodPost, path("guests", g.ID, ActionDeprovision), &g, nil)
	return job, named(job, err)
}
