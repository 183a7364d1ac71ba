// Package gcroom gives the garbage collector room in a process that keeps little
// and throws much away.
//
// # Why
//
// The collector runs whenever the heap has doubled. A daemon whose stores hold a
// few megabytes would collect them many times a second under load, an eighth of
// the processor's time with packages over HTTP. A larger percentage for the
// collector would help as well, and cost gigabytes where the stores are large.
package gcroom

import "runtime"

// size bounds the memory that this costs.
const size = 64 << 20

// Room is a piece of the heap that is never touched, so that no memory stands
// behind it: the collector lets as much garbage gather beside it.
type Room []byte

// Take makes room until Release.
func Take() Room { return make(Room, size) }

// Release gives the room back.
func (r Room) Release() { runtime.KeepAlive(r) }
