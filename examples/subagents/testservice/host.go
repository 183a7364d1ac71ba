package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// host is what the sub-agent remembers.
type host struct {
	delay time.Duration
	size  int64

	mu     sync.Mutex
	record io.Writer // nil if calls are not recorded
	guests map[string]mistify.Guest
	counts map[string]int

	images    images
	snapshots snapshots
}

// most bounds guests, images and snapshots, each.
const most = 20_000

func newHost(delay time.Duration, size int64) *host {
	h := &host{delay: delay, size: size, guests: map[string]mistify.Guest{}, counts: map[string]int{}}
	h.images.known = map[string]mistify.Image{}
	for _, i := range []mistify.Image{
		{ID: "289120e4-ed12-431d-8d18-48f8a94bb05a", Size: 1024, Status: "complete"},
		{ID: "busybox", Type: mistify.TypeContainer, Size: 4, Status: "complete"},
	} {
		h.images.known[i.Type+" "+i.ID] = i
	}
	return h
}

// put remembers a guest, or forgets it.
func (h *host) put(g *mistify.Guest, forget bool) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if forget {
		delete(h.guests, g.ID)
		return nil
	}
	if len(h.guests) >= most {
		if _, known := h.guests[g.ID]; !known {
			return fmt.Errorf("%w guests: there are %d", mistify.ErrTooMany, most)
		}
	}
	h.guests[g.ID] = *g.Clone()
	return nil
}

// once counts how often it was called with key.
func (h *host) once(key string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.counts) >= most {
		clear(h.counts)
	}
	h.counts[key]++
	return h.counts[key]
}

// images are those of virtual machines and of containers.
type images struct {
	mu    sync.Mutex
	known map[string]mistify.Image // by type and id
}

func (i *images) list(kind string) imageMethod {
	return func(context.Context, *mistify.ImageRequest) (*mistify.ImageResponse, error) {
		i.mu.Lock()
		defer i.mu.Unlock()
		out := &mistify.ImageResponse{Images: []mistify.Image{}}
		for _, image := range i.known {
			if image.Type == kind {
				out.Images = append(out.Images, image)
			}
		}
		slices.SortFunc(out.Images, func(a, b mistify.Image) int { return strings.Compare(a.ID, b.ID) })
		return out, nil
	}
}

func (i *images) get(kind string) imageMethod {
	return func(_ context.Context, r *mistify.ImageRequest) (*mistify.ImageResponse, error) {
		i.mu.Lock()
		defer i.mu.Unlock()
		out := &mistify.ImageResponse{Images: []mistify.Image{}}
		if image, ok := i.known[kind+" "+r.ID]; ok {
			out.Images = append(out.Images, image)
		}
		return out, nil
	}
}

func (i *images) remove(kind string) imageMethod {
	return func(_ context.Context, r *mistify.ImageRequest) (*mistify.ImageResponse, error) {
		i.mu.Lock()
		defer i.mu.Unlock()
		image, ok := i.known[kind+" "+r.ID]
		if !ok {
			return nil, fmt.Errorf("the image %.100q: %w", r.ID, virt.ErrNotFound)
		}
		delete(i.known, kind+" "+r.ID)
		return &mistify.ImageResponse{Images: []mistify.Image{image}}, nil
	}
}

func (i *images) fetch(kind string) imageMethod {
	return func(_ context.Context, r *mistify.ImageRequest) (*mistify.ImageResponse, error) {
		if err := mistify.CheckImageID(kind, r.ID); err != nil {
			return nil, err
		}
		i.mu.Lock()
		defer i.mu.Unlock()
		if len(i.known) >= most {
			return nil, fmt.Errorf("%w images: there are %d", mistify.ErrTooMany, most)
		}
		image := mistify.Image{ID: r.ID, Type: kind, Size: 1024, Status: "complete"}
		i.known[kind+" "+r.ID] = image
		return &mistify.ImageResponse{Images: []mistify.Image{image}}, nil
	}
}

// snapshots are kept by their ids, oldest first.
type snapshots struct {
	mu    sync.Mutex
	known []string
}

type snapshotOp func(s *snapshots, id mistify.SnapshotID, r *mistify.SnapshotRequest) ([]string, error)

// do returns a method that does op. Its answers have the pool in front of the
// ids, as those of Mistify.
func (s *snapshots) do(op snapshotOp) snapshotMethod {
	return func(_ context.Context, r *mistify.SnapshotRequest) (*mistify.SnapshotResponse, error) {
		id, err := mistify.ParseSnapshotID(r.ID)
		if err != nil {
			return nil, err
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		ids, err := op(s, id, r)
		if err != nil {
			return nil, err
		}
		out := &mistify.SnapshotResponse{Snapshots: []mistify.Snapshot{}}
		for _, id := range ids {
			out.Snapshots = append(out.Snapshots, mistify.Snapshot{ID: "mistify/" + id, Size: 1024})
		}
		return out, nil
	}
}

func (s *snapshots) has(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.known, id)
}

func list(s *snapshots, id mistify.SnapshotID, _ *mistify.SnapshotRequest) (ids []string, _ error) {
	for _, known := range s.known {
		if strings.HasPrefix(known, id.String()+"@") || id.Disk == "" && strings.HasPrefix(known, id.String()+"/") {
			ids = append(ids, known)
		}
	}
	return ids, nil
}

func get(s *snapshots, id mistify.SnapshotID, _ *mistify.SnapshotRequest) ([]string, error) {
	if !slices.Contains(s.known, id.String()) {
		return nil, fmt.Errorf("the snapshot %s: %w", id, virt.ErrNotFound)
	}
	return []string{id.String()}, nil
}

func create(s *snapshots, id mistify.SnapshotID, r *mistify.SnapshotRequest) ([]string, error) {
	if err := mistify.CheckSnapshotName(r.Dest); err != nil {
		return nil, err
	}
	if id.Name = r.Dest; slices.Contains(s.known, id.String()) {
		return nil, fmt.Errorf("%w: the snapshot %s exists", virt.ErrConflict, id)
	}
	if len(s.known) >= most {
		return nil, fmt.Errorf("%w snapshots: there are %d", mistify.ErrTooMany, most)
	}
	s.known = append(s.known, id.String())
	return []string{id.String()}, nil
}

func remove(s *snapshots, id mistify.SnapshotID, r *mistify.SnapshotRequest) ([]string, error) {
	ids, err := get(s, id, r)
	if err == nil {
		s.known = slices.DeleteFunc(s.known, func(known string) bool { return known == ids[0] })
	}
	return ids, err
}

func rollback(s *snapshots, id mistify.SnapshotID, r *mistify.SnapshotRequest) ([]string, error) {
	ids, err := get(s, id, r)
	if err != nil {
		return nil, err
	}
	of := id
	of.Name = ""
	passed, newer := false, 0
	kept := slices.DeleteFunc(slices.Clone(s.known), func(known string) bool {
		passed = passed || known == ids[0]
		drop := passed && known != ids[0] && strings.HasPrefix(known, of.String()+"@")
		if drop {
			newer++
		}
		return drop
	})
	if newer > 0 && !r.DestroyMoreRecent {
		return nil, fmt.Errorf("%w: there are %d snapshots newer than %s: destroyMoreRecent removes them", virt.ErrConflict, newer, id)
	}
	s.known = kept
	return ids, nil
}
