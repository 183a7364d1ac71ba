// Package storetest has the promises of a sub-agent that keeps images, disks,
// volumes and snapshots, and a subtest for each:
//
//	Life        an image is fetched once, disks begin as it or blank, what is asked for again is as it was, and all of it goes
//	Undo        takes back what was made for one job, and nothing else
//	Snapshots   of all disks or of one; their order, names, rollback over newer ones only if asked, parts that are gone
//	Download    a snapshot that was downloaded is an image again, with its content
//	Volumes     are made, cloned, listed and removed
//	Names       that are no single word are refused before anything is made
//	Races       many calls for one image are one download; no image goes that a disk needs
//	NotTaken    images that are damaged, name other files or are too large: nothing is visible, nothing is left
//	Wire        every method name that Mistify's config calls, over the wire
//	Reopened    a store that is closed and opened again has all of it
package storetest
