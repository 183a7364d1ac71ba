package mistify

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"github.com/vagoth/vagoth/virt"
)

// Metadata returns the host's metadata.
func (c *Client) Metadata(ctx context.Context) (m map[string]string, err error) {
	_, err = c.call(ctx, http.MethodGet, "/metadata", nil, &m)
	return m, err
}

// PatchMetadata changes the host's metadata and returns all of it.
func (c *Client) PatchMetadata(ctx context.Context, p MetadataPatch) (m map[string]string, err error) {
	_, err = c.call(ctx, http.MethodPatch, "/metadata", p, &m)
	return m, err
}

// Status lists what is on the host now. An agent without our additions is a
// virt.ErrUnsupported.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	_, err = c.call(ctx, http.MethodGet, "/v1/status", nil, &s)
	if errors.Is(err, virt.ErrNotFound) {
		err = fmt.Errorf("%w: the agent has no live listing: %w", virt.ErrUnsupported, unmarked{err})
	}
	return s, err
}

// unmarked is an error that is told, but not for what it is.
type unmarked struct{ error }

// Images lists images: all of them, or those of a type.
func (c *Client) Images(ctx context.Context, imageType string) (list []Image, err error) {
	query := ""
	if imageType != "" {
		query = "?type=" + url.QueryEscape(imageType)
	}
	_, err = c.call(ctx, http.MethodGet, "/images"+query, nil, &list)
	return list, err
}

// Image looks at one image.
func (c *Client) Image(ctx context.Context, id string) (i Image, err error) {
	_, err = c.call(ctx, http.MethodGet, path("images", id), nil, &i)
	return i, err
}

// FetchImage gets an image onto the host.
func (c *Client) FetchImage(ctx context.Context, r ImageRequest) (job string, err error) {
	job, err = c.call(ctx, http.MethodPost, "/images", r, nil)
	return job, named(job, err)
}

// DeleteImage removes an image.
func (c *Client) DeleteImage(ctx context.Context, id string) (job string, err error) {
	job, err = c.call(ctx, http.MethodDelete, path("images", id), nil, nil)
	return job, named(job, err)
}

// ContainerImages lists the images of containers, by the older path.
func (c *Client) ContainerImages(ctx context.Context) (list []Image, err error) {
	_, err = c.call(ctx, http.MethodGet, "/container_images", nil, &list)
	return list, err
}

// ContainerImage looks at one image of containers.
func (c *Client) ContainerImage(ctx context.Context, id string) (i Image, err error) {
	_, err = c.call(ctx, http.MethodGet, path("container_images", id), nil, &i)
	return i, err
}

// FetchContainerImage gets an image of containers onto the host.
func (c *Client) FetchContainerImage(ctx context.Context, r ImageRequest) (job string, err error) {
	job, err = c.call(ctx, http.MethodPost, "/container_images", r, nil)
	return job, named(job, err)
}

// DeleteContainerImage removes an image of containers.
func (c *Client) DeleteContainerImage(ctx context.Context, id string) (job string, err error) {
	job, err = c.call(ctx, http.MethodDelete, path("container_images", id), nil, nil)
	return job, named(job, err)
}

// Jobs lists the newest jobs, newest first, at most limit (0: as many as the
// agent gives).
func (c *Client) Jobs(ctx context.Context, limit int) (list []Job, err error) {
	_, err = c.call(ctx, http.MethodGet, "/jobs"+limitQuery(limit), nil, &list)
	return list, err
}

// GuestJobs lists the newest jobs of a guest.
func (c *Client) GuestJobs(ctx context.Context, guest string, limit int) (list []Job, err error) {
	_, err = c.call(ctx, http.MethodGet, path("guests", guest, "jobs")+limitQuery(limit), nil, &list)
	return list, err
}

// Job looks at one job.
func (c *Client) Job(ctx context.Context, id string) (j Job, err error) {
	_, err = c.call(ctx, http.MethodGet, path("jobs", id), nil, &j)
	return j, err
}

// GuestJob looks at one job of a guest.
func (c *Client) GuestJob(ctx context.Context, guest, id string) (j Job, err error) {
	_, err = c.call(ctx, http.MethodGet, path("guests", guest, "jobs", id), nil, &j)
	return j, err
}

// WaitJob waits for the end of a job. The agent holds each request until then,
// at most 30 seconds; one that answers at once, as Mistify's own does, is asked
// again after a second.
func (c *Client) WaitJob(ctx context.Context, id string) (j Job, err error) {
	for {
		asked := time.Now()
		j = Job{}
		if _, err = c.call(ctx, http.MethodGet, path("jobs", id)+"?wait="+poll.String(), nil, &j); err != nil || j.Status.Ended() {
			return j, err
		}
		if time.Since(asked) < time.Second {
			if err := pause(ctx, time.Second); err != nil {
				return j, err
			}
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// Err returns nil if the job is done, and its error if it failed.
func (j Job) Err() error {
	if j.Status != JobError {
		return nil
	}
	return &JobFailure{Job: j}
}

// JobFailure is a job that ended as JobError. It is the error of its kind.
type JobFailure struct{ Job Job }

func (e *JobFailure) Error() string {
	return fmt.Sprintf("the agent's job %s (%s) failed: %s", e.Job.ID, e.Job.Action, oneLine(e.Job.Message))
}

func (e *JobFailure) Unwrap() error { return e.Job.Kind.Err() }
