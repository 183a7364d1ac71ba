package api

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/virt"
)

// QueryValues writes q as the parameters of GET /v1/nodes.
func QueryValues(q registry.Query) url.Values {
	v := url.Values{}
	for name, text := range map[string]string{"name": q.Name, "type": q.Type, "state": q.State, "tenant": q.Tenant, "key": q.Key, "after": q.After} {
		if text != "" {
			v.Set(name, text)
		}
	}
	if q.Parent != nil {
		v.Set("parent", *q.Parent)
	}
	for _, k := range slices.Sorted(maps.Keys(q.Tags)) {
		if val := q.Tags[k]; val != nil {
			k += "=" + *val
		}
		v.Add("tag", k)
	}
	if q.Limit > 0 {
		v.Set("limit", strconv.Itoa(q.Limit))
	}
	return v
}

// ParseQuery reads what QueryValues wrote. A parameter that it does not know is
// refused.
func ParseQuery(v url.Values) (q registry.Query, err error) {
	for name, vals := range v {
		text := vals[0]
		if len(vals) > 1 && name != "tag" {
			return q, &registry.InvalidError{Field: name, Reason: "it is given twice"}
		}
		switch name {
		case "name":
			q.Name = text
		case "type":
			q.Type = text
		case "state":
			q.State = text
		case "tenant":
			q.Tenant = text
		case "key":
			q.Key = text
		case "after":
			q.After = text
		case "parent":
			q.Parent = &text
		case "consistent":
		case "limit":
			if q.Limit, err = strconv.Atoi(text); err != nil {
				return q, &registry.InvalidError{Field: name, Reason: fmt.Sprintf("%q is not a number", text)}
			}
		case "tag":
			q.Tags = map[string]*string{}
			for _, t := range vals {
				k, val, set := strings.Cut(t, "=")
				q.Tags[k] = nil
				if set {
					q.Tags[k] = &val
				}
			}
		default:
			return q, &registry.InvalidError{Field: name, Reason: "there is no such parameter: use name, type, state, tenant, parent, key, tag, after, limit or consistent"}
		}
	}
	return q, q.Validate()
}

func (s *server) listNodes(c *gin.Context) {
	q, err := ParseQuery(c.Request.URL.Query())
	if err != nil {
		s.fail(c, err)
		return
	}
	if q.Limit == 0 {
		q.Limit = PageSize
	}
	q.Limit = min(q.Limit, MaxPage)
	var opts []registry.ReadOption
	if c.Request.URL.Query().Has("consistent") {
		opts = append(opts, registry.Consistent())
	}
	r, err := s.m.Registry.View(c.Request.Context(), opts...)
	if err != nil {
		s.fail(c, err)
		return
	}
	if q.Parent != nil && *q.Parent != "" {
		p, err := registry.Find(r, *q.Parent)
		if err != nil {
			s.fail(c, err)
			return
		}
		q.Parent = registry.Is(p.ID())
	}
	page := Page{Items: []Item{}}
	want := q.Limit
	q.Limit++ // one more tells whether there is another page
	for n, err := range r.List(q) {
		if err != nil {
			s.fail(c, err)
			return
		}
		if len(page.Items) == want {
			page.Next = page.Items[want-1].Node.ID()
			break
		}
		page.Items = append(page.Items, s.item(r, n))
	}
	c.JSON(http.StatusOK, page)
}

func (s *server) getNode(c *gin.Context) {
	if r, n, ok := s.node(c); ok {
		c.JSON(http.StatusOK, s.item(r, n))
	}
}

// item adds to a node what its type shows.
func (s *server) item(r registry.Reader, n *registry.Node) Item {
	it := Item{Node: n}
	if n.Parent() != "" {
		if p, err := r.Get(n.Parent()); err == nil {
			it.ParentName = p.Name()
		}
	}
	for _, col := range s.m.Types[n.Type()].Columns {
		it.View = append(it.View, Cell{Column: col.Name, Value: col.Value(n), Wide: col.Wide})
	}
	if ev, ok := virt.EvidenceOf(n); ok {
		it.Seen = &Seen{At: ev.At, Age: max(0, s.o.Now().Sub(ev.At)), Reason: ev.Reason}
	}
	if a, ok := virt.AlarmOf(n); ok {
		it.Alarm = a.Text
	}
	return it
}

func (s *server) createNode(c *gin.Context) {
	var req CreateRequest
	if !s.body(c, &req) {
		return
	}
	ctx := c.Request.Context()
	if err := s.checkDriver(req.Type, req.Definition); err != nil {
		s.fail(c, err)
		return
	}
	if req.DryRun {
		d, err := s.m.Provisioner.Plan(ctx, req.Spec)
		s.answer(c, Created{Draft: &d}, err)
		return
	}
	n, err := s.m.Provisioner.Provision(ctx, req.Spec)
	s.answer(c, Created{Node: n}, err)
}

