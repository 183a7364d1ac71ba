// Package sim simulates hypervisors in the process: thousands of hosts with
// dozens of guests each, that take their time, fail, hang and lie as they are
// told.
//
// A host comes into being when it is first addressed; its name is its address
// or, if it has none, its ID. Without a path the hosts live as long as the
// Driver. With one, each host is a file below it that is replaced as a whole
// when the host changes, so that commands typed one after the other see one
// cluster, and a killed process leaves every host as it was before or after its
// last call. Two processes that use one path at the same time do not see each
// other's changes.
//
// Tests steer hosts with the methods of Driver that virt.Driver does not have
// (Hang, Fail, Partial, AddStranger, Crash …), see what was asked of them with
// Calls, and learn from RanTwice whether a guest was ever started on a second
// host.
//
// # Why
//
// What matters about a hypervisor is where it goes wrong: the call that never
// returns, the answer that is lost after the deed, the listing that is half
// there. Those cannot be asked of a real one a thousand times a second. Time
// passes by the injected clock and takes effect when somebody looks, so there is
// no goroutine, and a thousand idle hosts cost nothing. The suite drivertest
// keeps the simulation honest.
package sim
