package registrytest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"math/rand"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/vagoth/vagoth/internal/testlong"
	"github.com/vagoth/vagoth/registry"
)

// raceWords is what the clients of a history fight for, as IDs, names, keys and
// parents at once.
func raceWords() []string { return []string{"v", "w", "x", "y", "z"} }

// call is one operation of a history.
type call struct {
	kind string // create, put, delete, get, name, key, list, children
	step step
	word string
}

// answer is what came back.
type answer struct {
	class string // "", or the error's class
	text  string // what was read
}

func class(err error) string {
	for _, c := range []error{registry.ErrUnknownOutcome, registry.ErrUnavailable, registry.ErrNotFound, registry.ErrConflict, registry.ErrInvalid} {
		if errors.Is(err, c) {
			return c.Error()
		}
	}
	if err != nil {
		return "broken: " + err.Error()
	}
	return ""
}

func randomCall(rnd *rand.Rand) call {
	word := func() string { w := raceWords(); return w[rnd.Intn(len(w))] }
	maybe := func() string {
		if rnd.Intn(2) == 0 {
			return ""
		}
		return word()
	}
	kinds := []string{"create", "create", "put", "put", "delete", "get", "name", "key", "list", "children"}
	c := call{kind: kinds[rnd.Intn(len(kinds))], word: word()}
	c.step.kind = c.kind
	c.step.draft = registry.Draft{ID: c.word, Name: word(), Type: "vm", Parent: maybe()}
	if k := maybe(); k != "" {
		c.step.draft.Keys = []string{k}
	}
	if c.kind == "put" {
		c.step.edit = []string{"name", "keys", "parent", "parent"}[rnd.Intn(4)]
		c.step.from = registry.Is(maybe())
		if c.step.edit != "parent" {
			c.step.from = nil
		}
	}
	return c
}

// do makes the call against r.
func (c call) do(ctx context.Context, r registry.Registry) answer {
	switch c.kind {
	case "create":
		_, err := registry.Create(ctx, r, c.step.draft)
		return answer{class: class(err)}
	case "put":
		var opts []registry.WriteOption
		if c.step.from != nil {
			opts = append(opts, registry.MovingFrom(*c.step.from))
		}
		_, err := registry.Modify(ctx, r, c.word, func(d *registry.Draft) error {
			c.change(d)
			return nil
		}, opts...)
		return answer{class: class(err)}
	case "delete":
		return answer{class: class(registry.Delete(ctx, r, c.word))}
	}
	v, err := r.View(ctx, registry.Consistent())
	if err != nil {
		return answer{class: class(err)}
	}
	switch c.kind {
	case "get", "name", "key":
		look := map[string]func(string) (*registry.Node, error){"get": v.Get, "name": v.ByName, "key": v.ByKey}[c.kind]
		n, err := look(c.word)
		if err != nil {
			return answer{class: class(err)}
		}
		return answer{text: n.ID()}
	case "children":
		kids, err := v.Children(c.word)
		return answer{class: class(err), text: fmt.Sprint(idsOf(kids.Nodes))}
	default:
		var drafts []registry.Draft
		for n, err := range v.List(registry.Query{}) {
			if err != nil {
				return answer{class: class(err)}
			}
			drafts = append(drafts, n.Draft())
		}
		return answer{text: encode(drafts)}
	}
}

func (c call) change(d *registry.Draft) {
	switch c.step.edit {
	case "name":
		d.Name = c.step.draft.Name
	case "keys":
		d.Keys = slices.Clone(c.step.draft.Keys)
	case "parent":
		d.Parent = c.step.draft.Parent
	}
}

