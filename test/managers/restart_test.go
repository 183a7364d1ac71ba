package managers

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/internal/testlong"
	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/test/fleet"
)

// rate is how many operations begin in a second.
const rate = 20

// restarts ends and starts three managers and three members of etcd, one after the other
// and one of each by SIGKILL, under load. The client does what docs/etcd.md says: what was
// not answered, or was refused for no fault of its own, is sent again, to the next manager,
// and says the same. Every operation comes to a good answer; what was acknowledged is found
// in the end, as it was written last, and every job has ended once.
func restarts(t *testing.T, run fleet.Program) {
	seed := uint64(testlong.Seed(t))
	w := newWorld(t, run, 1, 3, 3, 0, 0)
	o := newOperations(w, seed)
	least := time.Duration(0)
	if testlong.Long() {
		least = 5 * time.Minute
	}
	ctx, enough := context.WithCancel(t.Context())
	defer enough()
	var working sync.WaitGroup
	working.Go(func() { o.run(ctx) })
	begin := time.Now()
	rounds := 0
	for ; rounds == 0 || time.Since(begin) < least; rounds++ {
		for i, m := range w.managers {
			if i == rounds%len(w.managers) {
				m.Kill()
			} else {
				m.End()
			}
			m.Start()
			m.Ready()
		}
		for i := range w.etcd.URLs() {
			how := syscall.SIGTERM
			if i == rounds%len(w.etcd.URLs()) {
				how = syscall.SIGKILL
			}
			w.etcd.Restart(i, how)
			w.etcd.Ready(fleet.Patience)
		}
	}
	took := time.Since(begin)
	enough()
	working.Wait()
	o.found()
	t.Logf("%d times three managers and three members in %s; %d operations %v, %d sent again, the slowest took %s",
		rounds, took.Round(time.Second), o.all, o.kinds, o.again, o.slowest.Round(time.Millisecond))
	if want := int(took.Seconds()) * rate / 2; o.all < want {
		t.Errorf("%d operations in %s are too few to be a load of %d a second", o.all, took, rate)
	}
}

// operations are what a client does, and what it was told.
type operations struct {
	w      *world
	chance *rand.Rand

	mu      sync.Mutex
	written map[string]string // by node: the note in its metadata
	busy    map[string]bool   // nodes that somebody is about to write
	jobs    []string
	kinds   map[string]int
	all     int
	again   int
	slowest time.Duration
}

func newOperations(w *world, seed uint64) *operations {
	return &operations{w: w, chance: rand.New(rand.NewPCG(seed, 2)), written: map[string]string{}, busy: map[string]bool{}, kinds: map[string]int{}} //nolint:gosec // a test's choices
}

// run begins an operation so often, until ctx ends, and waits for all.
func (o *operations) run(ctx context.Context) {
	var all sync.WaitGroup
	defer all.Wait()
	tick := time.NewTicker(time.Second / rate)
	defer tick.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		kind := []string{"create", "update", "job", "read"}[o.chance.IntN(4)]
		first := o.chance.IntN(len(o.w.managers))
		all.Go(func() { o.one(kind, n, first) })
	}
}