// checkDriver refuses a hypervisor whose driver this cluster does not have:
// nothing could ever be asked of it.
func (s *server) checkDriver(typ string, doc registry.Document) error {
	if typ != virt.TypeHypervisor {
		return nil
	}
	var d virt.HostDefinition
	if err := doc.Decode(&d); err != nil {
		return &registry.InvalidError{Field: "definition", Reason: err.Error()}
	}
	if d.Driver == "" {
		return nil // the class says that it is missing
	}
	_, err := s.m.Parts().Driver(d.Driver)
	return err
}

func (s *server) patchNode(c *gin.Context) {
	_, n, ok := s.node(c)
	var p Patch
	if !ok || !s.body(c, &p) {
		return
	}
	if p.Revision != 0 && p.Definition != nil {
		s.fail(c, &registry.InvalidError{ID: n.ID(), Field: "revision", Reason: "it cannot be expected of a change of the definition"})
		return
	}
	var changed *registry.Node
	var err error
	if p.Definition != nil {
		changed, err = s.redefine(c, n, p)
	} else {
		changed, err = registry.Modify(c.Request.Context(), s.m.Registry, n.ID(), func(d *registry.Draft) error { return p.apply(d) })
	}
	s.answer(c, changed, err)
}

func (s *server) redefine(c *gin.Context, n *registry.Node, p Patch) (*registry.Node, error) {
	if p.Name != nil || p.Tenant != nil || len(p.Tags)+len(p.Metadata)+len(p.Claim)+len(p.Release) > 0 {
		return nil, &registry.InvalidError{ID: n.ID(), Field: "definition", Reason: "it is changed in a request of its own: send the rest in another"}
	}
	m, err := n.Definition().Map()
	if err != nil {
		return nil, err
	}
	merge(m, p.Definition)
	doc, err := registry.NewDocument(m)
	if err != nil {
		return nil, err
	}
	if err := s.checkDriver(n.Type(), doc); err != nil {
		return nil, err
	}
	return s.m.Provisioner.Redefine(c.Request.Context(), n.ID(), doc, p.Force)
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

func (s *server) deleteNode(c *gin.Context) {
	if _, n, ok := s.node(c); ok {
		s.answer(c, n, s.m.Provisioner.Deprovision(c.Request.Context(), n.ID()))
	}
}

func (s *server) getBlob(c *gin.Context) {
	r, n, ok := s.node(c)
	if !ok {
		return
	}
	data, err := r.Blob(n.ID(), c.Param("key"))
	if err != nil {
		s.fail(c, err)
		return
	}
	c.Header("X-Content-Type-Options", "nosniff")
	c.Data(http.StatusOK, "application/octet-stream", data)
}

func (s *server) putBlob(c *gin.Context) {
	_, n, ok := s.node(c)
	if !ok {
		return
	}
	data, ok := s.raw(c)
	if !ok {
		return
	}
	if data == nil {
		data = []byte{}
	}
	s.writeBlob(c, n.ID(), data)
}

func (s *server) deleteBlob(c *gin.Context) {
	r, n, ok := s.node(c)
	if !ok {
		return
	}
	if _, err := r.Blob(n.ID(), c.Param("key")); err != nil {
		s.fail(c, err)
		return
	}
	s.writeBlob(c, n.ID(), nil)
}

func (s *server) writeBlob(c *gin.Context, id string, data []byte) {
	var n *registry.Node
	err := s.m.Registry.Update(c.Request.Context(), func(tx registry.Tx) (err error) {
		if err = tx.PutBlob(id, c.Param("key"), data); err == nil {
			n, err = tx.Get(id)
		}
		return err
	})
	s.answer(c, n, err)
}

func (s *server) export(c *gin.Context) {
	r, err := s.m.Registry.View(c.Request.Context())
	if err != nil {
		s.fail(c, err)
		return
	}
	c.Header("Content-Type", "application/x-ndjson")
	if err := registry.Export(c.Request.Context(), r, c.Writer); err != nil {
		// The status is out already. A body that is cut off cannot be taken for
		// a whole one, as its last line says how much there is.
		s.o.Log.Error("an export was cut off", "error", err)
		panic(http.ErrAbortHandler)
	}
}

func (s *server) importNodes(c *gin.Context) {
	dry := c.Query("dry_run") != ""
	body := http.MaxBytesReader(c.Writer, c.Request.Body, MaxImport)
	defer func() { _, _ = io.Copy(io.Discard, io.LimitReader(body, MaxBody)) }()
	n, err := registry.Import(c.Request.Context(), s.m.Registry, body, registry.ImportOptions{DryRun: dry})
	s.answer(c, ImportReport{Nodes: n, DryRun: dry}, err)
}