// encode makes drafts comparable.
func encode(drafts []registry.Draft) string {
	for i := range drafts {
		if len(drafts[i].Tags) == 0 {
			drafts[i].Tags = nil
		}
	}
	b, err := json.Marshal(drafts)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (m *model) encode() string {
	var drafts []registry.Draft
	for _, id := range m.ids() {
		drafts = append(drafts, m.nodes[id].draft)
	}
	return encode(drafts)
}

// model makes the call against the model, and reports whether a can be the
// answer.
func (c call) model(m *model, a answer) (bool, *model) {
	next := m
	var p problems
	switch c.kind {
	case "create":
		next = m.clone()
		p = next.create(c.step.draft, 0)
	case "put":
		n, ok := m.nodes[c.word]
		if !ok {
			return a.class == registry.ErrNotFound.Error(), m
		}
		next = m.clone()
		d := n.draft.Clone()
		c.change(&d)
		p = next.put(d, registry.WriteOptions{From: c.step.from})
	case "delete":
		next = m.clone()
		p = next.delete(c.word)
	case "get", "name", "key":
		find := map[string]func(string) (string, bool){
			"get":  func(id string) (string, bool) { _, ok := m.nodes[id]; return id, ok },
			"name": m.byName, "key": m.byKey,
		}[c.kind]
		id, ok := find(c.word)
		if !ok {
			return a.class == registry.ErrNotFound.Error(), m
		}
		return a == answer{text: id}, m
	case "children":
		return a == answer{text: fmt.Sprint(m.children(c.word))}, m
	default:
		return a == answer{text: m.encode()}, m
	}
	if a.class == "" {
		return len(p) == 0, next
	}
	return slices.ContainsFunc(p, func(e error) bool { return e.Error() == a.class }), m
}

// snap is a state of the model with its text, by which states are compared.
type snap struct {
	m    *model
	text string
}

// linearizable is the registry as porcupine sees it. A call of unknown outcome
// has two next states.
func linearizable() porcupine.Model {
	return (&porcupine.NondeterministicModel{
		Init: func() []any { return []any{snap{newModel(), ""}} },
		Step: func(state, input, output any) []any {
			s, c, a := state.(snap), input.(call), output.(answer)
			next := []any{}
			if a.class == registry.ErrUnknownOutcome.Error() {
				next, a = append(next, s), answer{}
			}
			if ok, m := c.model(s.m, a); ok && m == s.m {
				next = append(next, s)
			} else if ok {
				next = append(next, snap{m, m.encode()})
			}
			return next
		},
		Equal: func(a, b any) bool { return a.(snap).text == b.(snap).text },
		Hash: func(s any) uint64 {
			h := fnv.New64a()
			_, _ = h.Write([]byte(s.(snap).text))
			return h.Sum64()
		},
		DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v: %+v", input, output) },
	}).ToModel()
}

// testLinearizable lets 8 clients race for 5 words and asks porcupine whether
// some order of the calls explains every answer.
func testLinearizable(t *testing.T, open Open) {
	RunHistories(t, Histories{Rounds: testlong.Count(t, 100), Clients: 8, Calls: 40, Open: func(t *testing.T) []registry.Registry {
		return []registry.Registry{open(t)}
	}})
}

// Histories are races of clients for five words, of each of which porcupine is
// asked whether some order of the calls explains every answer.
type Histories struct {
	Rounds  int
	Clients int
	Calls   int // of each client
	// Open opens handles of one empty store, among which the clients are shared out.
	// RunHistories closes them.
	Open func(t *testing.T) []registry.Registry
	// Disturb makes trouble for the store while a round runs, until ctx ends. nil
	// makes none. With it calls may fail with ErrUnavailable or ErrUnknownOutcome.
	Disturb func(ctx context.Context, rnd *rand.Rand)
}

// RunHistories runs them.
func RunHistories(t *testing.T, h Histories) {
	seed := testlong.Seed(t)
	lost, unknown, all := 0, 0, 0
	for round := range h.Rounds {
		rs := h.Open(t)
		disturbing, calm := context.WithCancel(t.Context())
		var trouble, clients sync.WaitGroup
		if h.Disturb != nil {
			trouble.Go(func() { h.Disturb(disturbing, rand.New(rand.NewSource(seed-int64(round)))) }) //nolint:gosec // a test's choices
		}
		var mu sync.Mutex
		var history []porcupine.Operation
		begin := time.Now()
		for client := range h.Clients {
			rnd := rand.New(rand.NewSource(seed + int64(round*h.Clients+client))) //nolint:gosec // a test's choices
			clients.Go(func() {
				for range h.Calls {
					c := randomCall(rnd)
					op := porcupine.Operation{ClientId: client, Input: c, Call: int64(time.Since(begin))}
					a := c.do(t.Context(), rs[client%len(rs)])
					op.Output, op.Return = a, int64(time.Since(begin))
					mu.Lock()
					all++
					switch {
					case h.Disturb != nil && a.class == registry.ErrUnavailable.Error():
						lost++ // nothing was done, and nothing said
					case a.class == registry.ErrUnknownOutcome.Error():
						unknown++
						op.Return = math.MaxInt64 // it may still happen
						op.ClientId = h.Clients + len(history)
						history = append(history, op)
					default:
						history = append(history, op)
					}
					mu.Unlock()
				}
			})
		}
		clients.Wait()
		calm()
		trouble.Wait()
		for _, r := range rs {
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
		}
		switch result, info := porcupine.CheckOperationsVerbose(linearizable(), history, time.Minute); result {
		case porcupine.Ok:
		case porcupine.Unknown:
			t.Logf("round %d: no verdict within a minute", round)
		default:
			path := t.ArtifactDir() + "/history.html"
			if err := porcupine.VisualizePath(linearizable(), info, path); err != nil {
				t.Log(err)
			}
			t.Fatalf("round %d: no order of the calls explains the answers", round)
		}
	}
	t.Logf("%d calls, of which %d were refused as the store was away, and of %d the outcome is not known", all, lost, unknown)
	if lost+unknown > all/2 {
		t.Errorf("%d of %d calls came to nothing: that shows little", lost+unknown, all)
	}
}
