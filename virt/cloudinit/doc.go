// Package cloudinit makes the disk from which cloud-init in a guest reads what it
// is to do: NoCloud, a read-only ISO 9660 image with the label cidata and the files
// meta-data, user-data and, if a NIC has an address of its own, network-config.
//
//	iso, err := cloudinit.Disk(guest) // nil if the definition asks for none
//
// The same guest gives the same bytes, so whoever makes the disk twice has made it
// once. User-data may hold secrets: nothing here puts any of it into an error.
//
// # Why
//
// NoCloud needs neither a server that guests reach nor an agent in them, and every
// image with cloud-init reads it. What follows from the definition (instance-id,
// host name, network) is written as JSON, which is YAML, by encoding/json: nothing
// is pasted. The instance-id is the guest's UUID, so that its first boot is done
// once, also when it is defined again.
//
// An ISO 9660 of three files in one folder is a few fixed sectors, so it is written
// here and not by a library; the names are there in Rock Ridge and Joliet.
package cloudinit
