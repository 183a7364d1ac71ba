// Package managers tests what several managers that share a cluster on etcd promise
// together.
//
//	TestOnePollerAHost   each host is polled by one of them at a time
//	TestFaults/ledger    managers that are held, killed, cut off or lose their lease: tokens, order and ends of jobs as the hosts see them
//	TestFaults/restarts  managers and members of etcd are started again one after the other, under load
//	TestFaults/vms       managers are killed in the middle of start and migrate, of VMs that run and of others, and answers of agents lost: no VM runs on two real hosts
//	TestFaults/agents    an agent is killed amid a move that its libvirtd goes on with: the VM is on one host, where the registry says
package managers
