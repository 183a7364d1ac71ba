package registrytest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/trail"
)

// hostile are words that no ID, name, key or tag may be.
func hostile() []string {
	return []string{
		"", " ", "../x", "-o", "--help", `"/><disk`, "a\nb", "a\x00b", "\u202egpj.exe", "a\u200bb", "a b", "a/../b", "/etc/passwd",
		"$(reboot)", "`id`", "a;b", "ä", "a\xff", "%2e%2e", "..", ".", "_x", strings.Repeat("a", 10<<10),
	}
}

func testHostile(t *testing.T, r registry.Registry) {
	create(t, r, registry.Draft{ID: "a"})
	good := registry.Draft{ID: "b", Name: "b", Type: "vm"}
	for field, set := range map[string]func(d *registry.Draft, s string){
		"id": func(d *registry.Draft, s string) { d.ID = s }, "name": func(d *registry.Draft, s string) { d.Name = s },
		"type": func(d *registry.Draft, s string) { d.Type = s }, "tenant": func(d *registry.Draft, s string) { d.Tenant = s },
		"parent": func(d *registry.Draft, s string) { d.Parent = s }, "state": func(d *registry.Draft, s string) { d.State = s },
		"key": func(d *registry.Draft, s string) { d.Keys = []string{"k", s} },
		"tag": func(d *registry.Draft, s string) { d.Tags = map[string]string{s: "x"} },
		"tag value": func(d *registry.Draft, s string) {
			if !slices.Contains([]string{"a\nb", "a\x00b", "\u202egpj.exe", "a\u200bb", "a\xff"}, s) && len(s) < 300 {
				s = "a\tb" // a value may be other text
			}
			d.Tags = map[string]string{"x": s}
		},
		"blob": nil,
	} {
		t.Run(field, func(t *testing.T) {
			for _, s := range hostile() {
				if s == "" && (field == "tenant" || field == "parent" || field == "state") {
					continue
				}
				var err error
				if set == nil {
					err = r.Update(t.Context(), func(tx registry.Tx) error { return tx.PutBlob("a", s, []byte("x")) })
				} else {
					d := good
					set(&d, s)
					_, err = registry.Create(t.Context(), r, d)
				}
				if !errors.Is(err, registry.ErrInvalid) {
					t.Fatalf("%.40q: %v, want ErrInvalid", s, err)
				}
				if msg := err.Error(); len(msg) > 1000 || strings.ContainsAny(msg, "\n\x00\u202e\u200b") {
					t.Fatalf("the message repeats the input as it is: %.200q", msg)
				}
			}
		})
	}
	for _, s := range hostile() {
		v := view(t, r)
		for what, get := range map[string]func() error{
			"get":  func() error { _, err := v.Get(s); return err },
			"name": func() error { _, err := v.ByName(s); return err },
			"key":  func() error { _, err := v.ByKey(s); return err },
			"blob": func() error { _, err := v.Blob(s, s); return err },
		} {
			err := get()
			if !errors.Is(err, registry.ErrNotFound) && !errors.Is(err, registry.ErrInvalid) {
				t.Fatalf("%s %.40q: %v", what, s, err)
			}
			if msg := err.Error(); len(msg) > 1000 || strings.ContainsAny(msg, "\n\x00\u202e\u200b") {
				t.Fatalf("%s: the message repeats the input as it is: %.200q", what, msg)
			}
		}
	}
	if nodes, err := registry.Collect(t.Context(), r, registry.Query{}); err != nil || len(nodes) != 1 || len(nodes[0].Blobs()) > 0 {
		t.Fatalf("something was written: %v, %v", nodes, err)
	}
	ctx := trail.With(t.Context(), trail.Trail{Source: "me\nroot logged in"})
	_, err := registry.Create(ctx, r, good)
	want(t, err, registry.ErrInvalid)
}

