package score_test

import (
	"context"
	"fmt"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/allocator/allocatortest"
	"github.com/vagoth/vagoth/allocator/score"
)

// A decision says of every host why it is the one, or why not.
func Example() {
	ctx := context.Background()
	cluster := allocatortest.NewStore( // a real one is a registry
		allocatortest.Host("h1", allocatortest.HostDefinition{Capacity: allocator.Resources{CPU: 8, Memory: 1024}}),
		allocatortest.Host("h2", allocatortest.HostDefinition{Capacity: allocator.Resources{CPU: 8, Memory: 4096}}),
		allocatortest.Thing("db", "h1", allocator.Resources{CPU: 2, Memory: 768}),
	)
	a, err := score.Open(ctx, score.Defaults(), allocatortest.Deps())
	if err != nil {
		fmt.Println(err)
		return
	}
	d, err := a.Decide(ctx, cluster.View(), allocator.Request{ID: "web", Need: allocator.Resources{CPU: 1, Memory: 512}})
	if err != nil {
		fmt.Println(err)
		return
	}
	for _, v := range d.Hosts() {
		fmt.Printf("%s chosen=%v %v\n", v.Host, v.Chosen, v.Ruled)
	}
	// Output:
	// h2 chosen=true []
	// h1 chosen=false [{memory 512 MB 256 MB free of 1024, 768 used}]
}
