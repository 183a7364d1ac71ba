package mistify

import (
	"context"
	"net/http"
)

// SaveRequest makes an image of what a container has written. Its answer is an
// ImageResponse with that image. It is an addition, as is all of this file.
type SaveRequest struct {
	ID   string            `json:"id"`             // of the guest
	Dest string            `json:"dest"`           // what the image is to be called; a name is taken once
	Job  string            `json:"job,omitempty"`  // for which it is made: who asks again for the same one gets the image that is there
	Args map[string]string `json:"args,omitempty"` // of the stage
}

// SaveGuest makes an image of what a container has written, called dest. A guest of
// another type is a virt.ErrUnsupported.
func (c *Client) SaveGuest(ctx context.Context, id, dest string) (job string, err error) {
	job, err = c.call(ctx, http.MethodPost, path("guests", id, ActionSave), SaveRequest{ID: id, Dest: dest}, nil)
	return job, named(job, err)
}
