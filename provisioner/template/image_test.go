package template_test

import (
	"reflect"
	"testing"

	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/provisioner/template"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/virt"
)

// The image of a new VM gets one disk to stand on, whether its template or the VM
// itself names it.
func TestImage(t *testing.T) {
	cfg := template.Defaults()
	cfg.Templates = map[string]template.Template{"debian": {CPU: 1, Memory: 512 << 20, Image: "debian-12", Disks: nil}}
	types := vmTypes()
	types["phone"] = provisioner.Class{}
	p := open(t, cfg, provisioner.Deps{Registry: memory(t), Types: types})
	for what, c := range map[string]struct {
		definition string
		template   string
		want       []virt.Disk
	}{
		"no disk":               {`{"cpu":1,"memory":64,"image":"a"}`, "", []virt.Disk{{Image: "a"}}},
		"of the template":       {`{}`, "debian", []virt.Disk{{Image: "debian-12"}}},
		"over the template":     {`{"image":"a","disks":[{"size":9}]}`, "debian", []virt.Disk{{Image: "a", Size: 9}}},
		"the first empty one":   {`{"cpu":1,"memory":64,"image":"a","disks":[{"source":"/x"},{"size":9},{"size":8}]}`, "", []virt.Disk{{Source: "/x"}, {Image: "a", Size: 9}, {Size: 8}}},
		"one of it is there":    {`{"cpu":1,"memory":64,"image":"a","disks":[{"size":9},{"image":"a"}]}`, "", []virt.Disk{{Size: 9}, {Image: "a"}}},
		"only disks that exist": {`{"cpu":1,"memory":64,"image":"a","disks":[{"source":"/x"}]}`, "", []virt.Disk{{Source: "/x"}}},
		"a container":           {`{"cpu":1,"memory":64,"image":"a","type":"container"}`, "", nil},
		"none":                  {`{"cpu":1,"memory":64,"disks":[{"size":9}]}`, "", []virt.Disk{{Size: 9}}},
	} {
		spec := vm(t, "web1", c.definition)
		if c.template != "" {
			spec.Args = map[string]string{"template": c.template}
		}
		d, err := p.Plan(t.Context(), spec)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			continue
		}
		got, err := virt.ParseDefinition(d.Definition)
		if err != nil || !reflect.DeepEqual(got.Disks, c.want) {
			t.Errorf("%s: the disks are %+v, want %+v (%v)", what, got.Disks, c.want, err)
		}
	}

	// What is no VM keeps its definition as it is.
	doc := registry.TrustedDocument(`{"cpu":1,"memory":64,"image":"a"}`)
	d, err := p.Plan(t.Context(), provisioner.Spec{ID: "p1", Type: "phone", Definition: doc})
	if err != nil || d.Definition.String() != doc.String() {
		t.Errorf("a phone is defined as %s, %v", d.Definition, err)
	}
}
