package cli_test

import (
	"context"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
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
	if base := filepath.Base(os.Args[0]); base != "vagoth" { // that is a script's command
		if code, again := plainly(); again {
			os.Exit(code)
		}
	}
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
			ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
			code := cli.Run(ctx, standard.Menu(), env, os.Args[1:])
			stop()
			os.Exit(code)
		},
	})
}

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: false,
		Cmds:                map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "waitfor": waitfor},
		UpdateScripts:       os.Getenv("UPDATE_SCRIPTS") == "1",
		Setup: func(e *testscript.Env) error {
			// A program built with -race sleeps a second before it exits.
			e.Setenv("GORACE", "atexit_sleep_ms=10")
			return nil
		},
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

// waitfor waits until a file holds a match: waitfor out.txt 'web1 +vm +running'.
func waitfor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: waitfor FILE REGEXP")
	}
	re, err := regexp.Compile(args[1])
	ts.Check(err)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	var data []byte
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-tick.C {
		if data, err = os.ReadFile(ts.MkAbs(args[0])); err == nil && re.Match(data) {
			return
		}
	}
	ts.Fatalf("%s never matched %s:\n%s", args[0], args[1], data)
}
