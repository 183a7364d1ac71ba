// Package docker is the sub-agent of containers: it asks this host's dockerd for
// them, over its unix socket, with Docker's own client.
//
// A guest of type container is one container. It is called as the guest's id, and
// labels say whose it is:
//
//	vagoth.guest    the guest's id, again
//	vagoth.name     its name, which no two guests of a host have
//	vagoth.node     its node, and vagoth.tenant, whose it is
//	vagoth.made     a digest of what it was made as: image and networks
//	vagoth.job      the job of the agent that made it, so that its undo knows it
//
// An image that was saved has vagoth.saved, a digest of the guest and the job that
// it was saved for: who asks again for the same one knows it by that.
//
// A container is the sub-agent's if its name and its label both say so; images hand
// their labels down to containers, and one that was saved has those of its guest.
// Any other is never started, stopped, changed or removed, and not listed.
//
// What images are from is noted in the sub-agent's own directory, as dockerd keeps
// no such thing:
//
//	DIR/images/SHA256.json   of an image that came from a URL: from which
//	DIR/late/UUID.json       of a container that was given up before dockerd answered: for which job
//	DIR/incoming             what is being downloaded, emptied when it is opened
//
// There is no other state.
//
// # Why
//
// The container itself is the record of what was done, so there is nothing that
// could differ from it after a crash. Creating one is one act of dockerd, under a
// name that only one can have; what is done after it, further networks, is found
// missing and done when the same is asked again.
//
// A dockerd that hangs can make a container long after its job failed and was
// undone, when nothing was there to be removed. So what was given up is noted, and
// whether it was taken back: then the next listing, create or delete that finds a
// container of that guest and that job removes it. Without an undo, it is the one
// that the same job asked for again, and is adopted.
//
// dockerd is not trusted more than any other peer. Every call has a deadline,
// every answer a bound, and what it says is checked before it is a part of
// anything. That it cannot be asked is an error of that call, and no more: opening
// the sub-agent asks nothing of it. While it restarts, jobs are asked to come
// again.
//
// An archive from a URL comes from anybody, and names the images that it would
// become. So it is read before dockerd sees it, what it names is put aside for the
// one name that was asked for, and what it unpacks to is counted: dockerd bounds
// neither.
//
// A container has no disks: what it writes is in its own layer, and goes with it.
package docker
