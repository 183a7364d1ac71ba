package api

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/virt"
)

func (s *server) patchNode(c *gin.Context) {
	_, n, ok := s.node(c)
	var p Patch
	if !ok || !s.body(c, &p, MaxBody) || p.Force && !s.may(c, admin, "force") {
		return
	}
	if err := p.condition(c.GetHeader("If-Match")); err != nil {
		s.fail(c, err)
		return
	}
	change := s.modify
	if p.Definition != nil {
		change = s.redefine
	}
	changed, err := change(c, n.ID(), p)
	s.answerNode(c, changed, err)
}

// condition takes the revision of the header If-Match, as ETag wrote it.
func (p *Patch) condition(header string) error {
	if header == "" {
		return nil
	}
	text, err := strconv.Unquote(header)
	var rev uint64
	if err == nil {
		rev, err = strconv.ParseUint(text, 10, 64)
	}
	switch {
	case err != nil || rev == 0:
		return &registry.InvalidError{Field: "If-Match", Reason: fmt.Sprintf("%.32q is no revision: send the ETag of the node back", header)}
	case p.Revision != 0 && p.Revision != rev:
		return &registry.InvalidError{Field: "If-Match", Reason: fmt.Sprintf("it names revision %d and the body %d: give one", rev, p.Revision)}
	}
	p.Revision = rev
	return nil
}

// modify changes all of a node that is not its definition.
func (s *server) modify(c *gin.Context, id string, p Patch) (n *registry.Node, err error) {
	err = s.m.Registry.Update(c.Request.Context(), func(tx registry.Tx) error {
		old, err := tx.Get(id)
		if err != nil {
			return err
		}
		if p.Revision != 0 && old.Revision() != p.Revision {
			return fmt.Errorf("%w: node %s has revision %d by now and not %d: read it again", registry.ErrConflict, id, old.Revision(), p.Revision)
		}
		if err := p.check(old, s.m.Types[old.Type()]); err != nil {
			return err
		}
		n, err = registry.ModifyIn(tx, id, p.apply)
		return err
	})
	return n, err
}

// check refuses what other parts of vagoth rely on.
func (p Patch) check(old *registry.Node, class provisioner.Class) error {
	if !p.Force {
		if err := checkOwn(old.ID(), old.Type(), p.Metadata); err != nil {
			return err
		}
	}
	if len(p.Release) == 0 || class.Keys == nil {
		return nil
	}
	derived, err := class.Keys(old.ID(), old.Definition())
	if err != nil {
		return err
	}
	for _, k := range p.Release {
		if slices.Contains(derived, k) {
			return &registry.InvalidError{ID: old.ID(), Field: "release", Reason: fmt.Sprintf("%q follows from its definition: change that", k)}
		}
	}
	return nil
}

// checkOwn refuses to write metadata in which vagoth keeps what it has seen or
// done, such as where a VM's disks are.
func checkOwn(id, typ string, metadata map[string]any) error {
	own := map[string][]string{
		virt.TypeVM:         {virt.MetaDisksOn, virt.MetaEvidence, virt.MetaUUID, virt.MetaAlarm, virt.MetaMigrate, virt.MetaLeft, virt.MetaDetached, virt.MetaSnapshotting},
		virt.TypeHypervisor: {virt.MetaEvidence, virt.MetaMaintenance, virt.MetaConfirmed, virt.MetaStrangers, virt.MetaSeen},
	}[typ]
	for _, k := range slices.Sorted(maps.Keys(metadata)) {
		if slices.Contains(own, k) {
			return &registry.InvalidError{ID: id, Field: "metadata", Reason: fmt.Sprintf("vagoth itself keeps %q there: change it only with force", k)}
		}
	}
	return nil
}

// redefine merges a patch into the definition.
func (s *server) redefine(c *gin.Context, id string, p Patch) (*registry.Node, error) {
	if p.Revision != 0 {
		return nil, &registry.InvalidError{ID: id, Field: "revision", Reason: "it cannot be expected of a change of the definition"}
	}
	if p.Name != nil || p.Tenant != nil || len(p.Tags)+len(p.Metadata)+len(p.Claim)+len(p.Release) > 0 {
		return nil, &registry.InvalidError{ID: id, Field: "definition", Reason: "it is changed in a request of its own: send the rest in another"}
	}
	ctx := c.Request.Context()
	select { // of two patches at once the second is merged into the result of the first
	case s.defining <- struct{}{}:
		defer func() { <-s.defining }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	n, err := registry.Get(ctx, s.m.Registry, id)
	if err != nil {
		return nil, err
	}
	m, err := n.Definition().Map()
	if err != nil {
		return nil, err
	}
	merge(m, p.Definition)
	doc, err := registry.NewDocument(m)
	if err != nil {
		if errors.Is(err, registry.ErrTooLarge) {
			return nil, err
		}
		return nil, &registry.InvalidError{ID: id, Field: "definition", Reason: err.Error()}
	}
	if err := s.checkDriver(n.Type(), doc); err != nil {
		return nil, err
	}
	return s.m.Provisioner.Redefine(ctx, id, doc, p.Force)
}

// merge applies a merge patch as RFC 7396 describes it.
func merge(into, patch map[string]any) {
	for k, v := range patch {
		sub, isObject := v.(map[string]any)
		switch {
		case v == nil:
			delete(into, k)
		case isObject:
			old, _ := into[k].(map[string]any)
			if old == nil {
				old = map[string]any{}
			}
			merge(old, sub)
			into[k] = old
		default:
			into[k] = v
		}
	}
}

func (p Patch) apply(d *registry.Draft) error {
	if p.Name != nil {
		d.Name = *p.Name
	}
	if p.Tenant != nil {
		d.Tenant = *p.Tenant
	}
	for k, v := range p.Tags {
		if v == nil {
			delete(d.Tags, k)
			continue
		}
		if d.Tags == nil {
			d.Tags = map[string]string{}
		}
		d.Tags[k] = *v
	}
	set, remove := map[string]any{}, []string{}
	for k, v := range p.Metadata {
		if v == nil {
			remove = append(remove, k)
		} else {
			set[k] = v
		}
	}
	if len(p.Metadata) > 0 {
		doc, err := d.Metadata.Merge(set, remove...)
		if err != nil {
			return err
		}
		d.Metadata = doc
	}
	d.Keys = slices.DeleteFunc(d.Keys, func(k string) bool { return slices.Contains(p.Release, k) })
	d.Keys = append(d.Keys, p.Claim...)
	return nil
}
