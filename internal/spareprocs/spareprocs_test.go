package spareprocs_test

import (
	"runtime"
	"testing"

	"github.com/vagoth/vagoth/internal/spareprocs"
)

func TestTaken(t *testing.T) {
	t.Setenv("GOMAXPROCS", "")
	before := runtime.GOMAXPROCS(0)
	for range 2 { // a second one adds nothing
		spareprocs.Take()
		if n := runtime.GOMAXPROCS(0); n <= before || n > before+2 {
			t.Errorf("%d threads, %d before", n, before)
		}
	}
	spareprocs.Release()
	if n := runtime.GOMAXPROCS(0); n != before {
		t.Errorf("%d threads after it, %d before", n, before)
	}
}

func TestTheEnvironmentDecides(t *testing.T) {
	t.Setenv("GOMAXPROCS", "1")
	before := runtime.GOMAXPROCS(0)
	spareprocs.Take()
	if n := runtime.GOMAXPROCS(0); n != before {
		t.Errorf("%d threads, %d before", n, before)
	}
	spareprocs.Release()
}
