// Package testlong gives tests two lengths: a tenth for everyday, the full
// count for `make test-long`.
package testlong

import (
	"os"
	"strconv"
	"testing"
)

// Long reports whether the full counts are asked for.
func Long() bool { return os.Getenv("VAGOTH_LONG") == "1" }

// Count is long when the full counts are asked for and otherwise a tenth of it,
// at least 1.
func Count(t testing.TB, long int) int {
	t.Helper()
	if Long() {
		return long
	}
	return max(1, long/10)
}

// Seed is the seed of the test's random choices: VAGOTH_SEED, or 1. It is
// logged, so that a failure can be repeated.
func Seed(t testing.TB) int64 {
	t.Helper()
	seed := int64(1)
	if text := os.Getenv("VAGOTH_SEED"); text != "" {
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			t.Fatalf("VAGOTH_SEED=%q is not a number", text)
		}
		seed = n
	}
	t.Logf("VAGOTH_SEED=%d", seed)
	return seed
}
