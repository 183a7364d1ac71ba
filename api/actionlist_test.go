package api

import (
	"slices"
	"testing"

	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/virt"
)

// Actions are listed by name, with what they take.
func TestListActions(t *testing.T) {
	c := newCluster(t, opts{})
	list := must[[]ActionInfo](t)(c.Actions(c.ctx))
	var names []string
	for _, a := range list {
		names = append(names, a.Name)
		if a.Params == nil {
			t.Errorf("%s takes null, not a list", a.Name)
		}
	}
	if !slices.Equal(names, []string{"fail", "hang", "panic", virt.ActionStart, virt.ActionStop}) {
		t.Fatalf("the actions are %q", names)
	}
	want := []ParamInfo{{Name: "vm", Type: scheduler.String}, {Name: "host", Type: scheduler.String}}
	if got := list[3]; !slices.Equal(got.Params, want) || got.Urgent || got.AnyParams || got.Remote {
		t.Errorf("%s is %+v", got.Name, got)
	}
	if !list[4].Urgent {
		t.Errorf("%s is not urgent", list[4].Name)
	}
}
