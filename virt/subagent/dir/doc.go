// Package dir is the sub-agent that keeps images, disks and snapshots in plain
// directories, as qcow2 files that qemu-img makes: what a host without ZFS uses.
//
//	DIR/images/ID/image.qcow2      an image (or .raw), never written again, and image.json, where it is from
//	DIR/guests/UUID/disk-N.qcow2   a guest's disk (or .raw), backed by an image or blank
//	DIR/guests/UUID/snapshots/NAME a snapshot of all its disks; what they held is in the qcow2 files
//	DIR/guests/UUID/cidata.iso     what cloud-init in the guest is told
//	DIR/volumes/ID.qcow2           a volume of no guest
//	DIR/incoming, DIR/half         what is being downloaded and made
//	DIR/NAME                       a disk that somebody else makes and removes, of a guest whose
//	                               DIR/guests/UUID/adopted.json names it
//
// There is no other state: all that is answered is read from these files. What is
// made, is made in half, synced and renamed; what is removed, is renamed there
// first. Opening the store empties both folders. A change of several disks is
// written down before it begins, in guests/UUID/pending.json: a snapshot that did
// not end is taken back, a rollback or removal is done to its end. For which job of
// the agent disks are made is written down before they are, in guests/UUID/made.json:
// UndoGuestDisks removes these and no others.
//
// # Why
//
// An image comes from anybody. A qcow2 file can name other files of the host, as
// its backing file or data file, and qemu would open them. So the header is read
// here before any program of QEMU sees the file, qemu-img is asked once more, and
// what it says is checked. What is raw stays the file that came, and so does a
// qcow2 in which there is nothing but the content of one disk, uncompressed, as
// package virt/subagent/qcow2 finds: writing it again would take longer than
// the download. Of any other qcow2 the image is a new file that qemu-img wrote from
// the old one's content. No format is ever guessed by a program of QEMU: a guest
// can write a header of qcow2 into its raw disk, and below its qcow2 disk stands
// which format the image has.
//
// The disk of a guest that comes from another host is sent as an image, and the
// image's file becomes the disk: no copy, and nothing stands below it that has to
// stay. It leaves its folder for half before anything else is done to it.
//
// A download of a snapshot is made as it is read, by package virt/subagent/qcow2,
// which says why; it needs no room, and one that broke off can go on.
//
// Snapshots are those inside of qcow2. They leave the name of the disk's file as
// it is, so that no definition changes, and can be removed in any order. Their
// names begin with snap- in the file: qemu-img takes a name that is a number for
// an id. While a guest runs only its QEMU may write the files, and so it is asked,
// through a subagent.LiveSnapshotter; the result is the same as by qemu-img.
package dir
