package layers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const (
	module = "github.com/vagoth/vagoth"
	table  = "internal/layers/table_test.go"
)

// listed is what go list says of one package.
type listed struct {
	ImportPath                         string
	Imports, TestImports, XTestImports []string
}

func TestLayers(t *testing.T) {
	command := exec.CommandContext(t.Context(), "go", "list", "-e", "-json=ImportPath,Imports,TestImports,XTestImports", module+"/...")
	var stderr bytes.Buffer
	command.Stderr = &stderr
	out, err := command.Output()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, stderr.String())
	}
	var packages []listed
	decoder := json.NewDecoder(bytes.NewReader(out))
	for {
		var p listed
		err := decoder.Decode(&p)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("go list: %v", err)
		}
		packages = append(packages, p)
	}
	if len(packages) < 3 {
		t.Fatalf("go list knows only %d packages of this module", len(packages))
	}
	for _, problem := range check(packages) {
		t.Error(problem)
	}
}

// check returns every breach of the rules.
func check(packages []listed) (problems []string) {
	for _, p := range packages {
		name := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		at := find(name)
		if at < 0 {
			problems = append(problems, fmt.Sprintf("%s is in no layer: give it a row in order, in %s, below everything it imports", name, table))
			continue
		}
		for _, path := range p.Imports {
			if problem := checkImport(name, at, path); problem != "" {
				problems = append(problems, name+" imports "+problem)
			}
		}
		for _, path := range slices.Concat(p.TestImports, p.XTestImports) {
			if problem := checkTestImport(path); problem != "" {
				problems = append(problems, "a test of "+name+" imports "+problem)
			}
		}
	}
	return problems
}

func checkImport(name string, at int, path string) string {
	self := order[at]
	if imported, ours := strings.CutPrefix(path, module+"/"); ours {
		to := find(imported)
		switch {
		case to < 0:
			return "" // has a problem of its own
		case self.bare:
			return imported + ", but it stands on the standard library alone"
		case order[to].class == suite && self.class != suite:
			return imported + ", which is for tests only"
		case order[to].class == implementation && self.class == implementation:
			return imported + ", which is another implementation: what both need belongs into a contract"
		case order[to].class == implementation && self.class != assembly && self.class != suite:
			return imported + ", which is one implementation of several: take the contract's interface, and let manager/standard choose"
		case to == at && imported != name:
			return imported + ", its sibling"
		case to > at:
			return imported + ", which stands below it in " + table
		case order[to].onlyBy != nil && !slices.Contains(order[to].onlyBy, name) && self.class != suite:
			return imported + ", which is only for " + strings.Join(order[to].onlyBy, ", ")
		}
		return ""
	}
	if !isThirdParty(path) {
		if path == "testing" && self.class != suite {
			return path + ", which is for tests only"
		}
		return ""
	}
	if self.bare {
		return path + ", but it stands on the standard library alone"
	}
	allowed, known := users(path)
	if !known {
		return path + ", which is in no row of thirdParty, in " + table
	}
	for _, user := range allowed {
		if user == everyone || user == tests && self.class == suite || matches(user, name) {
			return ""
		}
	}
	return path + ", which is only for " + strings.Join(allowed, ", ")
}

// checkTestImport lets a test import all that is ours, and the modules that are known.
func checkTestImport(path string) string {
	if strings.HasPrefix(path, module) || !isThirdParty(path) {
		return ""
	}
	if _, known := users(path); !known {
		return path + ", which is in no row of thirdParty, in " + table
	}
	return ""
}

// isThirdParty: the first element of a path outside the standard library has a dot.
func isThirdParty(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return strings.Contains(first, ".")
}

// users gives who may import this path, by the longest path in the table that fits.
func users(path string) (allowed []string, known bool) {
	longest := ""
	for prefix, users := range thirdParty {
		if (path == prefix || strings.HasPrefix(path, prefix+"/")) && len(prefix) > len(longest) {
			longest, allowed = prefix, users
		}
	}
	return allowed, longest != ""
}

// find gives the row of a package, the exact one before that of its folder, or -1.
func find(name string) int {
	if at := slices.IndexFunc(order, func(r row) bool { return r.name == name }); at >= 0 {
		return at
	}
	return slices.IndexFunc(order, func(r row) bool { return matches(r.name, name) })
}

// matches: the pattern a/* is a and all below it.
func matches(pattern, name string) bool {
	folder, isFolder := strings.CutSuffix(pattern, "/*")
	return pattern == name || isFolder && (name == folder || strings.HasPrefix(name, folder+"/"))
}

