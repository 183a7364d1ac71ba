package e2e

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/cmd/vagoth/cli"
	"github.com/vagoth/vagoth/manager/standard"
	"github.com/vagoth/vagoth/test/testbed"
)

// The README's first command with --libvirt, twice, and the commands that it
// suggests next.
func TestQuickstart(t *testing.T) {
	t.Parallel()
	d := testbed.NewLibvirt(t, "quick")
	kernel, initrd := testbed.Guest(t)
	dir := t.TempDir()
	ini := filepath.Join(dir, "vagoth.ini")
	vagoth := func(args ...string) string {
		t.Helper()
		var out, errs bytes.Buffer
		env := cli.Env{In: strings.NewReader(""), Out: &out, Err: &errs, Getenv: func(string) string { return "" }, Now: time.Now, Who: "tester"}
		if code := cli.Run(t.Context(), standard.Menu(), env, append([]string{"-c", ini}, args...)); code != 0 {
			t.Fatalf("vagoth %s exited with %d:\n%s%s", strings.Join(args, " "), code, &out, &errs)
		}
		return out.String()
	}
	for range 2 {
		out := vagoth("quickstart", "--libvirt", "--kernel", kernel, "--initrd", initrd, "--uri", d.URI())
		for _, want := range []string{"local  up", "web1  running", "web2  running"} {
			if !strings.Contains(out, want) {
				t.Fatalf("quickstart does not show %q:\n%s", want, out)
			}
		}
	}
	if n := running(t, d); n != 2 {
		t.Fatalf("%d domains run, not 2", n)
	}
	if out := vagoth("info", "web1", "--live"); !strings.Contains(out, "live CPU time") {
		t.Errorf("info --live shows:\n%s", out)
	}
	vagoth("stop", "--all")
	vagoth("undefine", "--all")
	vagoth("delete", "--type", "vm", "--yes")
	vagoth("hv", "remove", "local", "--yes")
	if n := running(t, d); n != 0 {
		t.Errorf("%d domains run in the end", n)
	}
}
