package api

import (
	"context"
	"io"
	"net/http"
	"net/url"

	"github.com/vagoth/vagoth/internal/duplex"
	"github.com/vagoth/vagoth/virt"
)

// Disks lists a VM's disks, and those that were detached from it.
func (c *Client) Disks(ctx context.Context, ref string) (d Disks, err error) {
	return d, c.call(ctx, "GET", nodePath(ref, "disks"), nil, &d)
}

// GuestMetrics reads a VM's counters, from its host, now.
func (c *Client) GuestMetrics(ctx context.Context, ref string) (m virt.Metrics, err error) {
	return m, c.call(ctx, "GET", nodePath(ref, "metrics"), nil, &m)
}

// Snapshots lists a VM's snapshots, oldest first.
func (c *Client) Snapshots(ctx context.Context, ref string) (list []virt.Snapshot, err error) {
	return list, c.call(ctx, "GET", nodePath(ref, "snapshots"), nil, &list)
}

// Snapshot looks at one snapshot.
func (c *Client) Snapshot(ctx context.Context, ref, name string) (s virt.Snapshot, err error) {
	return s, c.call(ctx, "GET", nodePath(ref, "snapshots", name), nil, &s)
}

// DownloadSnapshot opens what a VM's disk held: that with this device, volume or
// number, or the first. Whoever gets a stream closes it; ctx lives as long.
func (c *Client) DownloadSnapshot(ctx context.Context, ref, name, disk string) (*virt.Stream, error) {
	path := nodePath(ref, "snapshots", name, "download")
	if disk != "" && path != "" {
		path += "?disk=" + url.QueryEscape(disk)
	}
	resp, err := c.respond(ctx, http.MethodGet, path, nil) //nolint:bodyclose // whoever reads the stream closes it
	if err != nil {
		return nil, err
	}
	return &virt.Stream{ReadCloser: resp.Body, ContentType: resp.Header.Get("Content-Type"), Format: resp.Header.Get(HeaderFormat), Length: resp.ContentLength}, nil
}

// Images lists a hypervisor's images.
func (c *Client) Images(ctx context.Context, ref string) (list []virt.Image, err error) {
	return list, c.call(ctx, "GET", nodePath(ref, "images"), nil, &list)
}

// Image looks at one image of a hypervisor.
func (c *Client) Image(ctx context.Context, ref, id string) (i virt.Image, err error) {
	return i, c.call(ctx, "GET", nodePath(ref, "images", id), nil, &i)
}

// Probe asks a host that need not be a node yet what it has.
func (c *Client) Probe(ctx context.Context, req ProbeRequest) (has virt.Capacity, err error) {
	return has, c.call(ctx, "POST", "/v1/probe", req, &has)
}

// Console attaches to a VM's serial console: what is read is what the guest
// prints, what is written is typed. It ends when it is closed, with ctx, or when
// the guest stops, which reads as io.EOF.
func (c *Client) Console(ctx context.Context, ref string) (io.ReadWriteCloser, error) {
	return duplex.Open(ctx, func(ctx context.Context, body io.Reader) (*http.Response, error) {
		return c.respond(ctx, http.MethodPost, nodePath(ref, "console"), body)
	})
}
