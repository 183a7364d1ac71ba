package engine

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vagoth/vagoth/internal/journal"
	"github.com/vagoth/vagoth/scheduler"
)

// refusing is a log that can be full.
type refusing struct {
	Log
	full  atomic.Bool
	tries atomic.Int64
}

func (r *refusing) AppendBatch(ctx context.Context, records [][]byte) (uint64, error) {
	if r.full.Load() {
		r.tries.Add(1)
		return 0, errors.New("no space left")
	}
	return r.Log.AppendBatch(ctx, records)
}

// TestRunEndsOnAFullDisk ends Run at once though the end of a job cannot be written,
// after one more try, and the job begins again when the store is opened.
func TestRunEndsOnAFullDisk(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		log := &refusing{}
		deps := scheduler.Deps{Actions: map[string]scheduler.Action{"do": {Name: "do", Run: func(context.Context, scheduler.Task) (any, error) {
			log.full.Store(true)
			return nil, nil
		}}}}
		open := func() *Engine {
			t.Helper()
			b, err := Open(t.Context(), testConfig(), deps, Ground{Open: func(ctx context.Context, load journal.Loader) (_ Log, err error) {
				log.Log, err = journal.Open(ctx, journal.Options{Dir: dir}, load)
				return log, err
			}})
			if err != nil {
				t.Fatal(err)
			}
			return b
		}
		b := open()
		ctx, end := context.WithCancel(t.Context())
		gone := make(chan error, 1)
		go func() { gone <- b.Run(ctx, scheduler.RunOptions{}) }()
		if _, err := b.Submit(t.Context(), scheduler.Package{Jobs: []scheduler.Job{{ID: "a", Queue: "q", Action: "do"}}}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(3*retryWrite + retryWrite/2) // it is tried meanwhile
		tried, began := log.tries.Load(), time.Now()
		if tried < 3 {
			t.Errorf("it was tried %d times", tried)
		}
		end()
		if err := <-gone; err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 0 {
			t.Errorf("Run ended %s after its context", took)
		}
		log.full.Store(false)
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
		b = open()
		if st, err := b.Status(t.Context(), "a"); err != nil || st.State != scheduler.Waiting {
			t.Errorf("it is %s, %v", st.State, err)
		}
		if err := b.Close(); err != nil {
			t.Fatal(err)
		}
	})
}
