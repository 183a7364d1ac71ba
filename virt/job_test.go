package virt_test

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/virt"
)

// queueing takes jobs and runs none of them.
type queueing struct {
	scheduler.Scheduler
	jobs []scheduler.Job
	end  scheduler.Status
}

func (q *queueing) Submit(_ context.Context, p scheduler.Package) ([]scheduler.Status, error) {
	var list []scheduler.Status
	for _, j := range p.Jobs {
		j.ID = "job-" + j.Action
		q.jobs = append(q.jobs, j)
		list = append(list, scheduler.Status{Job: j, State: scheduler.Waiting})
	}
	return list, nil
}

func (q *queueing) Wait(ctx context.Context, id string) (scheduler.Status, error) {
	if q.end.State == "" {
		return scheduler.Status{}, ctx.Err()
	}
	q.end.ID = id
	return q.end, nil
}

// lending is a scheduler that shares out limits.
type lending struct {
	*queueing
	scheduler.QueueInspector
}

// What is done to a VM on a host takes that host's limit; what is not on one
// takes none, and neither does reading.
func TestJobsTakeTheLimitOfTheirHost(t *testing.T) {
	c := open(t, answering{status: silent})
	c.create(t, registry.Draft{ID: "h1", Type: virt.TypeHypervisor, State: "up"}, hostDefinition, "")
	c.create(t, registry.Draft{ID: "on", Type: virt.TypeVM, Parent: "h1"}, `{"cpu":1,"memory":1}`, "")
	c.create(t, registry.Draft{ID: "off", Type: virt.TypeVM}, `{"cpu":1,"memory":1}`, "")
	q := &queueing{}
	ctx := t.Context()
	submit := func(id string) map[string][]string {
		vm, err := virt.VM(ctx, c, id)
		if err != nil {
			t.Fatal(err)
		}
		q.jobs = nil
		for _, do := range []func(context.Context) (scheduler.Status, error){vm.Define, vm.Provision, vm.Start, vm.Shutdown, vm.Reboot, vm.Suspend, vm.Resume,
			vm.Undefine, vm.Deprovision, vm.Poll, func(ctx context.Context) (scheduler.Status, error) { return vm.Stop(ctx, 0) },
			func(ctx context.Context) (scheduler.Status, error) { return vm.Migrate(ctx, "") }} {
			if st, err := do(ctx); err != nil || st.State != scheduler.Waiting {
				t.Errorf("a job that is queued: %v, %v", st.State, err)
			}
		}
		all := map[string][]string{}
		for _, j := range q.jobs {
			all[j.Action] = j.Limits
		}
		return all
	}
	c.parts.Scheduler = lending{queueing: q}
	for action, limits := range submit("on") {
		want := []string{"host:h1"}
		if action == virt.ActionPoll {
			want = nil
		}
		if !slices.Equal(limits, want) {
			t.Errorf("%s on a host takes %v", action, limits)
		}
	}
	for action, limits := range submit("off") {
		if limits != nil {
			t.Errorf("%s without a host takes %v", action, limits)
		}
	}
	c.parts.Scheduler = q // knows no limits
	for action, limits := range submit("on") {
		if limits != nil {
			t.Errorf("%s takes %v of a scheduler without limits", action, limits)
		}
	}
	vm, err := virt.VM(ctx, c, "off")
	if err != nil {
		t.Fatal(err)
	}
	if err := registry.Delete(ctx, c.parts.Registry, "off"); err != nil {
		t.Fatal(err)
	}
	if _, err := vm.Start(ctx); !errors.Is(err, registry.ErrNotFound) {
		t.Errorf("starting what is gone: %v", err)
	}
}

func TestWait(t *testing.T) {
	q := &queueing{}
	c := &cluster{parts: virt.Parts{Scheduler: q}}
	ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
	defer cancel()
	<-ctx.Done()
	queued := scheduler.Status{Job: scheduler.Job{ID: "j", Action: "vm_start"}, State: scheduler.Waiting}
	if st, err := virt.Wait(ctx, c, queued); !errors.Is(err, context.DeadlineExceeded) || st.ID != "j" {
		t.Errorf("out of time: %v, %v", st, err)
	}
	q.end = scheduler.Status{State: scheduler.Succeeded}
	if st, err := virt.Wait(t.Context(), c, queued); err != nil || st.State != scheduler.Succeeded || st.ID != "j" {
		t.Errorf("succeeded: %v, %v", st, err)
	}
	q.end = scheduler.Status{State: scheduler.Failed, Error: "no room"}
	var failed *scheduler.JobError
	if _, err := virt.Wait(t.Context(), c, queued); !errors.As(err, &failed) || failed.Status.Error != "no room" {
		t.Errorf("failed: %v", err)
	}
	// What has ended is not asked for again.
	c.parts.Scheduler = nil
	if st, err := virt.Wait(t.Context(), c, scheduler.Status{State: scheduler.Succeeded}); err != nil || st.State != scheduler.Succeeded {
		t.Errorf("ended before: %v, %v", st, err)
	}
	if _, err := virt.Wait(t.Context(), c, scheduler.Status{State: scheduler.Cancelled}); !errors.As(err, &failed) {
		t.Errorf("cancelled before: %v", err)
	}
}
