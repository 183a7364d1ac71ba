// Package hosts proves agents of real hosts: libvirt with QEMU guests, disks in
// directories, and everything asked of the agent over REST.
//
//	TestLife      a guest from a fetched image: snapshots while it runs and not, rollback, a download that boots as another guest, metrics
//	TestMistify   the configuration of Mistify's agent drives the sub-agents unchanged, as processes of their own
//	TestCluster   two such hosts and a manager above them: placed, started, snapshotted, moved while off, and an agent that is stopped
//	TestConsole   a manager elsewhere at the serial console of a guest
//	TestKilled    the agent is killed while guests and images come and go: none without its domain and disks, and none of these without a guest
//	TestWalk      the walk of docs/subagents.md, as it is typed there
//
// And of hosts with a dockerd, with containers:
//
//	TestContainerWalk      the walk of docs/subagents.md: images from a registry and a URL, and a container's life
//	TestMistifyContainers  the configuration of Mistify's agent drives them unchanged
//	TestContainersKilled   the agent is killed while containers and images come and go
//	TestContainerCommands  a manager above, by its commands, over the agent and on a simulated host
package hosts
