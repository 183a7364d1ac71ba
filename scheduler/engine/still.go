package engine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	gosync "sync"

	"github.com/vagoth/vagoth/scheduler"
)

// Still is what a log holds, read and not begun: a scheduler.Store. What was in the
// hands of somebody when the log was left is copied so. Whoever opens the copy does
// then what opening the original would have done: attempts within a manager are lost
// and begin again, those of workers outside have their leases anew.
type Still struct {
	cfg settings
	log Log

	mu   gosync.Mutex
	core *core
	held *scheduler.Held // of the core, once it was counted
}

var (
	_ scheduler.Store     = (*Still)(nil)
	_ scheduler.Scheduler = (*Still)(nil)
)

// OpenStill reads a log, and writes nothing to it before Import.
func OpenStill(ctx context.Context, cfg Config, on Ground) (*Still, error) {
	s := &Still{}
	s.cfg.set(cfg.withDefaults())
	s.core = s.empty()
	j, err := on.Open(ctx, &loader{core: s.core})
	if err != nil {
		return nil, err
	}
	s.log = j
	if on.Drafts == "" {
		return s, nil
	}
	d, lost, err := readDrafts(s.core, on.Drafts, on.Boot)
	if err == nil {
		err = d.log.Leave()
	}
	if err == nil && len(lost) > 0 {
		err = fmt.Errorf("%w: the machine went down while packages were being built (%s): start its manager once, which drops them",
			scheduler.ErrConflict, strings.Join(lost[:min(len(lost), 10)], ", "))
	}
	if err != nil {
		return nil, errors.Join(err, j.Close())
	}
	return s, nil
}

func (s *Still) empty() *core {
	return newCore(&s.cfg, func(string, *queue) bool { return false })
}

// Held implements scheduler.Store.
func (s *Still) Held(ctx context.Context) (scheduler.Held, error) {
	s.mu.Lock()
	known := s.held
	s.mu.Unlock()
	if known != nil {
		return *known, nil
	}
	var sums [][]byte
	for r, err := range s.Export(ctx) {
		if err != nil {
			return scheduler.Held{}, err
		}
		if r[1] != snapHead {
			sum := sha256.Sum256(r)
			sums = append(sums, sum[:])
		}
	}
	slices.SortFunc(sums, slices.Compare)
	all := sha256.New()
	for _, sum := range sums {
		_, _ = all.Write(sum) // never fails
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.core
	h := scheduler.Held{
		Running: c.count[running], Parked: c.count[parked], Ended: c.ended.n, Jobs: len(c.jobs) - c.ended.n,
		Packages: c.packs.building, Queues: len(c.modes), Keys: len(c.stones.byKey), Records: len(sums) + 1, SHA256: hex.EncodeToString(all.Sum(nil)),
	}
	s.held = &h
	return h, nil
}

// Export implements scheduler.Store. Its records are those of a snapshot.
func (s *Still) Export(ctx context.Context) iter.Seq2[[]byte, error] {
	return func(yield func([]byte, error) bool) {
		s.mu.Lock()
		records := s.core.snapshot(&s.mu)
		s.mu.Unlock()
		for r, err := range records {
			if err == nil {
				err = ctx.Err()
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

// Import implements scheduler.Store. The records take the place of the log in one
// step, as a snapshot does.
func (s *Still) Import(ctx context.Context, records iter.Seq2[[]byte, error]) error {
	had, err := s.Held(ctx)
	if err != nil {
		return err
	}
	if !had.Empty() {
		return fmt.Errorf("%w: the target holds %s already: only an empty one takes a copy", scheduler.ErrConflict, had)
	}
	fresh := s.empty()
	take := &restorer{c: fresh, packs: map[string]*pack{}}
	err = s.log.WriteSnapshot(ctx, s.log.Stats().LastIndex, func(yield func([]byte, error) bool) {
		n := 0
		for r, err := range records {
			if n++; err == nil {
				r, err = s.imported(take, r, n)
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
		if err := take.done(); err != nil { // before it is all there
			yield(nil, fmt.Errorf("the records do not fit together: %w", err))
		}
	})
	if err != nil {
		return fmt.Errorf("cannot write the copy: %w", err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.core, s.held = fresh, nil
	return nil
}

// imported is a record as it is to stand in this store.
func (s *Still) imported(take *restorer, r []byte, n int) ([]byte, error) {
	if head := len(r) > 1 && r[1] == snapHead; head != (n == 1) {
		return nil, fmt.Errorf("record %d is out of its place: it is no copy of a scheduler", n)
	}
	if err := take.one(r); err != nil {
		return nil, fmt.Errorf("record %d cannot be read: %w", n, err)
	}
	if n > 1 {
		return r, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c := take.c
	// Also beside an original that is opened again, by a clock that stands before both.
	c.epoch, c.number = max(c.epoch, s.core.epoch)+1, 0
	c.store = s.core.store
	return c.head(), nil
}

// Retired implements scheduler.Store.
func (s *Still) Retired() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.core.retired
}

// Retire implements scheduler.Store.
func (s *Still) Retire(ctx context.Context, to string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.core.retired == to {
		return nil
	}
	e := &enc{}
	encode(e, &retired{to})
	if _, err := s.log.AppendBatch(ctx, [][]byte{e.b}); err != nil {
		return fmt.Errorf("cannot mark the store: %w", err)
	}
	s.core.retired = to
	return nil
}

// Close implements scheduler.Store.
func (s *Still) Close() error { return s.log.Close() }

var errStill = fmt.Errorf("%w: it is open for a copy, and does nothing else", scheduler.ErrUnsupported)

// Submit implements scheduler.Submitter, and refuses.
func (s *Still) Submit(context.Context, scheduler.Package) ([]scheduler.Status, error) {
	return nil, errStill
}

// Status implements scheduler.Inspector, and refuses, as do the others.
func (s *Still) Status(context.Context, string) (scheduler.Status, error) {
	return scheduler.Status{}, errStill
}

// List implements scheduler.Inspector.
func (s *Still) List(context.Context, scheduler.Filter) iter.Seq2[scheduler.Status, error] {
	return func(yield func(scheduler.Status, error) bool) { yield(scheduler.Status{}, errStill) }
}

// Wait implements scheduler.Inspector.
func (s *Still) Wait(context.Context, string) (scheduler.Status, error) {
	return scheduler.Status{}, errStill
}

// Log implements scheduler.Inspector.
func (s *Still) Log(context.Context, string) ([]scheduler.Line, error) { return nil, errStill }
