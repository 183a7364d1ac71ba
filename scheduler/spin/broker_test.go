package spin_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"testing"

	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/scheduler/broker"
	"github.com/vagoth/vagoth/scheduler/spin"
)

func closeBroker(t *testing.T, b *broker.Broker) {
	t.Helper()
	if err := b.Close(); err != nil {
		t.Error(err)
	}
}

// Regression: a job deleted when handed out and lost with its worker, or with the
// broker.
func TestABrokerIsOpenedAgain(t *testing.T) {
	dir := t.TempDir()
	b := openBroker(t, dir)
	a := agent{t, spin.New(b, spin.Options{})}
	p := a.newPackage()
	one := a.add(p, "storage", "create_image", `,"parameters":{"size":50}`)
	a.add(p, "emulation", "start", `,"dependencies":["`+one+`"]`)
	a.enqueue(p)
	first := a.next("storage")
	a.newPackage() // what was handed out goes to the disk with it
	closeBroker(t, b)

	b = openBroker(t, dir)
	a = agent{t, spin.New(b, spin.Options{})}
	a.nothing("storage") // it is in somebody's hands
	a.nothing("emulation")
	a.refused("POST", "/complete", `{"id":"00000000-0000-4000-8000-000000000000","status":true}`, 400, "record_not_found")
	a.complete(first.UUID)
	second := a.next("emulation")
	a.newPackage()
	closeBroker(t, b)

	b = openBroker(t, dir)
	defer closeBroker(t, b)
	a = agent{t, spin.New(b, spin.Options{})}
	a.refused("GET", "/status/"+p, "", 400, "record_not_found")
	a.refused("POST", "/complete", fmt.Sprintf(`{"id":%q,"status":true}`, first.UUID), 400, "record_not_found")
	a.complete(second.UUID)
	a.succeeded(p)
	if st, err := b.Status(context.Background(), one); err != nil || st.State != scheduler.Succeeded || st.Trail.Source != "spin" {
		t.Fatalf("%s is %s, of %q: %v", one, st.State, st.Trail.Source, err)
	}
}

// A failed command ends those that depend on it, and the package says who.
func TestABrokerFailsDependents(t *testing.T) {
	b := openBroker(t, t.TempDir())
	defer closeBroker(t, b)
	a := agent{t, spin.New(b, spin.Options{})}
	p := a.newPackage()
	bad := a.add(p, "storage", "bad", "")
	a.add(p, "emulation", "after", `,"dependencies":["`+bad+`"]`)
	a.enqueue(p)
	a.ok("POST", "/complete", fmt.Sprintf(`{"id":%q,"status":false,"status_reason":"no space"}`, a.next("storage").UUID), nil)
	var o outcome
	a.ok("GET", "/status/"+p, "", &o)
	if o.Status == nil || *o.Status || o.Reason == nil || *o.Reason != "no space" || o.Causer == nil || *o.Causer != bad {
		t.Fatalf("the status is %+v", o)
	}
	a.nothing("emulation")
}

// Several scripts may add to one package at the same time, as they may with
// spin-broker; and nothing is added twice or lost.
func TestManyAddToOnePackage(t *testing.T) {
	b := openBroker(t, t.TempDir())
	defer closeBroker(t, b)
	h := spin.New(b, spin.Options{})
	p := agent{t, h}.newPackage()
	const each, scripts = 10, 8
	var group sync.WaitGroup
	for s := range scripts {
		group.Go(func() {
			a := agent{t, h}
			for range each {
				if w := a.do("POST", "/add/"+p, fmt.Sprintf(`{"resource":"r%d","action":"x"}`, s)); w.Code != http.StatusOK {
					t.Errorf("add: %d %s", w.Code, w.Body)
				}
			}
		})
	}
	group.Wait()
	a := agent{t, h}
	if ids := a.enqueue(p); len(ids) != each*scripts {
		t.Fatalf("%d commands were queued, %d were added", len(ids), each*scripts)
	}
	for s := range scripts {
		for range each {
			a.complete(a.next(fmt.Sprintf("r%d", s)).UUID)
		}
	}
	a.succeeded(p)
}

func TestABrokerEnqueuesOnceAndKnowsItsQueues(t *testing.T) {
	b := broker.Memory(broker.Config{Queues: map[string]broker.QueueConfig{"agents": {Remote: true}}}, scheduler.Deps{})
	defer closeBroker(t, b)
	a := agent{t, spin.New(b, spin.Options{})}
	p := a.newPackage()
	a.refused("POST", "/add/"+p, `{"resource":"other","action":"x"}`, 400, "invalid")
	a.add(p, "agents", "x", "")
	a.enqueue(p)
	a.enqueue(p)
	a.refused("POST", "/add/"+p, `{"resource":"agents","action":"x"}`, http.StatusConflict, "conflict")
	a.complete(a.next("agents").UUID)
	a.nothing("agents")
	a.succeeded(p)
	if st, err := b.Stats(context.Background()); err != nil || st.HandedOut != 1 {
		t.Fatalf("%d were handed out, one is expected: %v", st.HandedOut, err)
	}
	empty := a.newPackage()
	a.ok("POST", "/enqueue/"+empty, "", &[]string{})
	a.succeeded(empty)
}
