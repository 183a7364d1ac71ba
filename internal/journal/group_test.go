package journal

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestGroupGathersWhileCommitting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var batches [][]int
		odd := errors.New("odd")
		g := NewGroup(4, func(batch []int, errs []error) {
			batches = append(batches, slices.Clone(batch))
			time.Sleep(time.Second) // of the bubble's clock
			for i, v := range batch {
				if v%2 == 1 {
					errs[i] = odd
				}
			}
		})
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				if err := g.Do(context.Background(), i); errors.Is(err, odd) != (i%2 == 1) {
					t.Errorf("%d: %v", i, err)
				}
			})
			synctest.Wait() // the next one comes after it
		}
		wg.Wait()
		want := [][]int{{0}, {1, 2, 3, 4}, {5, 6, 7}}
		if !slices.EqualFunc(batches, want, slices.Equal) {
			t.Errorf("batches %v, want %v", batches, want)
		}
	})
}

func TestGroupOneCallerWaitsForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGroup(10, func([]int, []error) {})
		start := time.Now()
		for i := range 100 {
			if err := g.Do(t.Context(), i); err != nil {
				t.Fatal(err)
			}
		}
		if d := time.Since(start); d != 0 {
			t.Errorf("a caller alone waited %v", d)
		}
	})
}

func TestGroupWithdraws(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var seen []int
		g := NewGroup(2, func(batch []int, _ []error) {
			seen = append(seen, batch...)
			time.Sleep(time.Second)
		})
		results := make([]error, 6)
		var wg sync.WaitGroup
		do := func(i int, ctx context.Context) {
			wg.Go(func() { results[i] = g.Do(ctx, i) })
			synctest.Wait()
		}
		short := func(d time.Duration) context.Context {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			t.Cleanup(cancel)
			return ctx
		}
		do(0, short(time.Second/2)) // taken before its context ends
		do(1, short(time.Second/2)) // withdrawn while it is the next
		do(2, t.Context())
		do(3, short(3*time.Second/2)) // taken
		do(4, short(3*time.Second/2)) // withdrawn
		do(5, t.Context())
		wg.Wait()
		if !slices.Equal(seen, []int{0, 2, 3, 5}) {
			t.Errorf("committed %v", seen)
		}
		for i, err := range results {
			if gone := i == 1 || i == 4; errors.Is(err, context.DeadlineExceeded) != gone || (err != nil) != gone {
				t.Errorf("%d: %v", i, err)
			}
		}
		if err := g.Do(short(0), 9); err == nil {
			t.Error("a context that has ended was taken")
		}
		if err := g.Do(t.Context(), 10); err != nil {
			t.Error(err)
		}
	})
}

// TestGroupTurnIsNotLost ends contexts at the moment at which the turn is passed on.
func TestGroupTurnIsNotLost(t *testing.T) {
	g := NewGroup(1, func([]int, []error) {})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 500 {
				ctx, cancel := context.WithCancel(context.Background())
				wg.Go(cancel)
				if err := g.Do(ctx, i); err != nil && !errors.Is(err, context.Canceled) {
					t.Error(err)
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if err := g.Do(t.Context(), 0); err != nil {
		t.Error(err)
	}
	if err := g.Close(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestGroupPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := NewGroup(10, func(batch []int, _ []error) {
			time.Sleep(time.Second)
			if slices.Contains(batch, 1) {
				panic("one")
			}
		})
		var wg sync.WaitGroup
		results, panics := make([]error, 4), 0
		for i := range 4 {
			wg.Go(func() {
				defer func() {
					if recover() != nil {
						panics++
					}
				}()
				results[i] = g.Do(context.Background(), i)
			})
			synctest.Wait()
		}
		wg.Wait()
		// 0 alone; 1, 2 and 3 together, of which 1 runs the commit.
		if panics != 1 || results[0] != nil || !errors.Is(results[2], ErrPanicked) || !errors.Is(results[3], ErrPanicked) {
			t.Errorf("%d panics, %v", panics, results)
		}
		if err := g.Do(t.Context(), 7); err != nil {
			t.Errorf("afterwards: %v", err)
		}
	})
}

func TestGroupClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		g := NewGroup(1, func([]int, []error) { time.Sleep(time.Second); n++ })
		var wg sync.WaitGroup
		for i := range 3 {
			wg.Go(func() {
				if err := g.Do(context.Background(), i); err != nil {
					t.Error(err)
				}
			})
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		if err := g.Close(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Close: %v", err)
		}
		if err := g.Do(t.Context(), 9); !errors.Is(err, ErrClosed) {
			t.Errorf("Do after Close: %v", err)
		}
		for range 2 {
			if err := g.Close(t.Context()); err != nil || n != 3 {
				t.Errorf("Close: %v, %d committed", err, n)
			}
		}
		wg.Wait()
	})
}
