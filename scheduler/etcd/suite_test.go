package etcd

import (
	"context"
	"os"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/vagoth/vagoth/internal/testlong"
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
	o, err := newOutside(strings.Split(os.Getenv(urlEnv), ","))
	if err != nil {
		return nil, err
	}
	return o.opener(1)(ctx, s, deps)
}

// startOutside starts an etcd, and what asks it from outside of fake time.
func startOutside(t *testing.T) *outside {
	t.Helper()
	urls := etcdtest.ForSuite(t)
	if err := os.Setenv(urlEnv, strings.Join(urls, ",")); err != nil { // for processes that are killed
		t.Fatal(err)
	}
	o, err := newOutside(urls)
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
// handle that asks another one each time. Those suites that take long are run with one
// of the two only, unless everything is to be counted in full: what three managers pass,
// the one that leads them has passed.
func TestSuites(t *testing.T) {
	o := startOutside(t)
	one, several := o.opener(1), o.opener(3)
	suites := map[string]func(*testing.T){
		"one/Core":       func(t *testing.T) { schedulertest.Core(t, o.core(1)) },
		"one/Killed":     func(t *testing.T) { schedulertest.Killed(t, one) },
		"one/Kept":       func(t *testing.T) { schedulertest.Kept(t, one) },
		"one/Moved":      func(t *testing.T) { schedulertest.Moved(t, one) },
		"several/Core":   func(t *testing.T) { schedulertest.Core(t, o.core(3)) },
		"several/Leased": func(t *testing.T) { schedulertest.Leased(t, several) },
		"several/Remote": func(t *testing.T) { schedulertest.Remote(t, several, overHTTP) },
	}
	if testlong.Long() {
		suites["one/Leased"] = func(t *testing.T) { schedulertest.Leased(t, one) }
		suites["one/Remote"] = func(t *testing.T) { schedulertest.Remote(t, one, overHTTP) }
		suites["several/Kept"] = func(t *testing.T) { schedulertest.Kept(t, several) }
	}
	t.Run("all", func(t *testing.T) {
		for name, run := range suites {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				run(t)
			})
		}
	})
}