func testLimits(t *testing.T, r registry.Registry) {
	ctx := t.Context()
	create(t, r, registry.Draft{ID: "a"})
	tooLarge := func(what string, err error) {
		t.Helper()
		var limit *registry.LimitError
		if !errors.Is(err, registry.ErrTooLarge) || !errors.As(err, &limit) || limit.Got <= limit.Max {
			t.Errorf("%s: %v, want a *LimitError", what, err)
		}
	}
	keys := func(n int) (k []string) {
		for i := range n {
			k = append(k, fmt.Sprintf("key-%d", i))
		}
		return k
	}
	_, err := registry.ClaimKeys(ctx, r, "a", keys(registry.MaxKeys+1)...)
	tooLarge("keys", err)
	if _, err = registry.ClaimKeys(ctx, r, "a", keys(registry.MaxKeys)...); err != nil {
		t.Error(err)
	}
	blob := func(key string, size int) error {
		return r.Update(ctx, func(tx registry.Tx) error { return tx.PutBlob("a", key, bytes.Repeat([]byte("x"), size)) })
	}
	tooLarge("blob", blob("b", registry.MaxBlob+1))
	for i := range registry.MaxBlobs {
		size := 10
		if i == 0 {
			size = registry.MaxBlob
		}
		if err := blob(fmt.Sprint("b", i), size); err != nil {
			t.Fatal(err)
		}
	}
	tooLarge("blobs", blob("one-more", 1))
	if err := blob("b1", 20); err != nil {
		t.Errorf("a blob that is there is replaced: %v", err)
	}
	big, err := json.Marshal(map[string]string{"x": strings.Repeat("y", registry.MaxDocument-8)})
	if err != nil {
		t.Fatal(err)
	}
	doc, err := registry.ParseDocument(big)
	if err != nil {
		t.Fatal(err)
	}
	create(t, r, registry.Draft{ID: "big", Definition: doc, Metadata: doc})
	_, err = registry.UpdateMetadata(ctx, r, "big", map[string]any{"more": 1})
	tooLarge("document", err)

	many := func(n int) func(registry.Tx) error {
		return func(tx registry.Tx) error {
			for i := range n {
				id := fmt.Sprintf("m%d-%d", n, i)
				if _, err := tx.Create(registry.Draft{ID: id, Name: id, Type: "vm"}); err != nil {
					return err
				}
			}
			return nil
		}
	}
	if err := r.Update(ctx, many(registry.MaxTouched/2)); err != nil {
		t.Errorf("%d nodes in one Update: %v", registry.MaxTouched/2, err)
	}
	tooLarge("update of many nodes", r.Update(ctx, many(registry.MaxTouched+1)))
	tooLarge("update of many sets of children", r.Update(ctx, func(tx registry.Tx) error {
		for i := range registry.MaxTouched / 2 {
			id := fmt.Sprintf("below-%d", i)
			if _, err := tx.Create(registry.Draft{ID: id, Name: id, Type: "vm", Parent: fmt.Sprintf("m%d-%d", registry.MaxTouched/2, i)}); err != nil {
				return err
			}
		}
		_, err := tx.Create(registry.Draft{ID: "more", Name: "more", Type: "vm"})
		return err
	}))
	tooLarge("update of many bytes", r.Update(ctx, func(tx registry.Tx) error {
		for i := range 3 {
			if err := tx.PutBlob("a", fmt.Sprint("b", i), bytes.Repeat([]byte{byte('0' + i)}, registry.MaxBlob/2)); err != nil {
				return err
			}
		}
		return nil
	}))
	v := view(t, r)
	if _, err := v.Get(fmt.Sprintf("m%d-0", registry.MaxTouched+1)); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("an Update that was too large left a node behind: %v", err)
	}
	if data, err := v.Blob("a", "b0"); err != nil || len(data) != registry.MaxBlob {
		t.Errorf("an Update that was too large changed a blob: %d bytes, %v", len(data), err)
	}
}

