//go:build !race

package cli_test

// plainly is for tests that are built with the race detector.
func plainly() (code int, again bool) { return 0, false }
