package cli

import (
	"testing"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/scheduler"
)

func TestQueuesText(t *testing.T) {
	one, two := scheduler.Manager{Name: "a", Host: "n1", Leads: true, Self: true}, scheduler.Manager{Name: "b", Host: "n2"}
	away := two
	away.Leads = true
	for want, sh := range map[string]api.Shared{
		"0 managers share them, and none leads yet":                                      {},
		"1 manager has them, n1 leads (this one)":                                        {Managers: []scheduler.Manager{one}},
		"2 managers share them, n1 leads (this one)":                                     {Managers: []scheduler.Manager{one, two}},
		"2 managers share them, n2 leads":                                                {Managers: []scheduler.Manager{{Host: "n1", Self: true}, away}},
		"1 manager has them, and none leads yet, as it was seen last: etcd is not there": {Managers: []scheduler.Manager{two}, Error: "etcd is not there"},
	} {
		if got := queuesText(sh); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
