// Package libvirt is the sub-agent that runs an agent's guests on the host's own
// libvirt. It stands over a virt.Driver, that of package virt/libvirt: what is
// done to a domain, and how little a libvirtd is trusted, is that package's.
//
// It makes no disks. Where they are, a store says in the guest's disks: it is the
// sub-agent whose stage comes before. A disk that nobody has given a source is
// refused.
//
// # Why
//
// The guest of the wire is what people and other sub-agents wrote; a definition
// is what a domain is made of. What is of no meaning to a domain, such as the
// image that a disk was cloned from, is left out of the definition, so that it
// never makes one domain differ from another.
package libvirt
