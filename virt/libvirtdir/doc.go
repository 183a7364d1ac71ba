// Package libvirtdir is the driver libvirt: package virt/libvirt, and on hosts
// whose disks are in a directory of this machine what the sub-agent dir does with
// disks: images, disks that begin as one, snapshots, rollback and downloads.
//
// The directory is that of the driver's storage pool. The disks in it are called
// and made as without images; the store of package virt/subagent/dir, in the same
// directory, is told which of them are a guest's. It is opened when something is
// first asked of it, and one process has it at a time.
//
// # Why
//
// What a snapshot is, and what must not happen to an image, is the same for a
// manager that has its only libvirtd beside it as for an agent: so it is the same
// code. Of a libvirtd elsewhere libvirt's protocol gives no file and no program
// run; an agent on that host does it all, and so such a host is refused with the
// advice to run one. Consoles, which are terminals of the host, are alike; disks
// are attached and guests measured wherever the libvirtd is.
package libvirtdir
