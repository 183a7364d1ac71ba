// Package monitortest is the conformance suite of monitor.Monitor: what every
// monitor promises, each promise a named subtest. It drives the monitor with
// simulated hypervisors and a registry in memory, in the time of
// testing/synctest.
//
// # Promises
//
//	State/Written            the state of host and VMs is what the host says, with its evidence and its trail
//	State/NothingNew         a poll that changes nothing writes nothing
//	State/EvidenceEvery      the time of the last sight is written now and then
//	State/Capacity           what the host has is written when it changes
//	State/Reports            the report names every host that was polled, in order, and every change of state once
//	Unreachable/Unknown      a host that cannot be asked is unreachable, its VMs unknown, with the age of the last evidence
//	Unreachable/NothingElse  nothing is moved, unassigned, restarted or written twice for it
//	Unreachable/Back         it flips back with the next answer
//	Unreachable/AtLeast      another process knows the evidence that was written last
//	Unreachable/Reason       what a host says in its errors is bounded and printable
//	Down/Stays               a host confirmed to be down stays down while it does not answer
//	Down/Answers             a host confirmed to be down that answers is up, and that is reported
//	Missing/AfterSeveral     a VM missing from several complete listings is missing, and back when it is seen
//	Missing/Partial          a partial listing proves nothing
//	Missing/Job              a VM with a job in flight is not missing; a parked one is not in flight; only its queue is asked for
//	Missing/Revision         a VM that was changed meanwhile is counted anew
//	Twice/Alarm              a VM on a second host is an alarm, cleared when it is so no more; nothing is stopped
//	Twice/Remembered         the last listing of a host that cannot be asked counts
//	Twice/Restart            an alarm outlives the process until all its hosts have been asked
//	Twice/Migrating          the host that a VM moves to is no second one
//	Twice/Moved              a VM that was moved since a listing is on one host
//	Twice/Late               so is one that was seen where it was moving to, and is back; the last word of a host that cannot be asked counts
//	Assign/One               a VM without a host that is found on exactly one is assigned
//	Assign/NotTwo            found on two it is an alarm
//	Assign/Job               with a job in flight it is left alone
//	Assign/NotAll            while a host has not been asked it is left alone
//	Unknown/Stranger         unknown VMs are listed, bounded and printable, and taken off the list again
//	Unknown/Adopted          or adopted, under the host's name for them if it is one and free
//	Race/OlderObservation    an observation does not overwrite what was written since
//	Race/AllSkipped          nor does an answer that did not come
//	Deadline/Hung            a host that hangs delays nobody beyond its own deadline
//	Deadline/Deaf            a driver that ignores its context is left behind and its host not asked again until it returns
//	Deadline/NeverTwice      two polls never ask one host at once
//	Deadline/Panic           a panic in a driver is contained to its host
//	Deadline/Cancelled       a poll that is ended writes nothing of hosts that did not answer
//	Run/Schedule             Run polls on its schedule until its context ends
//	Run/HungHost             the other hosts are polled on schedule while one hangs
//	Hosts/Refused            a host that is none is refused, one without a driver is unreachable
//	Close                    a closed monitor refuses to poll
//
// # Why
//
// These rules decide whether a guess of a program can destroy a disk. They hold
// for every monitor, so they are proved against the contract.
package monitortest
