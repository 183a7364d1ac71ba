// Package fetch downloads images for the sub-agents that keep them, and takes
// those that are sent.
//
// A download is written into a file that nobody takes for an image, is measured
// and hashed while it comes, unpacked if it is packed (gzip, xz, zstd), and only
// then handed on, or synced and renamed to its name. Whatever goes wrong, nothing is
// left behind; what a killed process left is swept when the folder is opened
// again.
//
// # Why
//
// The URL comes from a person, and what it names from anybody. So the address
// is checked where it cannot change any more, at the dial and after the name was
// resolved, for redirects too; everything is bounded, in bytes as they are sent,
// in bytes as they are unpacked, in time as a whole and in time without
// progress; and nothing unfinished has a name. A download of which nobody could
// tell that it is whole (no length, no chunks, no sum) is refused. What is sent
// comes from whoever may ask for anything here, and is bounded and checked the same:
// he may pass on what is not his. His word that it ended is the stream's own end,
// so its reader must fail where it was cut.
//
// Reading, summing and writing go on side by side, each in blocks of its own: in
// one goroutine they take their times together. What is kept goes to the disk
// meanwhile, so that the sync at the end has little left.
//
// The container of xz is read here and only its LZMA2 is left to a library: the
// library allocates the dictionary that the file asks for, up to 4 GiB.
package fetch
