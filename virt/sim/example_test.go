package sim_test

import (
	"context"
	"errors"
	"fmt"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/sim"
)

func Example() {
	ctx := context.Background()
	driver, err := sim.Open(ctx, sim.Defaults(), virt.DriverDeps{})
	if err != nil {
		panic(err)
	}
	host := virt.Host{ID: "host1"}
	guest := virt.Guest{ID: "web1", Name: "web1", UUID: "5f0c1c0e-7d3a-4c58-9a33-0c3f3c9f7a10", Definition: virt.Definition{CPU: 2, Memory: 1024}}
	if err := errors.Join(driver.Define(ctx, host, guest), driver.Power(ctx, host, guest, virt.PowerStart)); err != nil {
		panic(err)
	}
	info, err := driver.Info(ctx, host, guest)
	fmt.Println(info.Name, info.State, err)

	driver.Unreachable("host1")
	_, err = driver.Info(ctx, host, guest)
	fmt.Println(errors.Is(err, virt.ErrUnreachable))
	for _, call := range driver.Calls() {
		fmt.Println(call.Op, call.Err == nil)
	}
	// Output:
	// web1 running <nil>
	// true
	// define true
	// start true
	// info true
	// info false
}
