// Package zfs is the sub-agent that keeps images, disks and snapshots in a ZFS
// pool, for hosts that have one. POOL/DATASET is the parent of all it makes:
//
//	images/ID            an image: a volume, and its snapshot @ID, which disks are clones of
//	guests/UUID          a guest; its snapshots @NAME are those of all its disks together
//	guests/UUID/disk-N   a disk of it: a volume, a clone of an image or blank
//	volumes/ID           a volume of no guest
//	half/RANDOM          what is being made or removed
//
// There is no other state: all that is answered is read from the pool. What an
// image is from stands in properties of it, vagoth:source, vagoth:sha256 and
// vagoth:sent. What is made, is made in half and renamed; what is removed, is
// renamed there first. Opening the store empties half. A snapshot of several
// disks is one act of ZFS; a rollback of several is not, so it is written down
// before it begins, in vagoth:pending, and done to its end.
//
// A disk is opened at /dev/zvol/POOL/DATASET/guests/UUID/disk-N. Where no udev
// makes that link, the store does, and mends it after a boot; what a link leads to
// is asked of the device itself before anybody is told.
//
// # Why
//
// The commands zfs and zpool are the interface that ZFS promises to keep. Every
// run of them has a deadline and a bound for what it writes, and holds the store's
// lock: a command that outlives a killed process keeps the next one from opening
// the store. go-zfs asks how the pool and its parent dataset are; what changes
// something, lists or streams is run here, because go-zfs takes no context, bounds
// no output, and has no snapshot of several disks with a property, no stream that
// is gone on with, and no receiving of a stream under a name of ours.
//
// An image comes from anybody. Of a stream the first record is read here before
// the kernel sees it: only a whole one of a single volume is taken, without
// properties, and it is received under our name, whatever it calls itself. A
// token to go on with a stream comes from anybody too, and names a snapshot: it
// is good only for the one that was asked for.
package zfs