// one is one operation, which comes to its end also when the load does.
func (o *operations) one(kind string, n, first int) {
	begin := time.Now()
	switch kind {
	case "create":
		o.create(fmt.Sprint("n", n), first)
	case "update":
		o.update(n, first)
	case "job":
		o.job(n, first)
	default:
		o.read(first)
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	o.all++
	o.kinds[kind]++
	o.slowest = max(o.slowest, time.Since(begin))
}

// passing reports whether an error says nothing of what was asked for.
func passing(err error) bool {
	var answered *api.Error
	return !errors.As(err, &answered) || answered.Status >= 500 || answered.Status == 429
}

// try sends a request to one manager after the other until it is answered. again is true
// when an earlier one may have been carried out.
func (o *operations) try(what string, first int, do func(ctx context.Context, c *api.Client, again bool) error) bool {
	deadline := time.Now().Add(fleet.Patience)
	for i := 0; ; i++ {
		ctx, cancel := context.WithTimeout(o.w.Context(), 10*time.Second)
		err := do(ctx, o.w.managers[(first+i)%len(o.w.managers)].Client, i > 0)
		cancel()
		switch {
		case err == nil:
			return true
		case !passing(err):
			o.w.Errorf("%s: %v", what, err)
			return false
		case time.Now().After(deadline):
			o.w.Errorf("%s: sent %d times: %v", what, i+1, err)
			return false
		}
		o.mu.Lock()
		o.again++
		o.mu.Unlock()
		wait(o.w, 50*time.Millisecond)
	}
}

func (o *operations) create(id string, first int) {
	note := uuid.NewString()
	doc, err := registry.NewDocument(map[string]any{"note": note})
	if err != nil {
		o.w.Error(err)
		return
	}
	if o.try("create "+id, first, func(ctx context.Context, c *api.Client, again bool) error {
		_, err := c.Create(ctx, api.CreateRequest{Spec: provisioner.Spec{ID: id, Type: "thing", Metadata: doc}})
		if again && errors.Is(err, registry.ErrConflict) {
			// It may be ours.
			it, err := c.Consistent().Node(ctx, id)
			if err == nil && text(it.Node) != note {
				return fmt.Errorf("somebody else's %s is there", id)
			}
			return err
		}
		return err
	}) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.written[id] = note
	}
}

// text is the note in a node's metadata.
func text(n *registry.Node) string {
	var m struct{ Note string }
	_ = n.Metadata().Decode(&m) // then it is none
	return m.Note
}

// pick gives a node that nobody else writes.
func (o *operations) pick(n int) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	var free []string
	for id := range o.written {
		if !o.busy[id] {
			free = append(free, id)
		}
	}
	if len(free) == 0 {
		return ""
	}
	slices.Sort(free)
	id := free[n%len(free)]
	o.busy[id] = true
	return id
}

func (o *operations) update(n, first int) {
	id, note := o.pick(n), uuid.NewString()
	if id == "" {
		return
	}
	patch := api.Patch{Metadata: map[string]any{"note": note}}
	ok := o.try("update "+id, first, func(ctx context.Context, c *api.Client, _ bool) error {
		_, err := c.Patch(ctx, id, patch)
		if errors.Is(err, registry.ErrNotFound) { // this manager has not seen it yet
			_, err = c.Consistent().Patch(ctx, id, patch)
		}
		return err
	})
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.busy, id)
	if ok {
		o.written[id] = note
	}
}

func (o *operations) job(n, first int) {
	p := scheduler.Package{Jobs: []scheduler.Job{{Key: uuid.NewString(), Queue: fmt.Sprint("q", n%5), Action: "tick", Retry: scheduler.Retry{Attempts: 20}}}}
	var job string
	if o.try("submit", first, func(ctx context.Context, c *api.Client, _ bool) error {
		list, err := c.Submit(ctx, p)
		if err == nil {
			job = list[0].ID
		}
		return err
	}) {
		o.mu.Lock()
		defer o.mu.Unlock()
		o.jobs = append(o.jobs, job)
	}
}

func (o *operations) read(first int) {
	o.mu.Lock()
	id := ""
	for id = range o.written {
		break
	}
	o.mu.Unlock()
	if id == "" {
		return
	}
	o.try("read "+id, first, func(ctx context.Context, c *api.Client, _ bool) error {
		_, err := c.Consistent().Node(ctx, id)
		return err
	})
}

// found looks for all that was acknowledged.
func (o *operations) found() {
	o.w.Helper()
	c := o.w.managers[0].Client.Consistent()
	there := map[string]string{}
	for it, err := range c.Nodes(o.w.Context(), registry.Query{Type: "thing"}) {
		o.w.must("list the nodes", err)
		there[it.Node.ID()] = text(it.Node)
	}
	for id, note := range o.written {
		if there[id] != note {
			o.w.Errorf("%s was written as %s, and is %q", id, note, there[id])
		}
	}
	for _, id := range o.jobs {
		st := o.w.ended(id, o.w.managers...)
		good := 0
		for _, a := range st.Attempts {
			if a.Outcome == string(scheduler.Succeeded) {
				good++
			}
		}
		if st.State != scheduler.Succeeded || good > 1 {
			o.w.Errorf("the job %s ended as %s (%s), its attempts are %+v", id, st.State, st.Error, st.Attempts)
		}
	}
}
