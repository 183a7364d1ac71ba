// Package drivertest is the conformance suite of virt.Driver: what every driver
// promises, each promise a named subtest. A driver's own test calls Run with a
// function that opens it.
//
// # Promises
//
//	Define/Appears            a defined guest is stopped, and Info and Status show it with its CPUs and memory
//	Define/Twice              defining what is already defined that way succeeds, running or not
//	Define/Changed            defining another definition changes a guest that does not run
//	Define/NameTaken          another guest's name is ErrConflict
//	Undefine/Forgets          an undefined guest is in no listing; its disks stay
//	Undefine/Busy             a guest that runs is not undefined: ErrBusy
//	Provision/Once            disks are made once; existing ones are never overwritten
//	Deprovision/Wipes         the disks that Provision made are wiped, defined or not; twice succeeds
//	Deprovision/OnlyItsOwn    sources and the disks of other guests stay
//	Deprovision/Busy          a guest that runs keeps its disks: ErrBusy
//	Power/StartStop           start, stop, each twice, and again
//	Power/Shutdown            a guest that is asked to shut down stops, and shutting down what is off succeeds
//	Power/Reboot              a guest that reboots runs afterwards; one that is off is refused
//	NotFound                  every call about a guest that is not there is ErrNotFound
//	Status/MatchesInfo        a complete listing says of each guest what Info says, each guest once
//	Status/ByUUID             a guest is found by its UUID, whatever it is called
//	Suspend                   suspend and resume, each twice; what is off is refused
//	Migrate/Live              a running guest moves and runs, on one host only
//	Migrate/Cold              a stopped guest moves with its disks
//	Capacity                  a host that says what it has says the same in a listing
//	Context/Cancelled         no call goes on after its context has ended
//	Context/Deadline          a host that does not answer is ErrUnreachable soon after the deadline
//	Concurrent/Guests         guests do not disturb each other
//	Concurrent/OneGuest       the same call many times at once succeeds every time
//	Hostile                   names, UUIDs and volumes outside of the allowlist are ErrInvalid and leave no trace
//	Snapshot/Create           snapshots are listed in the order in which they were made; a name is taken once
//	Snapshot/Rollback         the disks hold what they held; a guest that runs is ErrBusy
//	Snapshot/Newer            newer snapshots are in the way, or lost with leave
//	Snapshot/Delete           one goes, the others and the disks stay
//	Snapshot/Running          a guest that runs goes on while its snapshot is made, or it is ErrBusy
//	Snapshot/Download         what a disk held comes whole; a stream that nobody reads ends
//	Snapshot/Gone             Deprovision takes the snapshots with the disks
//	Snapshot/Refused          hostile names are ErrInvalid, guests that are not there ErrNotFound
//	Metrics                   each CPU, disk and NIC is measured, and those of a guest that runs move
//	Image/Fetch               a fetched image is complete and listed; twice succeeds; another source is ErrConflict
//	Image/Delete              a deleted image is gone, and can be fetched anew
//	Image/Refused             hostile IDs and sources are ErrInvalid and leave no trace
//	Image/Save                what a container has written becomes an image, once under a name and again for the same job; a VM is ErrUnsupported
//	Disk/Off, Disk/Live       a disk is attached, detached and attached again with what it holds, each twice
//	Console                   what a guest prints is read; the console ends with its context and its guest
//	Fenced                    of one guest a lower token than one seen before is ErrConflict, also when the guest is gone
//
// What is about a capability that the driver has not is skipped.
//
// # Why
//
// Actions and the monitor are tested against simulated hypervisors. That proves
// something about real ones only as far as both keep the same promises, so
// there is one suite for all of them.
package drivertest