func testTags(t *testing.T, r registry.Registry) {
	create(t, r, registry.Draft{ID: "a", Tags: map[string]string{"ssd": "", "rack": "1"}})
	create(t, r, registry.Draft{ID: "b", Tags: map[string]string{"ssd": "nvme", "rack": "1"}})
	create(t, r, registry.Draft{ID: "c", Tags: map[string]string{"rack": "2"}})
	for _, q := range []struct {
		tags map[string]*string
		want string
	}{
		{map[string]*string{"ssd": nil}, "[a b]"},
		{map[string]*string{"ssd": registry.Is("")}, "[a]"},
		{map[string]*string{"ssd": nil, "rack": registry.Is("1")}, "[a b]"},
		{map[string]*string{"ssd": registry.Is("nvme"), "rack": registry.Is("1")}, "[b]"},
		{map[string]*string{"ssd": nil, "rack": registry.Is("2")}, "[]"},
		{map[string]*string{"none": nil}, "[]"},
		{nil, "[a b c]"},
	} {
		nodes, err := registry.Collect(t.Context(), r, registry.Query{Tags: q.tags})
		if err != nil || fmt.Sprint(idsOf(nodes)) != q.want {
			t.Errorf("tags %v: %v, %v; want %s", q.tags, idsOf(nodes), err, q.want)
		}
	}
	if _, err := registry.SetTags(t.Context(), r, "a", map[string]string{"rack": "2"}, "ssd"); err != nil {
		t.Fatal(err)
	}
	nodes, err := registry.Collect(t.Context(), r, registry.Query{Tags: map[string]*string{"rack": registry.Is("2")}})
	if err != nil || fmt.Sprint(idsOf(nodes)) != "[a c]" {
		t.Fatalf("after a change: %v, %v", idsOf(nodes), err)
	}
}

// testAllOrNothing: an Update that fails, panics or ends its goroutine changes
// nothing, and its error comes back as it is.
func testAllOrNothing(t *testing.T, r registry.Registry) {
	create(t, r, registry.Draft{ID: "a", Keys: []string{"k"}})
	spoil := func(tx registry.Tx) {
		for _, err := range []error{
			func() error {
				_, err := tx.Create(registry.Draft{ID: "b", Name: "b", Type: "vm", Parent: "a", Keys: []string{"k2"}})
				return err
			}(),
			func() error {
				_, err := registry.ModifyIn(tx, "a", func(d *registry.Draft) error { d.State = "on"; d.Keys = nil; return nil })
				return err
			}(),
			tx.PutBlob("a", "x", []byte("y")),
		} {
			if err != nil {
				t.Error(err)
			}
		}
	}
	errMine := errors.New("mine")
	var leaked registry.Tx
	if err := r.Update(t.Context(), func(tx registry.Tx) error { leaked = tx; spoil(tx); return errMine }); err != errMine { //nolint:errorlint // as it is
		t.Errorf("the function's error came back as %v", err)
	}
	if _, err := leaked.Create(registry.Draft{ID: "leak", Name: "leak", Type: "vm"}); err == nil {
		t.Error("a transaction can be used after its end")
	}
	if _, err := leaked.Get("a"); err == nil {
		t.Error("a transaction can be read after its end")
	}
	func() {
		defer func() {
			if p := recover(); p != "boom" {
				t.Errorf("the function's panic came back as %v", p)
			}
		}()
		_ = r.Update(t.Context(), func(tx registry.Tx) error { spoil(tx); panic("boom") })
	}()
	// An operation that is refused leaves the rest of its Update as it is.
	update(t, r, func(tx registry.Tx) error {
		if _, err := tx.Create(registry.Draft{ID: "c", Name: "c", Type: "vm", Keys: []string{"k3", "k"}}); !errors.Is(err, registry.ErrConflict) {
			t.Errorf("a key that is taken: %v", err)
		}
		_, err := tx.Create(registry.Draft{ID: "d", Name: "d", Type: "vm", Keys: []string{"k3"}})
		return err
	})
	v := view(t, r)
	if a, err := v.Get("a"); err != nil || a.State() != "" || !a.HasKey("k") || len(a.Blobs()) > 0 {
		t.Errorf("an Update that failed has changed a: %v, %v", a, err)
	}
	if kids, err := v.Children("a"); err != nil || len(kids.Nodes) > 0 {
		t.Errorf("an Update that failed has left a child: %v, %v", kids, err)
	}
	for _, ref := range []string{"b", "k2", "leak", "c"} {
		if n, err := registry.Find(v, ref); !errors.Is(err, registry.ErrNotFound) {
			t.Errorf("an Update that failed has left %s: %v, %v", ref, n, err)
		}
	}
}

