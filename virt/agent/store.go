package agent

import (
	"container/list"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vagoth/vagoth/internal/journal"
	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt/mistify"
)

// The sizes of a store.
const (
	MaxGuest      = mistify.MaxGuest
	maxBatch      = 256      // changes in one sync
	snapshotEvery = 16 << 20 // bytes of log
	keptFences    = 10_000   // of guests that are gone
)

// store is all that the agent remembers, in memory and in a journal. A change
// is in memory as soon as it is on disk, in the order in which it was written,
// and so nobody ever sees what a crash could take back.
//
// What is decided from what is stored (read, think, change) is done under the
// lock of the one guest that it is about, which is held until the change is
// there; see locks.
type store struct {
	log     *slog.Logger
	keep    int // ended jobs
	journal *journal.Journal
	group   *journal.Group[*change]
	writing sync.WaitGroup // snapshots
	snaps   atomic.Bool    // one is being written
	failed  chan struct{}  // closed when the journal takes nothing any more
	fail    sync.Once

	mu     sync.RWMutex
	guests map[string]*guest
	order  []string // their ids
	all    []byte   // what GET /guests answers; nil if a guest has changed since
	jobs   map[string]*entry
	byTime *list.List // of *entry, as they were queued
	ended  *list.List // of *entry, as they ended
	queues map[string]*queue
	open   int // jobs that have not ended
	fences map[string]trail.Token
	gone   []string // guests that are gone and have a fence, the oldest first
	meta   map[string]string
}

// entry is a job in the store. All of it is guarded by the store's lock.
type entry struct {
	now            *state
	time, own, end *list.Element
	done           chan struct{} // closed at its end; nil until somebody waits
}

// queue is the jobs of one guest, or of the host.
type queue struct {
	all     *list.List // of *entry, as they were queued, ended ones too
	waiting *list.List // of *entry, those that have not ended
}

func newStore(log *slog.Logger, keep int) *store {
	s := &store{
		log: log, keep: keep, failed: make(chan struct{}),
		guests: map[string]*guest{}, jobs: map[string]*entry{}, byTime: list.New(), ended: list.New(),
		queues: map[string]*queue{}, fences: map[string]trail.Token{}, meta: map[string]string{},
	}
	s.group = journal.NewGroup(maxBatch, s.commit)
	return s
}

// openStore opens the journal in dir, or a store that forgets everything if dir
// is empty.
func openStore(ctx context.Context, dir string, keep int, log *slog.Logger) (*store, error) {
	s := newStore(log, keep)
	if dir == "" {
		return s, nil
	}
	j, err := journal.Open(ctx, journal.Options{Dir: filepath.Clean(dir), Log: log, SnapshotEvery: snapshotEvery}, s)
	if err != nil {
		return nil, fmt.Errorf("cannot open the agent's store %s: %w", dir, err)
	}
	s.journal = j
	s.prune()
	return s, nil
}

func (s *store) close() error {
	err := s.group.Close(context.Background())
	s.writing.Wait()
	if s.journal == nil {
		return err
	}
	return errors.Join(err, s.journal.Close())
}

// do makes a change, together with those that come at the same time. It is done
// when do returns nil, and does not happen if there is an error.
func (s *store) do(ctx context.Context, c *change) error {
	if err := s.group.Do(ctx, c); err != nil {
		if errors.Is(err, journal.ErrClosed) {
			return errClosed
		}
		return err
	}
	return nil
}

func (s *store) commit(batch []*change, errs []error) {
	records := make([][]byte, 0, len(batch))
	for i, c := range batch {
		data, err := c.encode()
		if err == nil && len(data) > journal.MaxRecord {
			err = invalid("it needs %d bytes on disk, at most %d are taken at once", len(data), journal.MaxRecord)
		}
		if err != nil {
			errs[i] = err
			continue
		}
		records = append(records, data)
	}
	if s.journal != nil && len(records) > 0 {
		if _, err := s.journal.AppendBatch(context.Background(), records); err != nil {
			if errors.Is(err, journal.ErrFailed) {
				s.fail.Do(func() { close(s.failed) })
			}
			for i := range errs {
				if errs[i] == nil {
					errs[i] = fmt.Errorf("it cannot be written: %w", err)
				}
			}
			return
		}
	}
	s.mu.Lock()
	for i, c := range batch {
		if errs[i] == nil {
			s.apply(c)
		}
	}
	s.pruneLocked()
	s.mu.Unlock()
	s.perhapsSnapshot()
}

