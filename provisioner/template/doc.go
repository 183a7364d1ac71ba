// Package template provisions from templates and sizes, hands out addresses and
// asks hooks.
//
// A [template.NAME] is most of a definition, a [size.NAME] its CPUs, memory and
// disks; the arguments template=debian size=small expand into a full definition.
// What the spec says itself wins over the size, and the size over the template:
// objects are merged member by member, everything else, lists too, is replaced.
//
// A new virtual machine with an image gets a disk that is cloned from it (image.go),
// so that image=debian is all that is to be said.
//
// A [network.NAME] is a pool of addresses. Each NIC of a definition that names
// one gets an IP and a MAC address, unless it brings its own, in the transaction
// that makes the node; the node holds them as unique keys, so they are free
// again when it is gone. There is no other record of what is handed out.
//
// # Hooks
//
// A hook hears {"event", "phase", "node", "old", "trail"}. The before hook is
// asked about a plan in which every address is final; if it refuses, nothing
// has happened. Then exactly that plan is committed. If that fails, because
// somebody else took an address in the meantime or for any other reason, the
// before hook hears the same event with the phase "cancel", and in the first
// case is asked about a new plan. The after hook hears of what was committed; if
// it fails on "provision", the node is removed again; on "redefine" and
// "deprovision" the failure is reported and the change stands. A program that
// ends with another code than 0, or an answer 4xx, refuses; a hook that cannot
// be asked, fails (5xx) or is late stops the change too, as an error of its own.
// When the process dies between the phases, a hook may have heard of a node
// that does not exist: hooks take the same event twice, and a later one corrects
// an earlier.
//
// # Why
//
// A pool that counts up makes all requests race for the next number. Beginning
// at a hash of the node's ID, a thousand requests at once ask about a thousand
// different keys, and each guards only the one that it claims. Whether an
// address is free is asked of the registry alone, so no second list can drift
// from it.
package template
