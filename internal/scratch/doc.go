// Package scratch is a log of records that a killed process leaves behind whole, and
// that nothing waits for: a record is written to its file and not synced. It is for
// what is on its way to something durable, such as a package that is being built step
// by step, and may be begun again if the machine goes down meanwhile.
//
// What the kernel has taken survives the process. It need not survive the machine; and
// what is missing after a power cut cannot be told from what is there. So the file says
// in which boot of the machine it was written: after another one all of it counts as
// lost, and its owner is told so, rather than that the last few records are missing
// silently. A file that was closed in order is synced and holds all, whenever it is read.
//
// # Format
//
// A file begins with the line "vagoth-scratch 1 BOOT". Frames follow: the length of the
// record and its CRC-32C, four bytes each, big-endian, and the record. The last frame of
// a file that was closed in order has the length 0 and the sum of all before it.
//
// # Why
//
// A journal syncs before it answers, some 200 to 700 µs on the disks that we know. Who
// builds a package of ten jobs would wait for eleven of them, though the one that counts
// is the last, when it is enqueued.
package scratch
