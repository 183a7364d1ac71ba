package agent

import (
	"context"
	"errors"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// images asks for images of one type, or of both if kind is "". Of a type for
// which nothing is configured there are none; but something must be.
func (a *Agent) images(ctx context.Context, kind, base string, req mistify.ImageRequest) ([]mistify.Image, error) {
	kinds := []string{kind}
	if kind == "" {
		kinds = []string{"", mistify.TypeContainer}
	}
	images := []mistify.Image{}
	asked := false
	var missing, refused error
	for _, k := range kinds {
		p, err := a.pipeline(k, base)
		if err != nil {
			missing = err
			continue
		}
		if kind == "" && k == "" && mistify.CheckImageID(k, req.ID) != nil && req.ID != "" {
			continue // the name of a container's image
		}
		asked = true
		err = a.ask(ctx, hostQueue, p, func(ctx context.Context, at step) error {
			var one mistify.ImageResponse
			if err := at.service.call(ctx, a.cfg.InfoTimeout, at.Method, &req, &one); err != nil {
				return err
			}
			for _, i := range one.Images {
				if i.Type == "" {
					i.Type = k
				}
				images = append(images, i)
			}
			return nil
		})
		switch {
		case err == nil || errors.Is(err, virt.ErrNotFound):
		case kind == "" && errors.Is(err, virt.ErrInvalid):
			refused = err // no name for images of this type, and perhaps one for the other
		default:
			return nil, err
		}
	}
	if !asked {
		return nil, missing
	}
	if len(images) == 0 && refused != nil {
		return nil, refused
	}
	return images, nil
}

// typeOf is the type that is asked for: that of the path, or that of ?type=.
func (s *server) typeOf(c *gin.Context, kind string) (string, bool) {
	if kind != "" {
		return kind, true
	}
	kind = c.Query("type")
	if err := mistify.CheckType(kind); err != nil {
		s.fail(c, err)
		return "", false
	}
	return kind, true
}

func (s *server) listImages(kind string) gin.HandlerFunc {
	return func(c *gin.Context) {
		kind, ok := s.typeOf(c, kind)
		if !ok {
			return
		}
		within(c, 4*s.a.cfg.InfoTimeout)
		images, err := s.a.images(c.Request.Context(), kind, "listImages", mistify.ImageRequest{Type: kind})
		s.answer(c, images, err)
	}
}

// image finds the image in the path, or an answer was given.
func (s *server) image(c *gin.Context, kind string) (mistify.Image, bool) {
	id := param(c, "image")
	if err := mistify.CheckImageID(mistify.TypeContainer, id); err != nil {
		s.fail(c, err)
		return mistify.Image{}, false
	}
	within(c, 4*s.a.cfg.InfoTimeout)
	images, err := s.a.images(c.Request.Context(), kind, "getImage", mistify.ImageRequest{ID: id, Type: kind})
	if err == nil && len(images) == 0 {
		err = notFound("there is no image %s", id)
	}
	if err != nil {
		s.fail(c, err)
		return mistify.Image{}, false
	}
	if len(images) > 1 {
		s.a.log.Warn("agent: several images have one id, the first is taken", "image", id, "images", len(images))
	}
	return images[0], true
}

func (s *server) getImage(kind string) gin.HandlerFunc {
	return func(c *gin.Context) {
		if i, ok := s.image(c, kind); ok {
			s.write(c, http.StatusOK, i)
		}
	}
}

// deleteImage first looks which type the image is of, and so what deletes it.
func (s *server) deleteImage(kind string) gin.HandlerFunc {
	return func(c *gin.Context) {
		i, ok := s.image(c, kind)
		if !ok {
			return
		}
		req := &mistify.ImageRequest{ID: param(c, "image"), Type: i.Type}
		s.orderImage(c, order{action: "deleteImage", kind: i.Type, image: req}, struct{}{})
	}
}

func (s *server) fetchImage(kind string) gin.HandlerFunc {
	return func(c *gin.Context) {
		req := &mistify.ImageRequest{}
		if !s.body(c, req) {
			return
		}
		if kind != "" {
			req.Type = kind
		}
		err := mistify.CheckType(req.Type)
		if err == nil && req.ID == "" {
			err = invalid("missing id: say which image to fetch")
		}
		if err == nil {
			err = mistify.CheckImageID(req.Type, req.ID)
		}
		if err != nil {
			s.fail(c, err)
			return
		}
		s.orderImage(c, order{action: "fetchImage", kind: req.Type, image: req}, mistify.ImageResponse{Images: []mistify.Image{}})
	}
}

// orderImage queues an action of an image and answers what Mistify does.
func (s *server) orderImage(c *gin.Context, o order, answer any) {
	st, _, err := s.a.submit(c.Request.Context(), o)
	if err != nil {
		s.fail(c, err)
		return
	}
	c.Header(mistify.HeaderJob, st.ID)
	s.write(c, http.StatusAccepted, answer)
}
