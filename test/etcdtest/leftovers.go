package etcdtest

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// mark begins the names of all that a test makes outside of its process, and is
// followed by the process's number, so that the next test finds what one that was
// killed has left. Its etcd processes end with it.
const mark = "vge"

var marked = regexp.MustCompile(`\b` + mark + `([0-9]{1,7})[-v0-9a-z]*`)

// scratch is a directory that is gone after the test, and otherwise when the next
// test asks for one.
func scratch(t testing.TB) string {
	t.Helper()
	sweep()
	dir, err := os.MkdirTemp("", mark+strconv.Itoa(os.Getpid())+"-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// sweep removes what tests have left that are no longer there.
func sweep() {
	dirs, _ := filepath.Glob(filepath.Join(os.TempDir(), mark+"*"))
	for _, dir := range dirs {
		if abandoned(filepath.Base(dir)) {
			_ = os.RemoveAll(dir)
		}
	}
	spaces, _ := exec.Command("ip", "netns", "list").Output() //nolint:noctx // quick; without it there are none
	for name := range strings.FieldsSeq(string(spaces)) {
		if abandoned(name) {
			_ = run("ip", "netns", "del", name)
		}
	}
	links, _ := exec.Command("ip", "-o", "link").Output() //nolint:noctx // likewise
	for _, name := range marked.FindAllString(string(links), -1) {
		if abandoned(name) {
			_ = run("ip", "link", "del", name) // one end of a pair goes with the other
		}
	}
}

// abandoned reports whether name is one of ours, and its process has gone.
func abandoned(name string) bool {
	m := marked.FindStringSubmatch(name)
	if m == nil || m[0] != name {
		return false
	}
	pid, err := strconv.Atoi(m[1])
	return err == nil && pid > 1 && syscall.Kill(pid, 0) == syscall.ESRCH
}