// testSnapshots: a reader's answers never change, nothing in them can be changed
// from outside, and nothing that was passed in changes the store later.
func testSnapshots(t *testing.T, r registry.Registry) {
	tags, keys, data := map[string]string{"x": "1"}, []string{"k1", "k2"}, []byte("blob")
	raw := []byte(`{"cpu":1}`)
	doc, err := registry.ParseDocument(raw)
	if err != nil {
		t.Fatal(err)
	}
	d := registry.Draft{ID: "a", Name: "a", Type: "vm", Tags: tags, Keys: keys, Definition: doc}
	update(t, r, func(tx registry.Tx) error {
		if _, err := tx.Create(d); err != nil {
			return err
		}
		return tx.PutBlob("a", "b", data)
	})
	create(t, r, registry.Draft{ID: "kid", Parent: "a"})
	v := view(t, r)
	n, err := v.Get("a")
	if err != nil {
		t.Fatal(err)
	}
	before, err := json.Marshal(n)
	if err != nil {
		t.Fatal(err)
	}
	spoil := func() {
		tags["x"], tags["y"] = "2", "3"
		keys[0], data[0], raw[2] = "changed", 'X', 'X'
		n.Tags()["x"] = "4"
		n.Keys()[0] = "changed"
		n.Blobs()[0].Key = "changed"
		n.Stamp().Blobs[0].Key = "changed"
		d := n.Draft()
		d.Tags["x"], d.Keys[0] = "5", "changed"
		blob, err := v.Blob("a", "b")
		if err != nil {
			t.Fatal(err)
		}
		blob[0] = 'Y'
		kids, err := v.Children("a")
		if err != nil {
			t.Fatal(err)
		}
		kids.Nodes[0] = nil
	}
	check := func(what string, v registry.Reader) {
		t.Helper()
		n, err := v.Get("a")
		if err != nil {
			t.Fatal(err)
		}
		if after, err := json.Marshal(n); err != nil || !bytes.Equal(before, after) {
			t.Fatalf("%s: the node went from %s to %s, %v", what, before, after, err)
		}
		if b, err := v.Blob("a", "b"); err != nil || string(b) != "blob" {
			t.Fatalf("%s: the blob is %q, %v", what, b, err)
		}
		if kids, err := v.Children("a"); err != nil || len(kids.Nodes) != 1 || kids.Nodes[0] == nil {
			t.Fatalf("%s: the children are %v, %v", what, kids, err)
		}
	}
	spoil()
	check("writing to what came back", v)
	check("writing to what came back", view(t, r))
	update(t, r, func(tx registry.Tx) error {
		if _, err := registry.ModifyIn(tx, "a", func(d *registry.Draft) error {
			d.Tags, d.Keys, d.State = nil, nil, "on"
			return nil
		}); err != nil {
			return err
		}
		if err := tx.PutBlob("a", "b", nil); err != nil {
			return err
		}
		_, err := registry.ModifyIn(tx, "kid", func(d *registry.Draft) error { d.Parent = ""; return nil }, registry.MovingFrom("a"))
		return err
	})
	check("a later Update", v)
	if err := registry.Delete(t.Context(), r, "a"); err != nil {
		t.Fatal(err)
	}
	check("a later deletion", v)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	check("Close", v)
}

