// Package sim is a sub-agent that does every action of an agent to simulated
// hosts: guests, metrics, images, snapshots and the status of the host.
//
// It stands over a virt.Driver, which in practice is that of package virt/sim:
// guests and disks are the driver's, with its latency, its failures and its
// hangs. What drivers know nothing of, images and snapshots, is kept here, in
// memory: it ends with the process, and the snapshots of a guest end with its
// disks.
//
// Everything is consistent as far as a client can see. A snapshot holds what the
// disk held, and a rollback brings it back; a disk is cloned only from an image
// that was fetched; counters grow while a guest runs and stand still when it
// does not. Every method can be called again after an attempt whose end nobody
// saw, so that an agent's config may mark all of them idempotent but restart and
// reboot.
//
// # Why
//
// An agent is tested against what can go wrong on a host, and tried out on a
// machine that is none. The sub-agent takes a virt.Driver and not a simulated
// host, so that what is simulated is written once.
package sim
