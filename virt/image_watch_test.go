package virt_test

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vagoth/vagoth/virt"
)

// What is told grows, and nothing is told once stop has returned.
func TestWatchFetch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		looks := []struct {
			done, total int64
			under       bool
		}{{0, -1, true}, {5, -1, true}, {3, 9, true}, {7, 9, false}, {5, 9, true}, {8, 9, true}, {9, 9, true}}
		i, told := 0, [][2]int64{}
		stop := virt.WatchFetch(t.Context(), time.Second, func(context.Context) (int64, int64, bool) {
			l := looks[i]
			i++
			return l.done, l.total, l.under
		}, func(done, total int64) { told = append(told, [2]int64{done, total}) })
		time.Sleep(6*time.Second + time.Millisecond)
		stop()
		time.Sleep(time.Minute)
		if want := [][2]int64{{5, 0}, {8, 9}}; !slices.Equal(told, want) || i != 6 {
			t.Errorf("told %v after %d looks, want %v after 6", told, i, want)
		}
	})
	virt.WatchFetch(t.Context(), time.Second, nil, nil)() // nobody wants to know
}
