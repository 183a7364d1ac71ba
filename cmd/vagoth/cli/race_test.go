//go:build race

package cli_test

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/vagoth/vagoth/internal/testlong"
)

// plainly runs these tests in a program without the race detector, and returns its exit
// code; again is false in the full count, where they run with it. The scripts start some
// seven hundred programs, which take 0.4 s of processor time each to begin and to end with
// it, and 0.15 s without.
func plainly() (code int, again bool) {
	if testlong.Long() {
		return 0, false
	}
	dir, err := os.MkdirTemp("", "cli-test")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1, true
	}
	defer func() { _ = os.RemoveAll(dir) }()
	program := filepath.Join(dir, "cli.test")
	build := exec.Command("go", "test", "-c", "-o", program, ".")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "cannot build these tests without the race detector:", err)
		return 1, true
	}
	run := exec.Command(program, os.Args[1:]...) //nolint:gosec // what was built a moment ago
	run.Stdout, run.Stderr = os.Stdout, os.Stderr
	err = run.Run()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		fmt.Fprintln(os.Stderr, err)
		return 1, true
	}
	return run.ProcessState.ExitCode(), true
}
