// Package store is what the sub-agents share that keep images, disks, volumes and
// snapshots: the methods and their names on the wire, what a name may be, how the
// disks of a guest are numbered, and who may do what at the same time.
//
// Package virt/subagent/storetest has the promises that each of them keeps.
//
// # Why
//
// A host has ZFS or it has not, and nothing above it should have to know. What
// stands here cannot differ.
package store
