// Package testlong gives tests their length and their seed.
//
// Counts that prove a promise (rounds of kill -9, flipped bits, racing clients) are
// written down once, at full length. A normal `go test` runs a tenth of them; with
// VAGOTH_LONG=1 it runs them all.
//
// # Why
//
// A count in one place cannot drift apart from the figure in the manual, and a tenth is
// enough that a planted bug still fails in the tests a person runs before a commit.
package testlong

import (
	"os"
	"strconv"
	"testing"
)

const (
	longEnv = "VAGOTH_LONG"
	seedEnv = "VAGOTH_SEED"

	defaultSeed = 20240229
)

// Long reports whether the full counts were asked for with VAGOTH_LONG=1.
func Long() bool { return os.Getenv(longEnv) == "1" }

// Count gives a tenth of long, at least 1, or all of it with VAGOTH_LONG=1.
func Count(t testing.TB, long int) int {
	t.Helper()
	n := count(long, Long())
	t.Logf("%d of %d rounds (%s=1 runs all)", n, long, longEnv)
	return n
}

func count(long int, full bool) int {
	if !full {
		long /= 10
	}
	return max(long, 1)
}

// Seed gives the seed of a test's randomness: VAGOTH_SEED, or a fixed one, so that a run
// can be repeated. It is logged.
func Seed(t testing.TB) int64 {
	t.Helper()
	seed := int64(defaultSeed)
	if s := os.Getenv(seedEnv); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			t.Fatalf("%s=%q is not a whole number: unset it, or give one such as 42", seedEnv, s)
		}
		seed = n
	}
	t.Logf("%s=%d", seedEnv, seed)
	return seed
}

// Missing skips the test because a part of the machine is not there, with the
// reason in one line. Where VAGOTH_CI is 1, as `make test` sets it for root, the
// part ought to be there and the test fails, so that nothing real is left out
// unseen.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("VAGOTH_CI") == "1" {
		t.Fatalf(format, args...)
	}
	t.Skipf(format, args...)
}