// testContext: a context that has ended stops every call, and an Update that
// waits for its turn is withdrawn.
func testContext(t *testing.T, r registry.Registry) {
	create(t, r, registry.Draft{ID: "a"})
	ctx, cancel := context.WithCancel(t.Context())
	v, err := r.View(ctx)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	for what, err := range map[string]error{
		"Update": r.Update(ctx, func(registry.Tx) error { t.Error("the function was run"); return nil }),
		"View":   func() error { _, err := r.View(ctx); return err }(),
		"Get":    func() error { _, err := v.Get("a"); return err }(),
		"List":   func() error { _, err, _ := first2(v.List(registry.Query{})); return err }(),
		"Keys":   func() error { _, err, _ := first2(v.Keys("", "")); return err }(),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want context.Canceled", what, err)
		}
	}
	for c, err := range r.Watch(ctx, registry.Query{}, registry.Start) {
		t.Errorf("a watch whose context has ended delivers %v, %v", c, err)
	}
	// One function runs; another Update waits for it, and gives up.
	inside, leave := make(chan struct{}), make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		once := sync.OnceFunc(func() { close(inside); <-leave })
		if err := r.Update(t.Context(), func(tx registry.Tx) error {
			once()
			_, err := registry.ModifyIn(tx, "a", func(d *registry.Draft) error { d.State = "on"; return nil })
			return err
		}); err != nil {
			t.Error(err)
		}
	})
	<-inside
	ctx, cancel = context.WithCancel(t.Context())
	withdrawn := make(chan struct{})
	wg.Go(func() {
		defer close(withdrawn)
		err := r.Update(ctx, func(tx registry.Tx) error {
			cancel() // for a store that does not let it wait
			_, err := tx.Create(registry.Draft{ID: "b", Name: "b", Type: "vm"})
			return err
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("a withdrawn Update: %v, want context.Canceled", err)
		}
	})
	cancel()
	select {
	case <-withdrawn:
	case <-time.After(patience):
		t.Error("an Update whose context has ended goes on waiting for its turn")
	}
	close(leave)
	wg.Wait()
	if _, err := registry.Get(t.Context(), r, "b"); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("a withdrawn Update has left its node: %v", err)
	}
}

func first2[A any](seq iter.Seq2[A, error]) (A, error, bool) { //nolint:revive // as iter.Pull2 has it
	for a, err := range seq {
		return a, err, true
	}
	var zero A
	return zero, nil, false
}

// testClose: Close ends watches and later calls with ErrClosed, may be called
// again, and leaves no goroutine.
func testClose(t *testing.T, open Open) {
	leaks := goleak.IgnoreCurrent()
	r := open(t)
	create(t, r, registry.Draft{ID: "a"})
	ctx := bounded(t)
	ended := make(chan error, 1)
	var started sync.WaitGroup
	started.Add(1)
	go func() {
		for c, err := range r.Watch(ctx, registry.Query{}, registry.Start) {
			if err != nil {
				ended <- err
				return
			}
			if c.Kind == registry.Synced {
				started.Done()
			}
		}
		ended <- nil
	}()
	started.Wait()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; !errors.Is(err, registry.ErrClosed) {
		t.Errorf("the watch ended with %v, want ErrClosed", err)
	}
	if err := r.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
	_, err := r.View(ctx)
	want(t, err, registry.ErrClosed)
	want(t, r.Update(ctx, func(registry.Tx) error { return nil }), registry.ErrClosed)
	if err := goleak.Find(leaks); err != nil {
		t.Error(err)
	}
}

