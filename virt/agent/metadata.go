package agent

import (
	"context"
	"maps"

	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt/mistify"
)

// patchMetadata changes a guest's metadata.
func (a *Agent) patchMetadata(ctx context.Context, id string, patch mistify.MetadataPatch) (map[string]string, error) {
	leave, err := a.locks.enter(ctx, id)
	if err != nil {
		return nil, err
	}
	defer leave()
	known := a.store.guest(id)
	if known == nil {
		return nil, notFound("there is no guest %s", id)
	}
	c := &change{}
	if c.fence, err = a.fenced(id, trail.From(ctx).Token); err != nil {
		return nil, err
	}
	g, err := known.decode()
	if err != nil {
		return nil, err
	}
	if g.Metadata, err = patch.Apply(g.Metadata); err != nil {
		return nil, err
	}
	if c.put, err = newGuest(g); err != nil {
		return nil, err
	}
	for _, st := range a.store.waiting(id) {
		if st.Guest == nil {
			continue
		}
		next := *st // it will make the guest what it was given
		next.Guest = st.Guest.Clone()
		if next.Guest.Metadata, err = patch.Apply(st.Guest.Metadata); err != nil {
			return nil, err
		}
		c.jobs = append(c.jobs, &next)
	}
	return g.Metadata, a.store.do(ctx, c)
}

// patchHost changes the host's metadata.
func (a *Agent) patchHost(ctx context.Context, patch mistify.MetadataPatch) (map[string]string, error) {
	leave, err := a.locks.enter(ctx, hostQueue)
	if err != nil {
		return nil, err
	}
	defer leave()
	meta, err := patch.Apply(a.store.metadata())
	if err != nil {
		return nil, err
	}
	return meta, a.store.do(ctx, &change{meta: meta})
}

// merge applies to stored metadata what a stage changed: somebody may have
// changed others of them while it ran.
func merge(stored, before, after map[string]string) map[string]string {
	if maps.Equal(before, after) {
		return stored
	}
	out := maps.Clone(stored)
	if out == nil {
		out = map[string]string{}
	}
	for k := range before {
		if _, still := after[k]; !still {
			delete(out, k)
		}
	}
	for k, v := range after {
		if old, was := before[k]; !was || old != v {
			out[k] = v
		}
	}
	return out
}
