package scheduler

import (
	"context"
	"fmt"
	"iter"
	"strings"
)

// Store is what a scheduler has stored, opened with Deps.Still: no epoch begins in it,
// nothing is handed out, no lease runs out and no time goes by. It is a scheduler's
// optional capability; nobody else has the store open meanwhile.
type Store interface {
	// Held tells what it holds.
	Held(ctx context.Context) (Held, error)
	// Export yields all of it, as records that Import takes.
	Export(ctx context.Context) iter.Seq2[[]byte, error]
	// Import lets a store that is empty hold the records: all of them, or after an
	// error none. One that is not empty refuses with ErrConflict. Tokens of what it
	// holds then are greater than all that either store has given.
	Import(ctx context.Context, records iter.Seq2[[]byte, error]) error
	// Retire says that the jobs go on elsewhere, in words for people: from then on the
	// store is opened with Deps.Still only, else a RetiredError refuses. Without words it
	// is taken into use again.
	Retire(ctx context.Context, to string) error
	// Retired is where the jobs go on, and nothing if they do here.
	Retired() string
	Close() error
}

// RetiredError refuses a store whose jobs were copied into another, as two schedulers
// would do them twice. It is an ErrConflict.
type RetiredError struct{ To string }

func (e *RetiredError) Error() string {
	return fmt.Sprintf("its jobs were copied to %s, and go on there: use that configuration. If that copy is gone and none of its jobs has begun, vagoth scheduler reclaim takes this store into use again", e.To)
}

// Unwrap gives ErrConflict.
func (e *RetiredError) Unwrap() error { return ErrConflict }

// Held is what a Store holds.
type Held struct {
	Jobs     int    `json:"jobs"`     // that have not ended
	Running  int    `json:"running"`  // of them: in somebody's hands when the store was left
	Parked   int    `json:"parked"`   // of them
	Ended    int    `json:"ended"`    // jobs of the history
	Packages int    `json:"packages"` // that are being built
	Queues   int    `json:"queues"`   // that somebody has paused, drained or opened
	Keys     int    `json:"keys"`     // idempotency keys of jobs that are forgotten
	Records  int    `json:"records"`  // that Export yields
	SHA256   string `json:"sha256"`   // of all that, in no order; epochs and tokens to come apart
}

// Empty reports whether it holds nothing.
func (h Held) Empty() bool {
	return h.Jobs+h.Ended+h.Packages+h.Queues+h.Keys == 0
}

// String is such as "3 jobs (1 parked), 2 packages being built".
func (h Held) String() string {
	var parts []string
	add := func(n int, one, more string) {
		switch n {
		case 0:
		case 1:
			parts = append(parts, "one "+one)
		default:
			parts = append(parts, fmt.Sprintf("%d %s", n, more))
		}
	}
	add(h.Jobs, "job that has not ended", "jobs that have not ended")
	if len(parts) > 0 && h.Running+h.Parked > 0 {
		parts[0] += fmt.Sprintf(" (%d running, %d parked)", h.Running, h.Parked)
	}
	add(h.Ended, "that has", "that have")
	if h.Jobs == 0 && h.Ended > 0 {
		parts = parts[:0]
		add(h.Ended, "job that has ended", "jobs that have ended")
	}
	add(h.Packages, "package being built", "packages being built")
	add(h.Queues, "queue that was paused, drained or opened", "queues that were paused, drained or opened")
	add(h.Keys, "idempotency key", "idempotency keys")
	if len(parts) == 0 {
		return "nothing"
	}
	return strings.Join(parts, ", ")
}

// CopyStore lets to hold what from holds. If it does already, as after a copy whose
// end nobody saw, nothing is written and already is true. Else to must be empty.
func CopyStore(ctx context.Context, from, to Store, progress func(done int)) (already bool, err error) {
	source, err := from.Held(ctx)
	if err != nil {
		return false, err
	}
	target, err := to.Held(ctx)
	if err != nil {
		return false, err
	}
	if target.SHA256 == source.SHA256 {
		return true, nil
	}
	return false, to.Import(ctx, func(yield func([]byte, error) bool) {
		n := 0
		for r, err := range from.Export(ctx) {
			if !yield(r, err) || err != nil {
				return
			}
			n++
			if progress != nil {
				progress(n)
			}
		}
	})
}

// HandOver has the jobs go on in to: from is retired, with these words for people, and to
// is not. Between the two, neither can be used.
func HandOver(ctx context.Context, from, to Store, where string) error {
	if err := from.Retire(ctx, where); err != nil {
		return err
	}
	return to.Retire(ctx, "")
}

// CompareStores returns what both hold, or in which of the counts they differ.
func CompareStores(ctx context.Context, a, b Store) (Held, error) {
	ha, err := a.Held(ctx)
	if err != nil {
		return ha, err
	}
	hb, err := b.Held(ctx)
	if err != nil {
		return hb, err
	}
	if ha != hb {
		return hb, fmt.Errorf("they do not hold the same: %s, sha256 %.12s, and %s, sha256 %.12s", ha, ha.SHA256, hb, hb.SHA256)
	}
	return hb, nil
}
