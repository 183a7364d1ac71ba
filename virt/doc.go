// Package virt is virtual machines and the hosts that run them.
//
// A Definition says what a VM ought to be; a node of type vm holds it. A Driver
// does to hosts what it is told and reports what it sees. VirtualMachine and
// Hypervisor are views of nodes with verbs: a verb submits a job on the VM's own
// queue, reading asks the registry or the driver at once.
//
//	vm, err := virt.VM(ctx, m, "web1")
//	job, err := vm.Start(ctx) // define first, if it has no host
//	state, err := vm.State(ctx)
//
// # Why
//
// What a driver must be able to do is seven idempotent methods; what only some
// can (Suspender, Migrator, LiveMigrator, DiskMover, Measurer, Consoler,
// Snapshotter, Meter, Imager, Saver, DiskAttacher) is found by type assertion, so
// that a new kind of hypervisor is small work. Idempotence is what makes recovery
// simple: after an attempt that ended without an answer, the same call
// is made again.
//
// A State is what was seen, never what is wished, and "unknown" is one of them.
// Nothing is concluded from silence: only ConfirmDown, a person's word, frees
// the VMs of a host that does not answer.
package virt
