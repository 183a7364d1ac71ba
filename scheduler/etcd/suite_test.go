package etcd

import (
	"context"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/scheduler/schedulertest"
	"github.com/vagoth/vagoth/test/etcdtest"
)

func TestMain(m *testing.M) {
	schedulertest.Main(func() int {
		code := m.Run()
		if err := goleak.Find(); err != nil && code == 0 {
			println(err.Error())
			return 1
		}
		return code
	}, reopened)
}

// urlEnv says where etcd is.
const urlEnv = "VAGOTH_TEST_ETCD"

// reopened opens a manager in a process that is going to be killed.
func reopened(ctx context.Context, s schedulertest.Settings, deps scheduler.Deps) (scheduler.Scheduler, error) {
	o, err := newOutside(os.Getenv(urlEnv))
	if err != nil {
		return nil, err
	}
	return o.opener(1)(ctx, s, deps)
}

// startOutside starts an etcd, and what asks it from outside of fake time.
func startOutside(t *testing.T) *outside {
	t.Helper()
	url := etcdtest.Embedded(t)
	if err := os.Setenv(urlEnv, url); err != nil { // for processes that are killed
		t.Fatal(err)
	}
	o, err := newOutside(url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := o.close(); err != nil {
			t.Error(err)
		}
	})
	return o
}

// TestSuites runs all that is promised with one manager, and with three behind one
// handle that asks another one each time.
func TestSuites(t *testing.T) {
	o := startOutside(t)
	t.Run("all", func(t *testing.T) {
		t.Run("Killed", func(t *testing.T) {
			t.Parallel()
			schedulertest.Killed(t, o.opener(1))
		})
		for managers, name := range map[int]string{1: "one", 3: "several"} {
			opener := o.opener(managers)
			for suite, run := range map[string]func(*testing.T){
				"Core":   func(t *testing.T) { schedulertest.Core(t, o.core(managers)) },
				"Leased": func(t *testing.T) { schedulertest.Leased(t, opener) },
				"Kept":   func(t *testing.T) { schedulertest.Kept(t, opener) },
				"Remote": func(t *testing.T) { schedulertest.Remote(t, opener, overHTTP) },
			} {
				t.Run(name+"/"+suite, func(t *testing.T) {
					t.Parallel()
					run(t)
				})
			}
		}
	})
}
