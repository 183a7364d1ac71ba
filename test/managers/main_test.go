package managers

import (
	"os"
	"testing"

	"github.com/vagoth/vagoth/test/fleet"
)

func TestMain(m *testing.M) {
	if code, is := fleet.Vagoth(); is {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// TestFaults is managers and agents as real processes, on networks that are cut.
func TestFaults(t *testing.T) {
	t.Parallel()
	run := fleet.Build(t)
	t.Run("ledger", func(t *testing.T) {
		t.Parallel()
		calls(t, run)
	})
	t.Run("restarts", func(t *testing.T) {
		t.Parallel()
		restarts(t, run)
	})
	t.Run("vms", func(t *testing.T) {
		t.Parallel()
		onOneHost(t, run)
	})
	t.Run("agents", func(t *testing.T) {
		t.Parallel()
		afterAgents(t, run)
	})
}
