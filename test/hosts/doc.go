// Package hosts proves agents of real hosts: libvirt with QEMU guests, disks in
// directories, and everything asked of the agent over REST.
//
//	TestLife      a guest from a fetched image: snapshots while it runs and not, rollback, a download that boots as another guest, metrics
//	TestMistify   the configuration of Mistify's agent drives the sub-agents unchanged, as processes of their own
//	TestWalk      the walk of docs/subagents.md, as it is typed there
package hosts
