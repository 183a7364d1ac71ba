// Package qemuimg runs qemu-img for the sub-agents that keep disks, and looks at
// files from outside before any program of QEMU does.
//
// # Why
//
// A qcow2 file can name other files of the host, as its backing file or data
// file, and qemu would open them. So the header is read here first, qemu-img is
// asked once more, and what it says is checked. No format is ever left for
// qemu-img to guess: a guest can write a header of qcow2 into its raw disk.
package qemuimg
