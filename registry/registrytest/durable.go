package registrytest

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"math/rand"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
	"pgregory.net/rapid"

	"github.com/vagoth/vagoth/internal/smalldisk"
	"github.com/vagoth/vagoth/internal/testlong"
	"github.com/vagoth/vagoth/registry"
)

// Durable is a registry that keeps its state in a directory.
type Durable struct {
	// Open opens the store in dir, and makes it if there is none. It should write
	// snapshots often, and not wait for a lock.
	Open func(ctx context.Context, dir string) (registry.Registry, error)
}

func (d Durable) open(t testing.TB, dir string) registry.Registry {
	t.Helper()
	r, err := d.Open(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// RunDurable runs what a registry in a directory must pass beside Run. The
// package's TestMain must call Main.
func RunDurable(t *testing.T, d Durable) {
	t.Run("Reopen", func(t *testing.T) { testReopen(t, d) })
	t.Run("ModelReopened", func(t *testing.T) { testModelReopened(t, d) })
	t.Run("Lock", func(t *testing.T) { testLock(t, d) })
	t.Run("Kill", func(t *testing.T) { testKill(t, d) })
	t.Run("PowerCut", func(t *testing.T) { testPowerCut(t, d) })
	t.Run("Damage", func(t *testing.T) { testDamage(t, d) })
	t.Run("FullDisk", func(t *testing.T) { testFullDisk(t, d) })
}

func closeOf(t testing.TB, r registry.Registry) {
	t.Helper()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
}

func testReopen(t *testing.T, d Durable) {
	dir := filepath.Join(t.TempDir(), "new", "store")
	r := d.open(t, dir)
	create(t, r, registry.Draft{ID: "a", Keys: []string{"k"}, Definition: document(t, `{"x":1}`)})
	create(t, r, registry.Draft{ID: "b", Parent: "a"})
	update(t, r, func(tx registry.Tx) error { return tx.PutBlob("a", "blob", []byte("data")) })
	edge, err := view(t, r).Children("a")
	if err != nil {
		t.Fatal(err)
	}
	a, err := view(t, r).Get("a")
	if err != nil {
		t.Fatal(err)
	}
	next, stop := iter.Pull2(r.Watch(bounded(t), registry.Query{}, registry.Now))
	c := create(t, r, registry.Draft{ID: "c"})
	cursor := pull(t, next, 1)[0].Cursor
	stop()
	for round := range 3 {
		closeOf(t, r)
		r = d.open(t, dir)
		v := view(t, r)
		got, err := v.Get("a")
		if err != nil || !got.Same(a.Draft()) || !reflect.DeepEqual(got.Stamp(), a.Stamp()) {
			t.Fatalf("a came back as %+v %+v, %v; was %+v %+v", got.Draft(), got.Stamp(), err, a.Draft(), a.Stamp())
		}
		if kids, err := v.Children("a"); err != nil || kids.Edge != edge.Edge || len(kids.Nodes) != 1 {
			t.Fatalf("the children came back as %+v, %v; were %+v", kids, err, edge)
		}
		if b, err := v.Blob("a", "blob"); err != nil || string(b) != "data" {
			t.Fatalf("the blob came back as %q, %v", b, err)
		}
		// The cursor is good, or refused; nothing is skipped.
		again := create(t, r, registry.Draft{ID: fmt.Sprint("later", round)})
		if again.Revision() <= c.Revision() {
			t.Fatalf("revision %d follows %d", again.Revision(), c.Revision())
		}
		c = again
		for ch, err := range r.Watch(bounded(t), registry.Query{}, cursor) {
			if errors.Is(err, registry.ErrCompacted) {
				break
			}
			if err != nil || ch.Kind != registry.Created || ch.Node().ID() != "later0" {
				t.Fatalf("the cursor from before resumes with %s %v, %v; want the creation of later0", ch.Kind, ch.Node(), err)
			}
			break
		}
	}
	closeOf(t, r)
}

func testModelReopened(t *testing.T, d Durable) {
	rapid.Check(t, func(rt *rapid.T) {
		dir, err := os.MkdirTemp(t.TempDir(), "")
		if err != nil {
			t.Fatal(err)
		}
		s := newMachine(t.Context(), d.open(t, dir))
		defer func() {
			s.close()
			if err := s.r.Close(); err != nil {
				rt.Errorf("close: %v", err)
			}
		}()
		rt.Repeat(map[string]func(*rapid.T){
			"update": s.update, "update2": s.update, "update3": s.update, "read": s.read, "watch": s.watch, "": s.deliver,
			"reopen": func(rt *rapid.T) {
				if rapid.IntRange(0, 3).Draw(rt, "reopen") > 0 {
					rt.Skip("it takes long")
				}
				s.close()
				s.watches, s.kept = nil, nil
				if err := s.r.Close(); err != nil {
					rt.Fatal(err)
				}
				s.r = d.open(t, dir)
				v, err := s.r.View(s.ctx)
				if err != nil {
					rt.Fatal(err)
				}
				if err := s.m.compare(v); err != nil {
					rt.Fatal(err)
				}
				for id, want := range s.stamps {
					n, err := v.Get(id)
					if err != nil || !reflect.DeepEqual(n.Stamp(), want) {
						rt.Fatalf("node %s came back with the stamp %+v, %v; had %+v", id, n.Stamp(), err, want)
					}
					if kids, err := v.Children(id); err != nil || kids.Edge != s.edges[id] {
						rt.Fatalf("the edge revision of %s came back as %d, %v; was %d", id, kids.Edge, err, s.edges[id])
					}
				}
			},
		})
	})
}

func testLock(t *testing.T, d Durable) {
	dir := t.TempDir()
	r := d.open(t, dir)
	create(t, r, registry.Draft{ID: "a"})
	second, err := d.Open(t.Context(), dir)
	if err == nil {
		closeOf(t, second)
		t.Fatal("the store was opened twice")
	}
	if pid := fmt.Sprint(os.Getpid()); !strings.Contains(err.Error(), pid) {
		t.Fatalf("the error does not name the holder %s: %v", pid, err)
	}
	create(t, r, registry.Draft{ID: "b"})
	closeOf(t, r)
	r = d.open(t, dir)
	if nodes, err := registry.Collect(t.Context(), r, registry.Query{}); err != nil || len(nodes) != 2 {
		t.Fatalf("%d nodes, %v", len(nodes), err)
	}
	closeOf(t, r)
}

// furnish fills a store, and returns its model.
func furnish(t *testing.T, r registry.Registry, nodes int) *model {
	t.Helper()
	m := newModel()
	for i := range nodes {
		id := fmt.Sprintf("n%04d", i)
		d := registry.Draft{
			ID: id, Name: "name-" + id, Type: "vm", State: fmt.Sprint("s", i%7), Keys: []string{"key-" + id},
			Tags: map[string]string{"rack": fmt.Sprint(i % 5), "x": ""}, Definition: document(t, fmt.Sprintf(`{"text":"%0*d"}`, i%300, i)),
		}
		if i > 0 {
			d.Parent = fmt.Sprintf("n%04d", i/2)
		}
		n := modelNode{draft: d}
		update(t, r, func(tx registry.Tx) error {
			if _, err := tx.Create(d); err != nil || i%10 > 0 {
				return err
			}
			n.blobs = map[string][]byte{"b": []byte(strings.Repeat(id, 1+i))}
			return tx.PutBlob(id, "b", n.blobs["b"])
		})
		m.nodes[id] = n
	}
	return m
}

// testDamage flips bits and cuts files off: what is opened then is either
// refused or as it was.
func testDamage(t *testing.T, d Durable) {
	dir := t.TempDir()
	r := d.open(t, dir)
	m := furnish(t, r, 400)
	closeOf(t, r)
	r = d.open(t, dir) // some behind the last snapshot
	for i := range 40 {
		id := fmt.Sprintf("n%04d", i)
		if _, err := registry.SetState(t.Context(), r, id, "late"); err != nil {
			t.Fatal(err)
		}
		n := m.nodes[id]
		n.draft.State = "late"
		m.nodes[id] = n
	}
	closeOf(t, r)
	var files []string
	var weights []int64
	var total int64
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil || info.Size() == 0 {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		files, weights, total = append(files, rel), append(weights, info.Size()), total+info.Size()
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	rnd := rand.New(rand.NewSource(testlong.Seed(t))) //nolint:gosec // a test's choices
	refused, harmless := 0, 0
	for range testlong.Count(t, 500) {
		at := rnd.Int63n(total)
		i := 0
		for ; at >= weights[i]; i++ {
			at -= weights[i]
		}
		if rnd.Intn(3) == 0 { // small files would hardly ever be hit
			i = rnd.Intn(len(files))
			at = rnd.Int63n(weights[i])
		}
		copied := filepath.Join(t.TempDir(), "store")
		if err := os.CopyFS(copied, os.DirFS(dir)); err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(copied, files[i])
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		var what string
		if rnd.Intn(4) == 0 {
			what = fmt.Sprintf("%s cut off at byte %d", files[i], at)
			if err := os.Truncate(path, at); err != nil {
				t.Fatal(err)
			}
		} else {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for range 20 { // most zeros are unused space
				if data[at] != 0 || rnd.Intn(8) == 0 {
					break
				}
				at = rnd.Int63n(weights[i])
			}
			what = fmt.Sprintf("%s flipped at byte %d", files[i], at)
			data[at] ^= 1 << rnd.Intn(8)
			if err := os.WriteFile(path, data, 0o600); err != nil { //nolint:gosec // the test's own file
				t.Fatal(err)
			}
		}
		r, err := d.Open(t.Context(), copied)
		if err != nil {
			refused++
			if !errors.Is(err, registry.ErrCorrupt) || !strings.Contains(err.Error(), copied) {
				t.Errorf("%s: refused with %v, want ErrCorrupt with the file", what, err)
			}
		} else {
			harmless++
			if err := m.compare(view(t, r)); err != nil {
				t.Errorf("%s: it was opened and holds other data: %v", what, err)
			}
			closeOf(t, r)
		}
		if err := os.RemoveAll(copied); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d refused, %d harmless", refused, harmless)
	if refused == 0 {
		t.Error("no damage was noticed")
	}
}

// testFullDisk fills a small disk.
func testFullDisk(t *testing.T, d Durable) {
	dir := smalldisk.New(t)
	store, ballast := filepath.Join(dir, "store"), filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 4<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	r := d.open(t, store)
	m := newModel()
	put := func(i int) error {
		n := registry.Draft{ID: fmt.Sprint("n", i), Name: fmt.Sprint("n", i), Type: "vm", Definition: document(t, fmt.Sprintf(`{"x":"%s"}`, strings.Repeat("y", 100<<10)))}
		_, err := registry.Create(t.Context(), r, n)
		if err == nil {
			m.nodes[n.ID] = modelNode{draft: n}
		}
		return err
	}
	var full error
	i := 0
	for ; i < 300 && full == nil; i++ {
		full = put(i)
	}
	if !errors.Is(full, registry.ErrUnavailable) || !errors.Is(full, unix.ENOSPC) {
		t.Fatalf("a full disk: %v, want ErrUnavailable that says why", full)
	}
	t.Logf("full after %d nodes: %v", i, full)
	if err := m.compare(view(t, r)); err != nil {
		t.Fatalf("reads on a full disk: %v", err)
	}
	if err := put(i); err == nil {
		t.Fatal("the next write succeeds on a full disk")
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	for k := range 5 {
		if err := put(1000 + k); err != nil {
			t.Fatalf("with room again: %v", err)
		}
	}
	if err := m.compare(view(t, r)); err != nil {
		t.Fatal(err)
	}
	closeOf(t, r)
	r = d.open(t, store)
	if err := m.compare(view(t, r)); err != nil {
		t.Fatalf("opened again: %v", err)
	}
	closeOf(t, r)
}