// testStamps: revision, times and trail of a node.
func testStamps(t *testing.T, r registry.Registry) {
	by := trail.Trail{Transaction: "t-1", Source: "alice", Reason: "because", Job: "j", Attempt: 2, Token: trail.Token{Epoch: 3, Number: 4}}
	ctx := trail.With(t.Context(), by)
	a, err := registry.Create(ctx, r, registry.Draft{ID: "a", Name: "a", Type: "vm"})
	if err != nil {
		t.Fatal(err)
	}
	if a.Changed() != by || a.Revision() == 0 || a.CreatedAt().IsZero() || !a.CreatedAt().Equal(a.UpdatedAt()) {
		t.Fatalf("created with the stamp %+v", a.Stamp())
	}
	var one, two *registry.Node
	update(t, r, func(tx registry.Tx) (err error) {
		if one, err = registry.ModifyIn(tx, "a", func(d *registry.Draft) error { d.State = "on"; return nil }); err != nil {
			return err
		}
		two, err = tx.Create(registry.Draft{ID: "b", Name: "b", Type: "vm"})
		return err
	})
	if one.Revision() != two.Revision() || one.Revision() <= a.Revision() {
		t.Fatalf("the changes of one Update have the revisions %d and %d, after %d", one.Revision(), two.Revision(), a.Revision())
	}
	if !one.CreatedAt().Equal(a.CreatedAt()) || one.Changed() != (trail.Trail{}) {
		t.Fatalf("changed to the stamp %+v from %+v", one.Stamp(), a.Stamp())
	}
	got, err := registry.Get(t.Context(), r, "a")
	if err != nil || got.Revision() != one.Revision() || !got.UpdatedAt().Equal(one.UpdatedAt()) {
		t.Fatalf("the transaction answered %+v, the store holds %+v, %v", one.Stamp(), got.Stamp(), err)
	}
	// What changes nothing writes nothing.
	same, err := registry.SetState(ctx, r, "a", "on")
	if err != nil || same.Revision() != got.Revision() {
		t.Fatalf("a change to what it was gave revision %d after %d, %v", same.Revision(), got.Revision(), err)
	}
	update(t, r, func(tx registry.Tx) error {
		n, err := tx.Put(got.Draft())
		if err == nil && n.Revision() != got.Revision() {
			err = fmt.Errorf("a Put of what it was gave revision %d after %d", n.Revision(), got.Revision())
		}
		return err
	})
}

func testBlobs(t *testing.T, r registry.Registry) {
	create(t, r, registry.Draft{ID: "a"})
	put := func(data []byte) error {
		return r.Update(t.Context(), func(tx registry.Tx) error { return tx.PutBlob("a", "b", data) })
	}
	for _, data := range [][]byte{[]byte("one"), {}, []byte("two\x00\xff")} {
		if err := put(data); err != nil {
			t.Fatal(err)
		}
		v := view(t, r)
		if got, err := v.Blob("a", "b"); err != nil || !bytes.Equal(got, data) {
			t.Fatalf("the blob is %q, %v; want %q", got, err, data)
		}
		n, err := v.Get("a")
		if err != nil || len(n.Blobs()) != 1 || n.Blobs()[0] != (registry.BlobInfo{Key: "b", Size: len(data), SHA256: sum(data)}) {
			t.Fatalf("the node says %+v, %v", n.Blobs(), err)
		}
	}
	if err := put(nil); err != nil {
		t.Fatal(err)
	}
	_, err := view(t, r).Blob("a", "b")
	want(t, err, registry.ErrNotFound)
	want(t, put(nil), registry.ErrNotFound)
	want(t, r.Update(t.Context(), func(tx registry.Tx) error { return tx.PutBlob("none", "b", []byte("x")) }), registry.ErrNotFound)
	// A blob goes with its node, and does not come back with another of its ID.
	if err := put([]byte("old")); err != nil {
		t.Fatal(err)
	}
	if err := registry.Delete(t.Context(), r, "a"); err != nil {
		t.Fatal(err)
	}
	create(t, r, registry.Draft{ID: "a"})
	_, err = view(t, r).Blob("a", "b")
	want(t, err, registry.ErrNotFound)
}
