// Package poll is the monitor that asks every host in turn of a clock and writes
// what it saw.
//
// A round asks the hosts side by side, each with a deadline. What a host says of
// the VMs that stand on it is written as soon as it answers. What takes more than
// one host to tell (a VM on two hosts, a VM without a host found on exactly one,
// a VM that nobody knows) is judged when all have answered or run out of time,
// from this round's listings and the last ones of the other hosts.
//
// # Why
//
// An observation is old when it arrives: between the listing and its writing an
// action may have started what the listing shows as stopped. So every node is
// read before its host is asked, and is written only if it still has the revision
// it had then. What is skipped is seen again in the next round.
//
// When a VM was last seen is kept in memory and written only when its state
// changes, and every evidence_every: a round that finds nothing new writes
// nothing, however many hosts there are.
//
// What is counted and compared over several rounds (listings without a VM, the
// last listings of hosts that cannot be asked now) is known to this process only.
// A single poll on the command line therefore finds no VM missing, and does not
// take back an alarm before it has asked all the hosts that it names.
//
// No driver is trusted to return. A call that outlives its deadline is left
// behind: its host is skipped, as "poll already under way", until it comes back,
// and nothing else waits for it. Close waits a few seconds for such calls and
// then names those that are still out.
package poll
