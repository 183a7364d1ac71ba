package mistify

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
)

// Guests lists all guests.
func (c *Client) Guests(ctx context.Context) (list []Guest, err error) {
	_, err = c.call(ctx, http.MethodGet, "/guests", nil, &list)
	return list, err
}

// Guest returns one guest.
func (c *Client) Guest(ctx context.Context, id string) (g Guest, err error) {
	_, err = c.call(ctx, http.MethodGet, path("guests", id), nil, &g)
	return g, err
}

// CreateGuest creates a guest, whose id is made if it is empty. The job does it.
func (c *Client) CreateGuest(ctx context.Context, g Guest) (made Guest, job string, err error) {
	job, err = c.call(ctx, http.MethodPost, "/guests", &g, &made)
	return made, job, named(job, err)
}

// DefineGuest makes a guest known to the host as it is given, one that the agent
// knows already too. An addition.
func (c *Client) DefineGuest(ctx context.Context, g Guest) (made Guest, job string, err error) {
	job, err = c.call(ctx, http.MethodPost, path("guests", g.ID, "define"), &g, &made)
	return made, job, named(job, err)
}

// DeleteGuest removes a guest and its disks.
func (c *Client) DeleteGuest(ctx context.Context, id string) (job string, err error) {
	job, err = c.call(ctx, http.MethodDelete, path("guests", id), nil, nil)
	return job, named(job, err)
}

// Act asks for an action of a guest: shutdown, reboot, restart, poweroff, start,
// suspend, delete, and our additions define, undefine and resume.
func (c *Client) Act(ctx context.Context, id, action string) (g Guest, job string, err error) {
	job, err = c.call(ctx, http.MethodPost, path("guests", id, action), nil, &g)
	return g, job, named(job, err)
}

func named(job string, err error) error {
	if err == nil && job == "" {
		return errNoJob
	}
	return err
}

// GuestMetadata returns a guest's metadata.
func (c *Client) GuestMetadata(ctx context.Context, id string) (m map[string]string, err error) {
	_, err = c.call(ctx, http.MethodGet, path("guests", id, "metadata"), nil, &m)
	return m, err
}

// PatchGuestMetadata changes a guest's metadata and returns all of it.
func (c *Client) PatchGuestMetadata(ctx context.Context, id string, p MetadataPatch) (m map[string]string, err error) {
	_, err = c.call(ctx, http.MethodPatch, path("guests", id, "metadata"), p, &m)
	return m, err
}

// CPUMetrics measures a guest's CPUs.
func (c *Client) CPUMetrics(ctx context.Context, id string) (m []CPUMetrics, err error) {
	_, err = c.call(ctx, http.MethodGet, path("guests", id, "metrics", MetricsCPU), nil, &m)
	return m, err
}

// DiskMetrics measures a guest's disks, by their names.
func (c *Client) DiskMetrics(ctx context.Context, id string) (m map[string]DiskMetrics, err error) {
	_, err = c.call(ctx, http.MethodGet, path("guests", id, "metrics", MetricsDisk), nil, &m)
	return m, err
}

// NICMetrics measures a guest's network interfaces, by their names.
func (c *Client) NICMetrics(ctx context.Context, id string) (m map[string]NICMetrics, err error) {
	_, err = c.call(ctx, http.MethodGet, path("guests", id, "metrics", MetricsNIC), nil, &m)
	return m, err
}

// ResetFence makes the agent forget the highest token that it has seen for a
// guest. An addition.
func (c *Client) ResetFence(ctx context.Context, id string) error {
	_, err := c.call(ctx, http.MethodDelete, path("v1", "guests", id, "fence"), nil, nil)
	return err
}

// snapshots is the path of a guest's snapshots, or of one of its disks'.
func snapshots(s SnapshotID, more ...string) string {
	words := []string{"guests", s.Guest}
	if s.Disk != "" {
		words = append(words, "disks", s.Disk)
	}
	words = append(words, "snapshots")
	if s.Name != "" {
		words = append(words, s.Name)
	}
	return path(append(words, more...)...)
}

// Snapshots lists the snapshots of a guest, or of its disk if s names one.
func (c *Client) Snapshots(ctx context.Context, s SnapshotID) (list []Snapshot, err error) {
	s.Name = ""
	_, err = c.call(ctx, http.MethodGet, snapshots(s), nil, &list)
	return list, err
}

// Snapshot looks at one snapshot: of each disk, if s names none.
func (c *Client) Snapshot(ctx context.Context, s SnapshotID) (list []Snapshot, err error) {
	if err := hasName(s); err != nil {
		return nil, err
	}
	_, err = c.call(ctx, http.MethodGet, snapshots(s), nil, &list)
	return list, err
}

// CreateSnapshot makes a snapshot. If s has no name the agent makes one.
func (c *Client) CreateSnapshot(ctx context.Context, s SnapshotID) (job string, err error) {
	request := SnapshotRequest{Dest: s.Name, Recursive: s.Disk == ""}
	s.Name = ""
	job, err = c.call(ctx, http.MethodPost, snapshots(s), request, nil)
	return job, named(job, err)
}

// DeleteSnapshot removes a snapshot.
func (c *Client) DeleteSnapshot(ctx context.Context, s SnapshotID) (job string, err error) {
	if err := hasName(s); err != nil {
		return "", err
	}
	job, err = c.call(ctx, http.MethodDelete, snapshots(s), nil, nil)
	return job, named(job, err)
}

// Rollback puts a guest's disks, or one, back to a snapshot. Newer snapshots are
// in its way, unless they may be destroyed.
func (c *Client) Rollback(ctx context.Context, s SnapshotID, destroyMoreRecent bool) (job string, err error) {
	if err := hasName(s); err != nil {
		return "", err
	}
	job, err = c.call(ctx, http.MethodPost, snapshots(s, "rollback"), SnapshotRequest{DestroyMoreRecent: destroyMoreRecent}, nil)
	return job, named(job, err)
}

// DownloadSnapshot copies a snapshot out. ctx lives as long as the stream.
func (c *Client) DownloadSnapshot(ctx context.Context, s SnapshotID) (*Download, error) {
	return c.DownloadPart(ctx, s, "", "")
}

// DownloadPart is DownloadSnapshot of only what changed since the snapshot called
// from, or of the rest of a stream, whose receiver has the token resume. It is for
// agents whose snapshots are in a ZFS pool. An addition.
func (c *Client) DownloadPart(ctx context.Context, s SnapshotID, from, resume string) (*Download, error) {
	if err := hasName(s); err != nil {
		return nil, err
	}
	path := snapshots(s, "download")
	query := url.Values{}
	for key, value := range map[string]string{"from": from, "resume": resume} {
		if value != "" {
			query.Set(key, value)
		}
	}
	if len(query) > 0 {
		path += "?" + query.Encode()
	}
	resp, err := c.open(ctx, http.MethodGet, path, nil) //nolint:bodyclose // it is the download, closed by its reader
	if err != nil {
		return nil, err
	}
	return &Download{ReadCloser: resp.Body, ContentType: resp.Header.Get("Content-Type"), Length: resp.ContentLength}, nil
}

func hasName(s SnapshotID) error {
	if s.Name == "" {
		return fmt.Errorf("which snapshot of %s: %w", s, CheckSnapshotName(""))
	}
	return nil
}
