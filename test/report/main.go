// Command report reads what `go test -json` writes and prints what a person wants of it: a line for each package as go test prints it, all
// output of what failed, the reason of each skipped test, and at the end one line, "N passed, N failed".
//
//	go test -json ./... | go run ./test/report
//	go test -json ./... | go run ./test/report -passed 4 -failed "lint docs"    counts checks that ran before
package main

import (
	"bufio"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

func main() {
	passed := flag.Int("passed", 0, "number of `checks` that passed before")
	failed := flag.String("failed", "", "`names` of checks that failed before, with blanks between")
	flag.Parse()
	c := counter{passed: *passed, failed: strings.Fields(*failed)}
	if !c.run(os.Stdin, os.Stdout) {
		os.Exit(1)
	}
}

// event is one line of `go test -json`; see `go doc test2json`.
type event struct {
	Action, Package, ImportPath, Test, Output string
	Elapsed                                   float64
}

// A counter counts tests, not their subtests: a table's rows are one test's business. Benchmarks it counts apart.
type counter struct {
	passed  int
	failed  []string // names
	skipped int
	bench   int
	output  map[string]map[string][]string // by package and test, of tests that have not ended
}

// run tells whether nothing failed.
func (c *counter) run(in io.Reader, out io.Writer) bool {
	c.output = map[string]map[string][]string{}
	lines := bufio.NewReader(in)
	for {
		line, err := lines.ReadString('\n')
		if strings.TrimSpace(line) != "" {
			var e event
			if json.Unmarshal([]byte(line), &e) == nil && e.Action != "" {
				c.take(e, out)
			} else {
				fmt.Fprint(out, line) // go itself has something to say
			}
		}
		if err != nil {
			break
		}
	}
	// What neither passed nor failed has no end in the stream: go test was killed.
	for _, name := range sortedKeys(c.output) {
		c.dump(name, out)
		c.failed = append(c.failed, name+" (did not end)")
	}
	for _, name := range c.failed {
		fmt.Fprintln(out, "failed:", name)
	}
	if c.skipped > 0 {
		fmt.Fprintf(out, "%d skipped, for the reasons above\n", c.skipped)
	}
	if c.bench > 0 {
		fmt.Fprintf(out, "%d benchmarks ran once, at their smallest size\n", c.bench)
	}
	fmt.Fprintf(out, "%d passed, %d failed\n", c.passed, len(c.failed))
	return len(c.failed) == 0
}

func (c *counter) take(e event, out io.Writer) {
	switch e.Action {
	case "build-output":
		fmt.Fprint(out, e.Output)
	case "start":
		c.output[e.Package] = map[string][]string{}
	case "run":
		if strings.HasPrefix(e.Test, "Benchmark") && !strings.Contains(e.Test, "/") {
			c.bench++
		}
	case "output":
		if tests := c.output[e.Package]; tests != nil {
			tests[e.Test] = append(tests[e.Test], e.Output)
		}
	case "pass", "skip", "fail":
		if e.Test == "" {
			c.endPackage(e, out)
		} else {
			c.endTest(e, out)
		}
	}
}

func (c *counter) endTest(e event, out io.Writer) {
	top := !strings.Contains(e.Test, "/")
	switch e.Action {
	case "pass":
		if top {
			c.passed++
		}
	case "skip":
		c.skipped++
		fmt.Fprintf(out, "skip\t%s %s: %s\n", e.Package, e.Test, reason(c.output[e.Package][e.Test]))
	case "fail":
		for _, line := range c.output[e.Package][e.Test] {
			fmt.Fprint(out, line)
		}
		if top {
			c.failed = append(c.failed, e.Package+" "+e.Test)
		}
	}
	delete(c.output[e.Package], e.Test)
}

func (c *counter) endPackage(e event, out io.Writer) {
	_, started := c.output[e.Package]
	failedTests := slices.ContainsFunc(c.failed, func(name string) bool { return strings.HasPrefix(name, e.Package+" ") })
	switch {
	case e.Action == "fail":
		// A panic, a timeout or an exit leaves tests without an end: their output says why.
		c.dump(e.Package, out)
		fmt.Fprintf(out, "FAIL\t%s\t%.3fs\n", e.Package, e.Elapsed)
		if !failedTests {
			c.failed = append(c.failed, e.Package)
		}
	case started:
		fmt.Fprint(out, closing(c.output[e.Package][""], e))
	}
	delete(c.output, e.Package)
}

func (c *counter) dump(name string, out io.Writer) {
	for _, test := range sortedKeys(c.output[name]) {
		for _, line := range c.output[name][test] {
			fmt.Fprint(out, line)
		}
	}
	delete(c.output, name)
}

// closing is the line with which go test ends a package.
func closing(lines []string, e event) string {
	for _, line := range slices.Backward(lines) {
		if strings.HasPrefix(line, "ok") || strings.HasPrefix(line, "?") {
			return line
		}
	}
	return fmt.Sprintf("ok  \t%s\t%s\n", e.Package, time.Duration(e.Elapsed*float64(time.Second)))
}

// reason is what a test said before it was skipped, without the file and line before it.
func reason(lines []string) string {
	var words []string
	for _, line := range lines {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "--- ") {
			continue
		}
		if at, rest, found := strings.Cut(line, ": "); found && strings.Contains(at, ".go:") {
			line = rest
		}
		words = append(words, line)
	}
	return strings.Join(words, "; ")
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for key := range m {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	return keys
}
