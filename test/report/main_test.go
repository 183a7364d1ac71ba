package main

import (
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	for name, test := range map[string]struct {
		counter counter
		in      string
		out     []string // in this order
		never   string
		ok      bool
	}{
		"all passes": {
			in: `{"Action":"start","Package":"a"}
{"Action":"output","Package":"a","Test":"TestX","Output":"noise\n"}
{"Action":"pass","Package":"a","Test":"TestX/sub"}
{"Action":"pass","Package":"a","Test":"TestX"}
{"Action":"output","Package":"a","Output":"ok  \ta\t0.1s\n"}
{"Action":"pass","Package":"a"}`,
			out: []string{"ok  \ta\t0.1s\n", "1 passed, 0 failed\n"}, never: "noise", ok: true,
		},
		"benchmarks are counted, and one that fails is a failure": {
			in: `{"Action":"start","Package":"a"}
{"Action":"run","Package":"a","Test":"BenchmarkX"}
{"Action":"run","Package":"a","Test":"BenchmarkX/sub"}
{"Action":"output","Package":"a","Test":"BenchmarkX","Output":"1 ns/op\n"}
{"Action":"run","Package":"a","Test":"BenchmarkY"}
{"Action":"output","Package":"a","Test":"BenchmarkY","Output":"why\n"}
{"Action":"fail","Package":"a","Test":"BenchmarkY"}
{"Action":"fail","Package":"a","Elapsed":2}`,
			out: []string{"why\n", "1 ns/op\n", "failed: a BenchmarkY\n", "2 benchmarks ran once", "0 passed, 1 failed\n"},
		},
		"a failure shows its output": {
			in: `{"Action":"start","Package":"a"}
{"Action":"output","Package":"a","Test":"TestX","Output":"why\n"}
{"Action":"fail","Package":"a","Test":"TestX"}
{"Action":"pass","Package":"a","Test":"TestY"}
{"Action":"fail","Package":"a","Elapsed":2}`,
			out: []string{"why\n", "FAIL\ta\t2.000s\n", "failed: a TestX\n", "1 passed, 1 failed\n"},
		},
		"a skip shows its reason": {
			in: `{"Action":"start","Package":"a"}
{"Action":"output","Package":"a","Test":"TestX","Output":"=== RUN   TestX\n"}
{"Action":"output","Package":"a","Test":"TestX","Output":"    x_test.go:12: needs libvirt: not root\n"}
{"Action":"output","Package":"a","Test":"TestX","Output":"--- SKIP: TestX (0.00s)\n"}
{"Action":"skip","Package":"a","Test":"TestX"}
{"Action":"pass","Package":"a","Elapsed":1}`,
			out: []string{"skip\ta TestX: needs libvirt: not root\n", "ok  \ta\t1s\n", "1 skipped", "0 passed, 0 failed\n"}, ok: true,
		},
		"a panic in a package shows what the unfinished test said": {
			in: `{"Action":"start","Package":"a"}
{"Action":"output","Package":"a","Test":"TestX","Output":"panic: test timed out\n"}
{"Action":"fail","Package":"a","Elapsed":2}`,
			out: []string{"panic: test timed out\n", "FAIL\ta", "failed: a\n", "0 passed, 1 failed\n"},
		},
		"what does not build is a failure": {
			in: `{"ImportPath":"a","Action":"build-output","Output":"a.go:1: bad\n"}
{"Action":"start","Package":"a"}
{"Action":"output","Package":"a","Output":"FAIL\ta [build failed]\n"}
{"Action":"fail","Package":"a"}`,
			out: []string{"a.go:1: bad\n", "failed: a\n", "0 passed, 1 failed\n"},
		},
		"a stream that breaks off is a failure": {
			in: `{"Action":"start","Package":"a"}
{"Action":"pass","Package":"a","Test":"TestX"}`,
			out: []string{"failed: a (did not end)\n", "1 passed, 1 failed\n"},
		},
		"checks before count": {
			counter: counter{passed: 3, failed: []string{"lint"}},
			in:      "go: downloading x\n",
			out:     []string{"go: downloading x\n", "failed: lint\n", "3 passed, 1 failed\n"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var out strings.Builder
			if ok := test.counter.run(strings.NewReader(test.in), &out); ok != test.ok {
				t.Errorf("says %t, expected %t", ok, test.ok)
			}
			rest := out.String()
			for _, part := range test.out {
				_, after, found := strings.Cut(rest, part)
				if !found {
					t.Fatalf("%q is missing, or out of order, in:\n%s", part, out.String())
				}
				rest = after
			}
			if rest != "" {
				t.Errorf("it ends with %q", rest)
			}
			if test.never != "" && strings.Contains(out.String(), test.never) {
				t.Errorf("%q has no place in:\n%s", test.never, out.String())
			}
		})
	}
}
