package mistify

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
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

// PutImage makes an image on the host of what is read from content, in any form in
// which images are fetched there, and returns it when it is there. Of the request
// the size, in bytes, and the sha256 are what content must have; neither need be
// known. Content is closed, by the end of ctx too, which must wake who reads it. An
// agent without our additions is a
// virt.ErrUnsupported. An addition.
func (c *Client) PutImage(ctx context.Context, r ImageRequest, content io.ReadCloser) (i Image, err error) {
	defer func() { _ = content.Close() }()
	defer context.AfterFunc(ctx, func() { _ = content.Close() })() // the transport waits for who reads it
	query := url.Values{}
	if r.Size > 0 {
		query.Set("size", strconv.FormatUint(r.Size, 10))
	}
	if r.SHA256 != "" {
		query.Set("sha256", r.SHA256)
	}
	to := path("images", r.ID, "content")
	if len(query) > 0 {
		to += "?" + query.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, c.base+to, content)
	if err != nil {
		return i, fmt.Errorf("%w request PUT %.200q: %w", virt.ErrInvalid, to, err)
	}
	req.Header.Set("Content-Type", octets)
	resp, err := c.send(req, to)
	if errors.Is(err, virt.ErrNotFound) {
		err = fmt.Errorf("%w: the agent takes no images: %w", virt.ErrUnsupported, unmarked{err})
	}
	if err != nil {
		return i, err
	}
	defer func() { _ = resp.Body.Close() }()
	_, err = answerOf(ctx, http.MethodPut, to, resp, &i)
	return i, err
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