func TestCheckSeesEveryBreach(t *testing.T) {
	ours := func(name string) string { return module + "/" + name }
	for _, test := range []struct {
		name, imports string
		problem       string // "" where it is allowed
	}{
		{"registry", ours("trail"), ""},
		{"registry", ours("virt"), "registry imports virt, which stands below it"},
		{"virt", ours("registry/memdb"), "virt imports registry/memdb, which is one implementation of several"},
		{"scheduler/broker", ours("scheduler/sync"), "scheduler/broker imports scheduler/sync, which is another implementation"},
		{"virt/libvirt", ours("registry/memdb"), "virt/libvirt imports registry/memdb, which is another implementation"},
		{"registry/memdb", ours("internal/journal"), ""},
		{"registry/etcd", ours("registry/memdb"), "registry/etcd imports registry/memdb, which is another implementation"},
		{"registry/etcd", ours("registry/index"), ""},
		{"virt", ours("registry/index"), "virt imports registry/index, which is only for registry/memdb"},
		{"registry/memdb", ours("registry/registrytest"), "registry/memdb imports registry/registrytest, which is for tests only"},
		{"registry/memdb", "testing", "registry/memdb imports testing, which is for tests only"},
		{"registry/registrytest", "testing", ""},
		{"registry/registrytest", "pgregory.net/rapid", ""},
		{"registry", "pgregory.net/rapid", "registry imports pgregory.net/rapid, which is only for tests"},
		{"registry", "github.com/hashicorp/go-memdb", "registry imports github.com/hashicorp/go-memdb, which is only for registry/index"},
		{"registry/index", "github.com/hashicorp/go-memdb", ""},
		{"registry/memdb", "github.com/example/fast", "registry/memdb imports github.com/example/fast, which is in no row of thirdParty"},
		{"registry/memdb", "go.etcd.io/etcd/server/v3/storage/wal", "registry/memdb imports go.etcd.io/etcd/server/v3/storage/wal, which is only for internal/journal"},
		{"internal/journal", "go.etcd.io/etcd/server/v3/storage/wal/walpb", ""},
		{"internal/journal", "go.etcd.io/etcd/server/v3/embed", "internal/journal imports go.etcd.io/etcd/server/v3/embed, which is only for tests"},
		{"manager/component", ours("trail"), "manager/component imports trail, but it stands on the standard library alone"},
		{"manager/component", "golang.org/x/sync/errgroup", "manager/component imports golang.org/x/sync/errgroup, but it stands on"},
		{"manager", ours("manager/config"), ""},
		{"manager", ours("virt/libvirt"), "manager imports virt/libvirt, which is one implementation of several"},
		{"api", ours("manager/config"), "api imports manager/config, which is only for manager"},
		{"manager/standard", ours("virt/libvirt"), ""},
		{"cmd/vagoth/cli", "github.com/spf13/cobra", ""},
		{"api", "github.com/spf13/cobra", "api imports github.com/spf13/cobra, which is only for cmd/vagoth/*"},
		{"virt/subagent/zfs", ours("virt/subagent/dir"), "virt/subagent/zfs imports virt/subagent/dir, which is another implementation"},
		{"test/e2e", ours("virt/libvirt"), ""},
		{"registry/paper", "fmt", "registry/paper is in no layer: give it a row in order, in " + table},
		{"", "fmt", " is in no layer"},
	} {
		problems := check([]listed{{ImportPath: strings.TrimSuffix(ours(test.name), "/"), Imports: []string{test.imports}}})
		switch {
		case test.problem == "" && len(problems) > 0:
			t.Errorf("%s may import %s, but: %q", test.name, test.imports, problems)
		case test.problem != "" && (len(problems) != 1 || !strings.HasPrefix(problems[0], test.problem)):
			t.Errorf("%s imports %s: got %q, expected %q", test.name, test.imports, problems, test.problem)
		}
	}
	unknown := listed{ImportPath: ours("registry"), XTestImports: []string{"github.com/example/fast", ours("registry/memdb")}}
	if problems := check([]listed{unknown}); len(problems) != 1 || !strings.HasPrefix(problems[0], "a test of registry imports github.com/example/fast") {
		t.Errorf("a test that imports an unknown module: %q", problems)
	}
}

func TestOrderNamesEachOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range order {
		if seen[r.name] {
			t.Errorf("%s stands twice in order", r.name)
		}
		seen[r.name] = true
	}
	for path, users := range thirdParty {
		for _, user := range users {
			if user != everyone && user != tests && find(strings.TrimSuffix(user, "/*")) < 0 {
				t.Errorf("%s is for %s, which is in no row of order", path, user)
			}
		}
	}
}
