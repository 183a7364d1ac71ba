package docker

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/moby/moby/api/types/image"
	moby "github.com/moby/moby/client"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/store"
)

// wire is an image as the wire has it.
func wire(id string, size int64) mistify.Image {
	return mistify.Image{ID: id, Type: mistify.TypeContainer, Size: store.Megabytes(size), Status: store.Complete}
}

func one(i mistify.Image) *mistify.ImageResponse {
	return &mistify.ImageResponse{Images: []mistify.Image{i}}
}

// inspect looks at an image of dockerd.
func (d *Docker) inspect(ctx context.Context, r reference) (*image.InspectResponse, error) {
	what := "look at the image " + r.String()
	got, err := quick(ctx, d, what, func(ctx context.Context, c *moby.Client) (moby.ImageInspectResult, error) {
		return c.ImageInspect(ctx, r.String())
	})
	if errors.Is(err, virt.ErrNotFound) {
		return nil, store.NoImage(r.String())
	}
	if err != nil {
		return nil, err
	}
	if !sumWord.MatchString(got.ID) {
		return nil, nonsense(what, "its id is %.80q", got.ID)
	}
	return &got.InspectResponse, nil
}

// ListImages lists the images by all of their names, those that are coming too,
// each in its shortest form, as people type it. One that has no name is called by
// its sum.
func (d *Docker) ListImages(ctx context.Context, _ *mistify.ImageRequest) (*mistify.ImageResponse, error) {
	got, err := quick(ctx, d, "list the images", func(ctx context.Context, c *moby.Client) (moby.ImageListResult, error) {
		return c.ImageList(ctx, moby.ImageListOptions{})
	})
	if err != nil {
		return nil, err
	}
	out := &mistify.ImageResponse{Images: []mistify.Image{}}
	for _, i := range got.Items {
		for _, name := range namesOf(i) {
			if mistify.CheckImageID(mistify.TypeContainer, name) == nil {
				out.Images = append(out.Images, wire(name, i.Size))
			}
		}
		if len(out.Images) > virt.MaxImages {
			return nil, nonsense("list the images", "there are more than %d", virt.MaxImages)
		}
	}
	there := map[string]bool{}
	for _, i := range out.Images {
		if r, err := parseReference(i.ID); err == nil {
			there[r.String()] = true
		}
	}
	for name, p := range d.coming.all(d.fetched) {
		if !there[name] {
			out.Images = append(out.Images, p)
		}
	}
	out.Images = sorted(out.Images)
	return out, nil
}

func namesOf(i image.Summary) (names []string) {
	for _, all := range [][]string{i.RepoTags, i.RepoDigests, {i.ID}} {
		for _, name := range all {
			if !strings.Contains(name, untagged) {
				names = append(names, strings.TrimSuffix(name, ":"+latest))
			}
		}
		if len(names) > 0 {
			break
		}
	}
	return names
}

// GetImage looks at one image, under the name that is asked for.
func (d *Docker) GetImage(ctx context.Context, r *mistify.ImageRequest) (*mistify.ImageResponse, error) {
	ref, err := parseReference(r.ID)
	if err != nil {
		return nil, err
	}
	i, err := d.inspect(ctx, ref)
	if errors.Is(err, virt.ErrNotFound) {
		if p, ok := d.coming.get(ref.String(), d.fetched); ok {
			p.ID = r.ID
			return one(p), nil
		}
	}
	if err != nil {
		return nil, err
	}
	return one(wire(r.ID, i.Size)), nil
}

// FetchImage gets an image and returns when it is there: from the registry that its
// name says, or where the request has a source, as an archive of `docker save` from
// that URL, under the name that is asked for. One that is there from the same
// source, or with the same sum, stays.
func (d *Docker) FetchImage(ctx context.Context, r *mistify.ImageRequest) (*mistify.ImageResponse, error) {
	ref, err := d.checkFetch(r)
	if err != nil {
		return nil, err
	}
	release, err := d.locks.Hold(ctx, "image "+ref.String())
	if err != nil {
		return nil, fmt.Errorf("the image %s is being fetched: %w", r.ID, err)
	}
	defer release()
	i, err := d.inspect(ctx, ref)
	if err == nil {
		if err := d.same(ref, r, i.ID); err != nil {
			return nil, err
		}
		return one(wire(r.ID, i.Size)), nil
	}
	if !errors.Is(err, virt.ErrNotFound) {
		return nil, err
	}
	defer d.coming.begin(ref.String(), r)()
	if r.Source == "" {
		err = d.pull(ctx, ref)
	} else {
		err = d.load(ctx, ref, r)
	}
	if err != nil {
		return nil, err
	}
	if i, err = d.inspect(ctx, ref); err != nil {
		return nil, err
	}
	if r.Source != "" {
		if err := d.note(ref, record{Source: store.Hashed(r.Source), SHA256: d.coming.sum(ref.String()), Image: i.ID}); err != nil {
			return nil, err
		}
	}
	return one(wire(r.ID, i.Size)), nil
}