func value(e *list.Element) *entry { return e.Value.(*entry) } //nolint:forcetypeassert // the lists hold nothing else

// apply makes a change in memory. The caller holds the lock, or is alone.
func (s *store) apply(c *change) {
	if c.put != nil {
		s.putGuest(c.put)
	}
	for _, j := range c.jobs {
		s.putJob(j)
	}
	if c.drop != "" {
		s.dropGuest(c.drop)
	}
	if c.fence != nil {
		s.putFence(*c.fence)
	}
	if c.meta != nil {
		s.meta = c.meta
	}
}

func (s *store) putGuest(g *guest) {
	if s.guests[g.id] == nil {
		i, _ := slices.BinarySearch(s.order, g.id)
		s.order = slices.Insert(s.order, i, g.id)
		if _, fenced := s.fences[g.id]; fenced {
			s.gone = slices.DeleteFunc(s.gone, func(id string) bool { return id == g.id })
		}
	}
	s.guests[g.id] = g
	s.all = nil
}

func (s *store) dropGuest(id string) {
	if s.guests[id] == nil {
		return
	}
	i, _ := slices.BinarySearch(s.order, id)
	s.order = slices.Delete(s.order, i, i+1)
	delete(s.guests, id)
	s.all = nil
	if _, fenced := s.fences[id]; fenced {
		s.forgetLater(id)
	}
}

func (s *store) putFence(f fence) {
	_, had := s.fences[f.guest]
	if f.token.IsZero() {
		delete(s.fences, f.guest)
		s.gone = slices.DeleteFunc(s.gone, func(id string) bool { return id == f.guest })
		return
	}
	s.fences[f.guest] = f.token
	if !had && s.guests[f.guest] == nil {
		s.forgetLater(f.guest)
	}
}

// forgetLater keeps the fence of a guest that is gone, so that somebody late
// does not bring it back; but not of all guests that ever were.
func (s *store) forgetLater(id string) {
	s.gone = append(s.gone, id)
	if len(s.gone) > keptFences {
		delete(s.fences, s.gone[0])
		s.gone = slices.Delete(s.gone, 0, 1)
	}
}

// putJob replaces what is known of a job, in constant time.
func (s *store) putJob(j *state) {
	e := s.jobs[j.ID]
	if e == nil {
		e = &entry{now: j}
		s.jobs[j.ID] = e
		e.time = s.byTime.PushBack(e)
		q := s.queues[j.queue()]
		if q == nil {
			q = &queue{all: list.New(), waiting: list.New()}
			s.queues[j.queue()] = q
		}
		e.own = q.all.PushBack(e)
		e.end = q.waiting.PushBack(e)
		s.open++
	} else if e.now.Status.Ended() {
		return // an end is final
	}
	e.now = j
	if !j.Status.Ended() {
		return
	}
	s.open--
	s.queues[j.queue()].waiting.Remove(e.end)
	e.end = s.ended.PushBack(e)
	if e.done != nil {
		close(e.done)
		e.done = nil
	}
}

func (s *store) prune() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pruneLocked()
}

// pruneLocked forgets the oldest of the ended jobs. Nothing is written for that:
// they are forgotten again when the log is read.
func (s *store) pruneLocked() {
	for s.ended.Len() > s.keep {
		e := value(s.ended.Front())
		s.ended.Remove(e.end)
		s.byTime.Remove(e.time)
		q := s.queues[e.now.queue()]
		q.all.Remove(e.own)
		if q.all.Len() == 0 {
			delete(s.queues, e.now.queue())
		}
		delete(s.jobs, e.now.ID)
	}
}

// since is a time of the past as a job keeps it: without what is lost on disk.
func since(t time.Time) time.Time { return t.UTC().Round(0) }
