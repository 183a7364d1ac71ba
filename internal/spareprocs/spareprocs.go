// Package spareprocs lets goroutines run while threads wait for the disk.
//
// # Why
//
// The runtime runs goroutines on as many threads as there are cores. One that
// waits in fdatasync counts among them until the runtime notices, which may take
// as long as the sync itself; on two cores half of the process stands still
// meanwhile. With two more, commands over HTTP went through a sixth faster.
package spareprocs

import (
	"os"
	"runtime"
)

// spare is how many threads more there are than cores.
const spare = 2

// Take adds them until Release, unless the environment says how many there are.
func Take() {
	if os.Getenv("GOMAXPROCS") != "" {
		return
	}
	runtime.SetDefaultGOMAXPROCS()
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + spare)
}

// Release leaves it to the runtime again.
func Release() {
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.SetDefaultGOMAXPROCS()
	}
}
