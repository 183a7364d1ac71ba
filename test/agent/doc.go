// Package agent proves hosts with an agent of their own: a manager over the
// standard menu, its driver remote, agents on loopback, and sub-agents of
// simulated hosts.
//
//	TestLife       every action of a VM, with either scheduler, and the trail of each down to the host
//	TestRestart    an agent that is killed between two actions remembers its guests and the highest token
//	TestHosts      strangers are listed, a dead sub-agent proves nothing, an agent that answers is no dead host
//	TestFailures   hosts that lose requests and answers, behind agents: with retries every VM gets where it should, on one host
//	TestMove       what moves between agents, and what does not
//	TestDisksOfAGuestThatFails  the real disks of a guest that cannot be created are removed again, and no others
package agent
