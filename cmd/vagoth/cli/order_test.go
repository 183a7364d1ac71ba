package cli

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/virt"
)

func vmOrder(a *app) *order {
	return &order{bulk: &bulk{app: a, parallel: 8, how: "started"}, wait: &waiting{app: a}, action: virt.ActionStop, vms: true, keepQueued: true}
}

func submitAll(t *testing.T, o *order, n int, f func(*order, []*awaited)) {
	t.Helper()
	jobs := make([]*awaited, n)
	for i := range jobs {
		jobs[i] = &awaited{name: fmt.Sprintf("vm%d", i)}
	}
	f(o, jobs)
}

// TestOrderInPackages: the jobs of many VMs are queued in a few packages, each
// with the limit of its host, and told once.
func TestOrderInPackages(t *testing.T) {
	t.Parallel()
	f := newFake()
	a, client, _ := bench(t, f)
	const n = 2*orderChunk + 7
	submitAll(t, vmOrder(a), n, func(o *order, jobs []*awaited) {
		told := make([]int, n)
		o.submit(t.Context(), client, vmItems(t, n), jobs, func(i int) { told[i]++ })
		if len(f.packages) != 3 {
			t.Errorf("there are %d packages", len(f.packages))
		}
		for i, j := range jobs {
			if j.err != nil || j.st.Queue != fmt.Sprintf("vm%d", i) || told[i] != 1 {
				t.Fatalf("%d: %+v, told %d times", i, j, told[i])
			}
		}
	})
	j := f.packages[2].Jobs[6]
	var given virt.Params
	if err := j.Params.Decode(&given); err != nil {
		t.Fatal(err)
	}
	if vm := given.VM; vm != fmt.Sprintf("vm%d", n-1) || j.Action != virt.ActionStop || !j.KeepQueued || len(j.Limits) != 1 || j.Limits[0] != "host:h1" {
		t.Errorf("the last job is %+v of %s", j, vm)
	}
}

// TestOrderRefused: one job that is refused does not keep the others of its
// package from being queued.
func TestOrderRefused(t *testing.T) {
	t.Parallel()
	f := newFake()
	a, client, _ := bench(t, f)
	f.refused["vm3"] = true
	submitAll(t, vmOrder(a), 6, func(o *order, jobs []*awaited) {
		o.submit(t.Context(), client, vmItems(t, 6), jobs, func(int) {})
		for i, j := range jobs {
			if refused := errors.Is(j.err, registry.ErrConflict); refused != (i == 3) || !refused && j.st.State != scheduler.Waiting {
				t.Errorf("%d: %+v", i, j)
			}
		}
	})
	if len(f.packages) != 5 {
		t.Errorf("%d packages were queued", len(f.packages))
	}
}

// TestOrderPatient: what is refused because too much is queued is submitted
// again.
func TestOrderPatient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		a, client, errs := bench(t, f)
		f.full = 3
		submitAll(t, vmOrder(a), 2, func(o *order, jobs []*awaited) {
			o.submit(t.Context(), client, vmItems(t, 2), jobs, func(int) {})
			if jobs[0].err != nil || jobs[1].err != nil || len(f.packages) != 1 {
				t.Errorf("%+v, %+v, %d packages", jobs[0], jobs[1], len(f.packages))
			}
		})
		if said := errs.String(); strings.Count(said, "trying again") != 1 {
			t.Errorf("it said %q", said)
		}
	})
}
