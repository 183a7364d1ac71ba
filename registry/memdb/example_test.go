package memdb_test

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/registry/memdb"
)

func Example() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	r, err := memdb.Open(ctx, memdb.Defaults(), registry.Deps{Data: dir})
	if err != nil {
		panic(err)
	}
	defer r.Close()

	for _, d := range []registry.Draft{
		{ID: "hv1", Name: "rack1-top", Type: "hypervisor"},
		{ID: "web1", Name: "web1", Type: "vm", Parent: "hv1", Keys: []string{"ip-10.0.0.1"}, Tags: map[string]string{"role": "web"}},
	} {
		if _, err := registry.Create(ctx, r, d); err != nil {
			panic(err)
		}
	}
	_, err = registry.Create(ctx, r, registry.Draft{ID: "web2", Name: "web2", Type: "vm", Keys: []string{"ip-10.0.0.1"}})
	fmt.Println(err, errors.Is(err, registry.ErrConflict))

	nodes, err := registry.Collect(ctx, r, registry.Query{Tags: map[string]*string{"role": nil}})
	fmt.Println(nodes[0].Name(), "on", nodes[0].Parent(), err)
	fmt.Println(registry.Delete(ctx, r, "hv1"))
	// Output:
	// "ip-10.0.0.1" is held by node web1 true
	// web1 on hv1 <nil>
	// node hv1: 1 nodes stand on it (web1): move or delete them first
}
