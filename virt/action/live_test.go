package action

import (
	"errors"
	"slices"
	"testing"

	"github.com/vagoth/vagoth/virt"
)

// Hosts behind agents move what runs, if they can reach each other, and what is off by
// its definition. Both are asked where the VM is only when they are settled.
func TestMigrateLive(t *testing.T) {
	w := newWorld(t)
	w.host("h1", `{"driver":"live","cpu":8,"memory":4096}`)
	w.host("h2", `{"driver":"live","cpu":8,"memory":4096,"peer":"qemu+tls://h2/system"}`)
	w.vm("web1", `{"cpu":1,"memory":64}`)
	w.must(virt.ActionStart, virt.Params{VM: "web1", Host: "h1"})
	move := func(to string, runs virt.State) {
		t.Helper()
		if res := w.must(virt.ActionMigrate, virt.Params{VM: "web1", To: to}); res.Host != to || res.State != runs {
			t.Errorf("moved to %s, it is %+v", to, res)
		}
		if n := w.node("web1"); n.Parent() != to || virt.MovesTo(n) != "" || len(w.driver.late) > 0 {
			t.Errorf("moved to %s, it is on %s, and moves to %q", to, n.Parent(), virt.MovesTo(n))
		}
	}
	move("h2", virt.Running)
	moved := slices.Index(w.driver.calls, "migrate h2")
	for _, h := range []string{"h1", "h2"} {
		after := w.driver.calls[moved:]
		if s, i := slices.Index(after, "settle "+h), slices.Index(after, "info "+h); s < 0 || i < s {
			t.Errorf("%s was asked before it was settled: %v", h, after)
		}
	}
	if _, err := w.run(t.Context(), virt.ActionMigrate, virt.Params{VM: "web1", To: "h1"}); !errors.Is(err, virt.ErrUnsupported) {
		t.Errorf("to a host without a peer: %v", err)
	}
	if n := w.node("web1"); n.Parent() != "h2" || n.State() != string(virt.Running) || virt.MovesTo(n) != "" {
		t.Errorf("refused, it is %s on %s, and moves to %q", n.State(), n.Parent(), virt.MovesTo(n))
	}
	w.must(virt.ActionStop, virt.Params{VM: "web1"})
	move("h1", virt.Stopped)
	w.checkPlace("web1")
}
