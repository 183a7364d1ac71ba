package cli_test

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/vagoth/vagoth/test/etcdtest"
)

// TestEtcdScripts runs commands on a registry in Debian's etcd.
func TestEtcdScripts(t *testing.T) {
	t.Parallel()
	server := etcdtest.Run(t, etcdtest.Options{})
	t.Run("scripts", func(t *testing.T) { // they run beside each other, and end before etcd does
		testscript.Run(t, testscript.Params{
			Dir:           "testdata/etcd",
			Cmds:          map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "waitfor": waitfor, "answers": answers, "signal": sendSignal, "expand": expand},
			UpdateScripts: os.Getenv("UPDATE_SCRIPTS") == "1",
			Setup: func(e *testscript.Env) error {
				e.Setenv("ETCD", server.URL())
				return nil
			},
		})
	})
}

// expand puts the values of variables into a file.
func expand(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: expand FILE")
	}
	text := os.Expand(ts.ReadFile(args[0]), ts.Getenv)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(text), 0o600))
}