func (d *Docker) checkFetch(r *mistify.ImageRequest) (reference, error) {
	ref, err := parseReference(r.ID)
	if err != nil {
		return ref, err
	}
	switch {
	case r.Type != "" && r.Type != mistify.TypeContainer:
		return ref, fmt.Errorf("%w: only images of containers are kept here", virt.ErrUnsupported)
	case !ref.named():
		return ref, fmt.Errorf("%w: an image is fetched by its name, and %s is a sum", virt.ErrInvalid, r.ID)
	case r.Source != "" && ref.sum != "":
		return ref, fmt.Errorf("%w: what comes from a URL cannot be given the name %s: leave the sum out, and give the archive's as sha256", virt.ErrInvalid, r.ID)
	case r.Size > 1<<62:
		return ref, fmt.Errorf("%w: the image %s would have %d bytes", virt.ErrInvalid, r.ID, r.Size)
	case r.Source == "" && (r.Size != 0 || r.SHA256 != ""):
		return ref, fmt.Errorf("%w: size and sha256 are those of an archive from a URL: of what a registry has, give the sum in the name, %s@sha256:SUM", virt.ErrInvalid, r.ID)
	case r.Source == "" && d.o.Fetch.RequireSum && ref.sum == "":
		return ref, fmt.Errorf("%w: the config wants a sum (fetch_require_sum): give it in the name, %s@sha256:SUM", virt.ErrInvalid, r.ID)
	case r.Source == "" && !d.allowed(ref.host):
		return ref, fmt.Errorf("%w: the config does not have %s among the registries that images are pulled from", virt.ErrInvalid, ref.host)
	}
	return ref, nil
}

func (d *Docker) allowed(host string) bool {
	for _, known := range d.o.Registries {
		if strings.EqualFold(known, host) {
			return true
		}
	}
	return len(d.o.Registries) == 0
}

// DeleteImage removes an image, or the name of one that has others. One that a
// container is made of stays.
func (d *Docker) DeleteImage(ctx context.Context, r *mistify.ImageRequest) (*mistify.ImageResponse, error) {
	ref, err := parseReference(r.ID)
	if err != nil {
		return nil, err
	}
	release, err := d.locks.Hold(ctx, "image "+ref.String())
	if err != nil {
		return nil, fmt.Errorf("the image %s is being fetched: %w", r.ID, err)
	}
	defer release()
	i, err := d.inspect(ctx, ref)
	if err != nil {
		return nil, err
	}
	err = d.do(ctx, "remove the image "+ref.String(), d.o.TransferTimeout, func(ctx context.Context, c *moby.Client) error {
		_, err := c.ImageRemove(ctx, ref.String(), moby.ImageRemoveOptions{PruneChildren: true})
		return err
	})
	if err != nil {
		return nil, err
	}
	return one(wire(r.ID, i.Size)), d.unnote(ref)
}

// coming are the images that are being fetched, by their whole names.
type coming struct {
	mu  sync.Mutex
	now map[string]*arrival
}

type arrival struct {
	id          string // as it was asked for
	source      bool
	done, total int64
	sum         string
}

func (c *coming) begin(name string, r *mistify.ImageRequest) (end func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.now == nil {
		c.now = map[string]*arrival{}
	}
	c.now[name] = &arrival{id: r.ID, source: r.Source != ""}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.now, name)
	}
}

// change changes what is known of one.
func (c *coming) change(name string, do func(*arrival)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if a := c.now[name]; a != nil {
		do(a)
	}
}

func (c *coming) sum(name string) (sum string) {
	c.change(name, func(a *arrival) { sum = a.sum })
	return sum
}

// get is one that is coming. fetched says how far a download is.
func (c *coming) get(name string, fetched func(string) (done, total int64)) (mistify.Image, bool) {
	c.mu.Lock()
	a := c.now[name]
	if a == nil {
		c.mu.Unlock()
		return mistify.Image{}, false
	}
	is := *a
	c.mu.Unlock()
	if is.source {
		is.done, is.total = fetched(name)
	}
	return mistify.Image{ID: is.id, Type: mistify.TypeContainer, Status: store.Pending, Fetched: is.done, Total: is.total}, true
}

func (c *coming) all(fetched func(string) (done, total int64)) map[string]mistify.Image {
	c.mu.Lock()
	names := make([]string, 0, len(c.now))
	for name := range c.now {
		names = append(names, name)
	}
	c.mu.Unlock()
	list := map[string]mistify.Image{}
	for _, name := range names {
		if p, ok := c.get(name, fetched); ok {
			list[name] = p
		}
	}
	return list
}
