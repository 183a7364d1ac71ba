// Package libvirt drives hosts over libvirt's RPC protocol.
//
// A Driver keeps, for every address that a host has, a few connections to
// libvirtd. Each call takes one of them for itself, under one deadline, and
// gives it back; a connection on which anything went wrong is closed and never
// used again. The next call dials anew, so that a libvirtd that was restarted
// costs the calls it interrupted and nothing else.
//
// A VM is known by its UUID. A domain that this package defined carries an
// element of ours in its metadata: the node, the tenant and the hash of the
// definition, so that defining it again the same way is seen to change nothing.
// A domain without that element was made by somebody else; it is started,
// stopped and listed, but never redefined.
//
// # Not trusting the host
//
// go-libvirt decodes in a goroutine of its own, where a frame that is too short
// is a panic that nothing can recover, and allocates what the peer's length
// prefixes say. So it never reads from the peer: it reads from a guard, which
// takes in one frame at a time, only the reply to the one call that is under
// way, and holds its length, header and every length prefix in it against what
// that procedure's reply looks like before it passes a byte on. Errors are
// rebuilt with a message of bounded length. Whatever else arrives closes the
// connection.
//
// # Why
//
// One connection serves one call at a time. Libvirtd reads at most five
// requests of a connection at once and go-libvirt takes no context, so on a
// shared connection a call that hangs holds up, and its deadline cuts off,
// calls that have nothing to do with it. On one of its own it costs itself.
// Reading calls and changing calls have their own share of the connections: the
// monitor never waits behind ten slow starts.
//
// The domain's XML is made of libvirtxml types, so that no text of ours or of
// anybody's is ever pasted into it. What the daemon cannot do is looked up in
// its domain capabilities and refused at define, before anything is changed.
//
// Disks are made through libvirt's own storage pools, not by writing files: it
// is the same for a host far away, and libvirtd refuses to overwrite. What that
// protocol does not have, images and snapshots as everywhere else, is package
// virt/libvirtdir.
package libvirt
