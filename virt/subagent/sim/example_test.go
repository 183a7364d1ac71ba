package sim_test

import (
	"context"
	"fmt"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	host "github.com/vagoth/vagoth/virt/sim"
	"github.com/vagoth/vagoth/virt/subagent/sim"
)

// A sub-agent over a simulated host, asked in the process; Register lets a
// mistify.Server answer for it.
func Example() {
	ctx := context.Background()
	d, err := host.Open(ctx, host.Defaults(), virt.DriverDeps{})
	if err != nil {
		fmt.Println(err)
		return
	}
	a := sim.New(d, virt.Host{ID: "h1"}, sim.Options{})
	g := &mistify.Guest{ID: "0f8fad5b-d9cb-469f-a165-70867728950e", CPU: 1, Memory: 512, Disks: []mistify.Disk{{Size: 1024}}}
	made, err := a.Create(ctx, &mistify.GuestRequest{Guest: g})
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(made.Guest.State, made.Guest.Disks[0].Device)
	// Output: running vda
}

func ExampleStages() {
	s := sim.Stages()[0]
	fmt.Println(s.Action, s.Method, s.Idempotent)
	// Output: create Sim.Create true
}
