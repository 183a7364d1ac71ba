package poll

import (
	"testing"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/virt"
)

// What another manager keeps of a VM that it saw says where that stood then: so nobody
// takes it for being there still once it has come to rest elsewhere.
func TestWhatOthersSawGrowsOld(t *testing.T) {
	c := newCluster(t, 2, 1)
	m := openPoll(t, c, nil)
	const vm, here, there = "vm0000-00", "host0000", "host0001"
	uuid := virt.UUIDOf(vm, virt.Definition{})
	then := place{On: here, To: there}
	mem := &memory{foreign: map[string]sighting{uuid: {seen: virt.Seen{UUID: uuid, State: virt.Running}, node: vm, stood: then}}}
	err := c.db.Update(t.Context(), func(tx registry.Tx) error {
		_, err := registry.ModifyIn(tx, there, func(d *registry.Draft) (err error) {
			d.State = string(virt.Unreachable)
			d.Metadata, err = d.Metadata.Merge(map[string]any{metaElsewhere: mem.elsewhere()})
			return err
		})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	v, err := c.db.View(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	x, err := newIndex(v, nil)
	if err != nil {
		t.Fatal(err)
	}
	host, err := v.Get(there)
	if err != nil {
		t.Fatal(err)
	}
	j := &judgement{r: &round{m: m, index: x}, v: v, hosts: map[string]*hostView{there: {node: host}}, sightings: map[string]map[string]sighting{}}
	j.others(nil)
	on := j.sightings[uuid]
	if s, ok := on[there]; !ok || s.stood != then {
		t.Fatalf("what the other saw is %+v, want it to have stood %+v", on, then)
	}
	n, err := v.Get(vm)
	if err != nil {
		t.Fatal(err)
	}
	if left := j.current(n, on); len(left) > 0 {
		t.Errorf("it has come to rest on %s, and %+v counts still", n.Parent(), left)
	}
}
