package fixed_test

import (
	"strings"
	"testing"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/allocator/allocatortest"
	"github.com/vagoth/vagoth/allocator/fixed"
)

func open(host string) allocatortest.Open {
	return func(t testing.TB, deps allocator.Deps) allocator.Allocator {
		cfg := fixed.Defaults()
		cfg.Host = host
		a, err := fixed.Open(t.Context(), cfg, deps)
		if err != nil {
			t.Fatal(err)
		}
		return a
	}
}

func TestSuite(t *testing.T) {
	t.Run("none configured", func(t *testing.T) { allocatortest.Run(t, open("")) })
	t.Run("one configured", func(t *testing.T) { allocatortest.Run(t, open("h1")) })
}

func TestConfiguredHost(t *testing.T) {
	room := allocatortest.HostDefinition{Capacity: allocator.Resources{CPU: 1}}
	s := allocatortest.NewStore(allocatortest.Host("h1", room), allocatortest.Host("h2", room))
	for _, host := range []string{"h2", "name-h2"} {
		d, err := open(host)(t, allocatortest.Deps()).Decide(t.Context(), s.View(), allocator.Request{Need: allocator.Resources{CPU: 4}})
		if err != nil || d.Host != "h2" {
			t.Fatalf("configured %s: %+v, %v", host, d, err)
		}
		if v := d.Hosts()[1]; v.Host != "h1" || v.Ruled[0] != (allocator.Ruled{Filter: "fixed", Required: host, Observed: "h1"}) {
			t.Errorf("the other host: %+v", v)
		}
	}
	if d, err := open("h2")(t, allocatortest.Deps()).Decide(t.Context(), s.View(), allocator.Request{Hint: "h1"}); err != nil || d.Host != "h1" {
		t.Errorf("a hint beside the configured host: %+v, %v", d, err)
	}
	_, err := open("h9")(t, allocatortest.Deps()).Decide(t.Context(), s.View(), allocator.Request{ID: "web1"})
	if err == nil || !strings.Contains(err.Error(), "2 ruled out by fixed") || !strings.Contains(err.Error(), "1 ruled out by exists") {
		t.Errorf("a configured host that does not exist: %v", err)
	}
	_, err = open("")(t, allocatortest.Deps()).Decide(t.Context(), s.View(), allocator.Request{ID: "web1"})
	if err == nil || !strings.Contains(err.Error(), "2 ruled out by fixed") {
		t.Errorf("no host is named: %v", err)
	}
}
