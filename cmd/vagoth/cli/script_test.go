package cli_test

import (
	"context"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/vagoth/vagoth/cmd/vagoth/cli"
	"github.com/vagoth/vagoth/manager/standard"
)

// TestMain lets the scripts run vagoth as a program of its own, so that what
// one command leaves behind is what the next one finds.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"vagoth": func() {
			env := cli.System()
			env.Who = "tester"
			if text := os.Getenv("CLOCK_AHEAD"); text != "" {
				d, err := time.ParseDuration(text)
				if err != nil {
					panic(err)
				}
				env.Now = func() time.Time { return time.Now().Add(d) }
			}
			os.Exit(cli.Run(context.Background(), standard.Menu(), env, os.Args[1:]))
		},
	})
}

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: false,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") == "1",
	})
}

// exits runs vagoth and checks its exit code: exits 4 rename web1 web2.
func exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits CODE ARG...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec("vagoth", args[1:]...)
	got := 0
	if err != nil {
		var code interface{ ExitCode() int }
		if e, ok := err.(interface{ ExitCode() int }); ok {
			code = e
			got = code.ExitCode()
		} else {
			ts.Fatalf("vagoth did not run: %v", err)
		}
	}
	if got != want {
		ts.Fatalf("vagoth %v exited with %d, not %d", args[1:], got, want)
	}
}
