package agent

import (
	"context"
	"iter"
	"maps"
	"slices"
)

// Replay takes a record when the journal is opened.
func (s *store) Replay(_ uint64, record []byte) error {
	c, err := decodeChange(record)
	if err != nil {
		return err
	}
	s.apply(c)
	return nil
}

// Restore takes a snapshot, which is records too.
func (s *store) Restore(_ uint64, records iter.Seq2[[]byte, error]) error {
	for r, err := range records {
		if err != nil {
			return err
		}
		if err := s.Replay(0, r); err != nil {
			return err
		}
	}
	// The records are in the order in which jobs were queued, not in that in which they ended.
	ended := make([]*entry, 0, s.ended.Len())
	for e := s.ended.Front(); e != nil; e = e.Next() {
		ended = append(ended, value(e))
	}
	slices.SortStableFunc(ended, func(a, b *entry) int { return a.now.UpdatedAt.Compare(b.now.UpdatedAt) })
	s.ended.Init()
	for _, e := range ended {
		e.end = s.ended.PushBack(e)
	}
	return nil
}

// perhapsSnapshot begins a snapshot when the log has grown enough. It is called
// by one goroutine at a time, between two batches.
func (s *store) perhapsSnapshot() {
	if s.journal == nil || !s.journal.NeedsSnapshot() || !s.snaps.CompareAndSwap(false, true) {
		return
	}
	index := s.journal.Stats().LastIndex
	records := s.freeze()
	s.writing.Go(func() {
		defer s.snaps.Store(false)
		if err := s.journal.WriteSnapshot(context.Background(), index, records); err != nil {
			s.log.Error("agent: the log cannot be shortened, it grows", "err", err)
		}
	})
}

// freeze is the store as it is now, as records. What it refers to does not
// change, so nothing is copied but references.
func (s *store) freeze() iter.Seq2[[]byte, error] {
	s.mu.RLock()
	defer s.mu.RUnlock()
	changes := make([]change, 0, len(s.guests)+len(s.jobs)+len(s.fences)+1)
	changes = append(changes, change{meta: maps.Clone(s.meta)})
	for _, id := range s.order {
		changes = append(changes, change{put: s.guests[id]})
	}
	for e := s.byTime.Front(); e != nil; e = e.Next() {
		changes = append(changes, change{jobs: []*state{value(e).now}})
	}
	for _, id := range s.gone { // first, so that they are the oldest again
		changes = append(changes, change{fence: &fence{guest: id, token: s.fences[id]}})
	}
	for id, t := range s.fences {
		if s.guests[id] != nil {
			changes = append(changes, change{fence: &fence{guest: id, token: t}})
		}
	}
	return func(yield func([]byte, error) bool) {
		for i := range changes {
			data, err := changes[i].encode()
			if !yield(data, err) || err != nil {
				return
			}
		}
	}
}
