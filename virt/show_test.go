package virt

import (
	"strings"
	"testing"

	"github.com/vagoth/vagoth/registry"
)

// What is shown of a node holds no user-data, however its members are written, and
// all else.
func TestShown(t *testing.T) {
	for in, want := range map[string]string{
		`{"cpu":1,"cloud_init":{"user_data":"hush","meta_data":"m"},"x":{"user_data":"not ours"}}`: `{"cloud_init":{"meta_data":"m"},"cpu":1,"x":{"user_data":"not ours"}}`,
		`{"Cloud_Init":{"User_Data":"hush","user_data":"hush"}}`:                                   `{"Cloud_Init":{}}`,
		`{"cpu":1}`: `{"cpu":1}`,
	} {
		doc, err := registry.ParseDocument([]byte(in))
		if err != nil {
			t.Fatal(err)
		}
		n := registry.NewNode(registry.Draft{ID: "web1", Name: "web1", Type: "vm", Definition: doc}, registry.Stamp{Revision: 7})
		shown := Shown(n)
		if got := shown.Definition().String(); got != want || shown.Revision() != 7 || shown.ID() != "web1" {
			t.Errorf("%s is shown as %s, want %s", in, got, want)
		}
		if n.Definition().String() != doc.String() || strings.Contains(shown.Definition().String(), "hush") {
			t.Errorf("%s: the node was changed, or tells", in)
		}
	}
	if Shown(nil) != nil {
		t.Error("nothing is shown as something")
	}
}
