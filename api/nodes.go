package api

import (
	"fmt"
	"maps"
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

// queryNames are the parameters of GET /v1/nodes.
func queryNames() []string {
	return []string{"name", "type", "state", "tenant", "parent", "key", "tag", "after", "limit"}
}

// ParseQuery reads what QueryValues wrote. A parameter that it does not know is
// refused, and so is an empty one where that would select everything.
func ParseQuery(v url.Values) (q registry.Query, err error) {
	for _, name := range slices.Sorted(maps.Keys(v)) {
		if len(v[name]) == 0 {
			continue
		}
		text := v[name][0]
		if len(v[name]) > 1 && name != "tag" {
			return q, &registry.InvalidError{Field: name, Reason: "it is given twice"}
		}
		if text == "" && name != "parent" {
			return q, &registry.InvalidError{Field: name, Reason: "it is empty: leave it out, or give a value"}
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
		case "limit":
			q.Limit, err = parseLimit(text)
		case "tag":
			q.Tags, err = parseTags(v[name])
		default:
			err = unknownParameter(name, queryNames())
		}
		if err != nil {
			return q, err
		}
	}
	return q, q.Validate()
}

func parseLimit(text string) (int, error) {
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 {
		return 0, &registry.InvalidError{Field: "limit", Reason: fmt.Sprintf("%.32q is not a number above 0", text)}
	}
	return n, nil
}

func parseTags(list []string) (map[string]*string, error) {
	tags := map[string]*string{}
	for _, t := range list {
		k, val, set := strings.Cut(t, "=")
		if err := registry.CheckTag(k, val); err != nil {
			return nil, &registry.InvalidError{Field: "tag", Reason: err.Error()}
		}
		if _, twice := tags[k]; twice {
			return nil, &registry.InvalidError{Field: "tag", Reason: fmt.Sprintf("%q is given twice", k)}
		}
		tags[k] = nil
		if set {
			tags[k] = &val
		}
	}
	return tags, nil
}

func (s *server) listNodes(c *gin.Context) {
	q, err := ParseQuery(c.Request.URL.Query())
	if err != nil {
		s.fail(c, err)
		return
	}
	r, err := s.m.Registry.View(c.Request.Context())
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
	page, err := s.page(r, q)
	s.answer(c, page, err)
}

// page takes as many nodes as the query or, if that is less, a page holds.
func (s *server) page(r registry.Reader, q registry.Query) (Page, error) {
	if q.Limit == 0 {
		q.Limit = PageSize
	}
	want, size := min(q.Limit, MaxPage), 0
	q.Limit = want + 1 // one more tells whether there is another page
	page := Page{Items: []Item{}}
	for n, err := range r.List(q) {
		if err != nil {
			return page, err
		}
		if len(page.Items) == want || size > MaxPageBytes {
			page.Next = page.Items[len(page.Items)-1].Node.ID()
			break
		}
		size += 2048 + n.Definition().Len() + n.Metadata().Len()
		page.Items = append(page.Items, s.item(r, n))
	}
	return page, nil
}

func (s *server) getNode(c *gin.Context) {
	if r, n, ok := s.node(c); ok {
		c.Header("ETag", etag(n))
		s.answer(c, s.item(r, n), nil)
	}
}

// item adds to a node what its type shows.
func (s *server) item(r registry.Reader, n *registry.Node) Item {
	it := Item{Node: virt.Shown(n)}
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
	if !s.body(c, &req, MaxBody) {
		return
	}
	ctx := c.Request.Context()
	err := s.checkDriver(req.Type, req.Definition)
	if err == nil {
		var m map[string]any
		if m, err = req.Metadata.Map(); err == nil {
			err = checkOwn(req.ID, req.Type, m)
		}
	}
	if err != nil {
		s.fail(c, err)
		return
	}
	if req.DryRun {
		d, err := s.m.Provisioner.Plan(ctx, req.Spec)
		d.Definition = virt.ShownDefinition(d.Definition)
		s.answer(c, Created{Draft: &d}, err)
		return
	}
	n, err := s.m.Provisioner.Provision(ctx, req.Spec)
	s.answer(c, Created{Node: virt.Shown(n)}, err)
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

func (s *server) deleteNode(c *gin.Context) {
	if _, n, ok := s.node(c); ok {
		s.answer(c, n, s.m.Provisioner.Deprovision(c.Request.Context(), n.ID()))
	}
}
