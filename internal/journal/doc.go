// Package journal is a synced, checksummed, group-committed log of records with
// snapshots: what must survive a crash is appended here before it is acknowledged.
//
// A journal is a directory with four things in it:
//
//	lock       keeps a second process out (package lockfile)
//	log/       the records, in segments of etcd's write-ahead log
//	mark       how far the log has been synced
//	snap-N     the state after record N, written by the owner; the log before it is released
//
// [Open] gives the owner the snapshot and then every record after it, in order. [Journal.Append]
// returns when its records are on disk; callers that come while a sync runs share the next
// one. [Journal.WriteSnapshot] bounds the log, and [Journal.NeedsSnapshot] says when, in
// proportion to what a snapshot costs. [Group] is the group commit by itself, for
// owners that have more to do per batch than to append.
//
// # Promises
//
//   - A record that was acknowledged is there after SIGKILL and after power loss. One that
//     was not acknowledged may be there or not, but never without all those before it. A
//     batch is no unit: its beginning may survive without its end. One record is a unit.
//   - A damaged file gives a [CorruptError] with file and offset, or does no harm (padding,
//     unused space, what a snapshot covers); never other bytes than were written. Damage in
//     the middle of the log cannot pass as its end: see below.
//   - After an append failed for lack of space the log is cut back to the last acknowledged
//     record and goes on when there is space again. After any other failed write or sync
//     every call gives [ErrFailed] until the journal is opened again: what is on disk is
//     then unknown, as the kernel may forget pages that it could not write.
//
// # Where the log ends
//
// A write that was under way when the power went leaves a torn end, which must be cut off
// silently; a flipped bit in a synced record looks alike and must be refused. Three things
// tell them apart. The mark is written after each sync, before the acknowledgement: a log
// that ends before its mark is damaged. The mark itself is synced by Close, by a snapshot and by
// the kernel within half a minute, not by every append, so after a power loss it may be some
// batches behind. Therefore every record also carries the number of the last record synced
// before it was written: if behind unreadable bytes there is a record that vouches for what
// is missing, it is damage. What remains is one case: power was lost less than half a minute
// after the last batch, and a bit of that last batch, already synced, flips as well. Then
// the damaged record and those after it, all of that one batch, are cut off as a torn end.
//
// While it grows the log is filled with zeros some way ahead of its end, as a sync of space
// that was only reserved makes the file system write its own journal too; see ahead.go. A
// batch of 16 small records is synced in five sixths of the time then.
//
// # Why
//
// etcd's log (go.etcd.io/etcd/server/v3/storage/wal) and not hashicorp/raft-wal: the latter
// keeps its metadata in bbolt, whose pages carry no checksum, so that one flipped bit gives
// wrong data or a panic. etcd's chains a CRC through all records and checks it when reading.
// It does not suit as it is, so this package reads the log itself, with etcd's decoder, and
// lets etcd open only the last segment for writing:
//
//   - it takes a length of zero as the end, wherever it stands, and its repair cuts off at the
//     first torn record without asking whether it had been synced;
//   - the checksum does not cover a record's type, so a flip there hides an entry;
//   - its ReadAll keeps every entry in memory;
//   - it calls panic and os.Exit through its logger, which are turned into errors here;
//   - segments take 64 MB at once; see segment.go for how they become smaller.
//
// The mark is a file of two slots written in turn: a torn or flipped slot leaves the other.
package journal
