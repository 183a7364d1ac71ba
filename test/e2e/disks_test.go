package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/cmd/vagoth/cli"
	"github.com/vagoth/vagoth/internal/syncbuf"
	"github.com/vagoth/vagoth/manager/standard"
	"github.com/vagoth/vagoth/test/testbed"
	"github.com/vagoth/vagoth/virt"
)

// typist types words once the guest is up, and leaves its console when they were
// repeated.
type typist struct {
	t     *testing.T
	words string
	typed bool
	out   *syncbuf.Buffer
}

func (y *typist) Read(p []byte) (int, error) {
	switch {
	case !y.typed && y.hears(testbed.GuestUp):
		y.typed = true
		return copy(p, y.words), nil
	case y.typed && y.hears(strings.TrimSpace(y.words)):
		return copy(p, "\x1d"), nil
	}
	return 0, io.EOF
}

func (y *typist) hears(text string) bool {
	return testbed.Eventually(y.t, patience, func() bool { return strings.Contains(y.out.String(), text) })
}

// The commands about images, snapshots, disks and consoles, over the driver
// libvirt without an agent.
func TestDisks(t *testing.T) {
	t.Parallel()
	d := testbed.NewLibvirt(t, "disks")
	kernel, initrd := testbed.Guest(t)
	folder := t.TempDir()
	web := httptest.NewServer(http.FileServer(http.Dir(folder)))
	defer web.Close()
	counted := make([]byte, 2<<20)
	copy(counted, "boots 41\n")
	if err := os.WriteFile(filepath.Join(folder, "counted.img"), counted, 0o600); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	log := filepath.Join(dir, "web2.log")
	file := func(name, text string) string {
		t.Helper()
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	ini := file("vagoth.ini", fmt.Sprintf("[drivers.local]\nuse = libvirt\nuri = %s\ndisks = %s\nfetch_private = yes\n", d.URI(), d.File("disks")))
	run := func(in io.Reader, out io.Writer, args ...string) {
		t.Helper()
		var errs bytes.Buffer
		env := cli.Env{In: in, Out: out, Err: &errs, Getenv: func(string) string { return "" }, Now: time.Now, Who: "tester"}
		if code := cli.Run(t.Context(), standard.Menu(), env, append([]string{"-c", ini}, args...)); code != 0 {
			t.Fatalf("vagoth %s exited with %d:\n%s", strings.Join(args, " "), code, &errs)
		}
	}
	vagoth := func(args ...string) string {
		t.Helper()
		var out bytes.Buffer
		run(strings.NewReader(""), &out, args...)
		return out.String()
	}
	shows := func(want string, args ...string) {
		t.Helper()
		if out := vagoth(args...); !strings.Contains(out, want) {
			t.Errorf("vagoth %s does not show %q:\n%s", strings.Join(args, " "), want, out)
		}
	}
	guest := func(name string, console virt.Console, disks ...virt.Disk) string {
		text, err := json.Marshal(virt.Definition{CPU: 1, Memory: 128, Disks: disks, Console: console,
			Boot: virt.Boot{Kernel: kernel, Initrd: initrd, Cmdline: "console=ttyS0 vagoth.count=1 vagoth.id=" + name}})
		if err != nil {
			t.Fatal(err)
		}
		return file(name+".json", string(text))
	}
	vagoth("hv", "add", "h1", "--driver", "local")
	vagoth("image", "fetch", "counted", "h1", "--from", web.URL+"/counted.img")
	shows("complete", "image", "show", "counted", "h1")

	vagoth("new", "web1", "-d", guest("web1", virt.Console{}, virt.Disk{Image: "counted"}))
	vagoth("start", "web1")
	out := new(syncbuf.Buffer)
	run(&typist{t: t, words: "is anybody there?\n", out: out}, out, "console", "web1")
	vagoth("disk", "attach", "web1", "--size", "3M") // while it runs
	shows("vdb", "disk", "list", "web1")
	shows("vdb", "metrics", "web1")
	vagoth("stop", "web1", "--grace", "0s")
	vagoth("disk", "detach", "web1", "vdb", "--yes")
	shows("detached", "disk", "list", "web1")
	vagoth("snapshot", "create", "web1", "first")

	// What the disk held is an image of another.
	vagoth("snapshot", "download", "web1", "first", "--to", filepath.Join(folder, "first.qcow2"))
	vagoth("image", "fetch", "first", "h1", "--from", web.URL+"/first.qcow2")
	vagoth("new", "web2", "-d", guest("web2", virt.Console{Serial: "file", Log: log}, virt.Disk{Image: "first"}))
	vagoth("start", "web2")
	testbed.WaitForText(t, log, "vagoth-guest: boots 43", patience) // the first boot was web1's
	testbed.WaitForText(t, log, testbed.GuestUp, patience)
	vagoth("snapshot", "create", "web2", "one") // while it runs
	vagoth("stop", "web2", "--grace", "0s")
	vagoth("start", "web2")
	testbed.WaitForText(t, log, "vagoth-guest: boots 44", patience)
	vagoth("stop", "web2", "--grace", "0s")
	vagoth("snapshot", "rollback", "web2", "one", "--yes")
	vagoth("start", "web2")
	testbed.WaitForTexts(t, log, "vagoth-guest: boots 44", 2, patience)
	shows("one", "snapshot", "list", "web2")

	vagoth("stop", "--all", "--grace", "0s")
	vagoth("deprovision", "--all", "--yes")
	vagoth("undefine", "--all")
	vagoth("delete", "--type", "vm", "--yes")
	vagoth("image", "delete", "counted", "h1", "--yes")
	vagoth("image", "delete", "first", "h1", "--yes")
	left, err := filepath.Glob(d.File("disks/*"))
	if err != nil || len(left) != 6 {
		t.Errorf("in the disks' directory is left %v (%v), want what the store is made of", left, err)
	}
	if n := running(t, d); n != 0 {
		t.Errorf("%d domains run in the end", n)
	}
}
