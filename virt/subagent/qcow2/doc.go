// Package qcow2 reads the content of qcow2 files that qemu-img made here, that of
// a snapshot inside too, and gives it as a new qcow2 file that is nowhere on disk:
// an Image, whose bytes are made as they are read.
//
//	disk, err := qcow2.Open(file, qcow2.Options{Snapshot: "snap-x", Backing: image})
//	image, err := qcow2.NewImage(disk)
//	io.Copy(w, io.NewSectionReader(image, from, image.Length()-from))
//
// The length is known before, and the same content gives the same bytes every
// time; so a download that broke off can go on where it ended.
//
// # Why
//
// qemu-img cannot write a qcow2 to a pipe, as it writes the tables last, and a
// temporary file costs the room and the time of a whole disk for each download.
// Asking it for a raw stream would send every hole. What a reader needs is small:
// the clusters of a snapshot and its tables are never written again while the
// snapshot is there, also under a guest that runs, and so they can be read from
// beside it. The tables are gone through once, to know which clusters hold
// anything (one bit for 64 KiB is kept); then the new tables can be told before the
// first byte of content is read.
//
// The files are ours, but a guest that broke out of its QEMU could have written
// them: every offset, size and count is checked, nothing is allocated by what a
// file says without a bound, and no file is opened by a name in another.
// What qemu-img does not make here is refused: compressed or encrypted clusters,
// data in another file, extended tables.
//
// Plain tells of a file from outside whether it is one of those, and nothing more.
package qcow2
