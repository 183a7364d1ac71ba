// Package remote drives hosts through the agent that each of them runs.
//
// A hypervisor's definition names the driver and, as its address, the agent's
// host or URL. What the driver is asked to do becomes an action of the agent, and
// what the agent answers with is mostly a job, whose end the driver waits for
// with one request that the agent holds until then. The trail of who and why and
// the fencing token of the attempt travel in headers.
//
//	Status, Info, Capacity   GET /v1/status, a live listing
//	Define                   POST /guests/{id}/define
//	Undefine                 POST /guests/{id}/undefine
//	Provision, Deprovision   POST /guests/{id}/provision, deprovision
//	Power                    POST /guests/{id}/start, poweroff, shutdown, reboot
//	Suspend, Resume          POST /guests/{id}/suspend, resume
//	Snapshots …              GET and POST /guests/{id}/snapshots, and below; a download streams
//	Metrics                  GET /guests/{id}/metrics/cpu, disk and nic
//	Images, FetchImage …     GET and POST /images, and below
//	Console                  POST /guests/{id}/console, whose body and answer are the line
//	MigrateLive              define by the agent where it goes, then POST /guests/{id}/migrate where it runs
//	CopyDisks                GET /guests/{id}/disks/{n}/snapshots/{name}/download from one agent is PUT /images/{id}/content
//	                         to the other, which makes the disk of it (POST /guests/{id}/provision)
//	Settle                   PUT /v1/guests/{id}/fence
//
// An agent that has not one of these is a virt.ErrUnsupported. It is no
// virt.Migrator: a guest with disks moves while it is off, and one that runs only
// without. A disk is attached by defining the guest anew while it is off.
//
// # What an answer means
//
// An agent that cannot be reached, does not answer in time or answers nonsense
// is a virt.ErrUnreachable. One that answers with an error is there, and the host
// with it: Status says so with an error of another kind, as nobody may take such
// a host for dead. A call whose job is not known any more, or did not end in
// time, is a virt.ErrUnreachable too, as nobody knows what became of it.
//
// That a guest is not there is never concluded from what the agent remembers, but
// from what is on the host: a guest that the agent does not know and the host has
// is a virt.ErrConflict.
//
// # Why
//
// Undefine is never made of delete, nor Provision of create: a delete kills what
// runs and wipes its disks, a create starts what it makes. Half of a deed cannot
// be had by doing all of it.
//
// What a guest was defined as is noted on the agent when that was done, not with
// the request for it, so that a definition that failed half-way is done again.
//
// The token is sent only where it stays secret, over TLS or on this machine, and
// no redirect is followed: an agent has no reason to send anybody elsewhere.
package remote
