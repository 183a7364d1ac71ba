// Package e2e proves the whole of vagoth on real hypervisors: the Go API and
// the command line over the standard menu, libvirtd and QEMU.
//
//	TestLife            a guest from new to delete, seen on its own serial console
//	TestHostFails       libvirtd is killed: unknown, with the evidence's age, nothing unassigned; confirm-down
//	TestFound           an unknown domain is adopted, a VM without a host is assigned where it is found
//	TestSeenTwice       one VM on two libvirtds raises the alarm
//	TestOneMAC          two VMs with one MAC are refused
//	TestSick            a hostile, a silent and a stopped libvirtd delay nobody
//	TestQuickstart      the README's first command with --libvirt
package e2e
