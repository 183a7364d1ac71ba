package manager_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/manager/config"
	"github.com/vagoth/vagoth/monitor"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/virt"
)

const full = `data = store
command_timeout = 3m
[allocator]
use = fixed
[drivers.b]
use = sim
[drivers.a]
use = sim
size = 7
[node_types]
rack = any
[actions]
notify = exec:/usr/bin/notify -v
boot = vm_start
vm_stop = exec:/usr/bin/stop
`

var opening = []string{"open registry", "open provisioner", "open allocator", "open driver b", "open driver a", "open scheduler", "open monitor"}

var closing = []string{"close monitor", "close scheduler", "close driver a", "close driver b", "close allocator", "close registry"}

func TestOpenAndClose(t *testing.T) {
	l := newLedger()
	s := read(t, fakeMenu(l), full)
	if got := l.all(); len(got) > 0 {
		t.Fatalf("reading the file opened something: %q", got)
	}
	now := func() time.Time { return time.Unix(5, 0) }
	m, err := manager.Open(t.Context(), s, manager.Options{Now: now, LockWait: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if got := l.all(); !slices.Equal(got, opening) {
		t.Errorf("opened in the order %q, want %q", got, opening)
	}
	if filepath.Base(s.Data) != "store" || filepath.Dir(s.Data) != filepath.Dir(s.File) {
		t.Errorf("data is %s, which is not relative to %s", s.Data, s.File)
	}
	if info, err := os.Stat(s.Data); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the data directory: %v, %v", info, err)
	}
	rd, ok := l.deps["registry"].(registry.Deps)
	if !ok || rd.LockWait != time.Minute || rd.Data != s.Data || !rd.Now().Equal(now()) || rd.Log == nil {
		t.Errorf("the registry was given %+v", rd)
	}
	if sd, ok := l.deps["scheduler"].(scheduler.Deps); !ok || sd.LockWait != time.Minute || sd.Data != s.Data || len(sd.Actions) == 0 {
		t.Errorf("the scheduler was given %+v", sd)
	}
	md, ok := l.deps["monitor"].(monitor.Deps)
	if !ok || md.Cluster != virt.Cluster(m) || md.Jobs == nil {
		t.Errorf("the monitor was given %+v", md)
	}
	var cluster virt.Cluster = m
	p := cluster.Parts()
	if p.Registry != m.Registry || p.Scheduler != m.Scheduler || p.Provisioner != m.Provisioner || p.Allocator != m.Allocator || p.Log == nil || !p.Now().Equal(now()) {
		t.Errorf("the parts are not those of the manager: %+v", p)
	}
	if _, err := p.Driver("a"); err != nil || len(p.Drivers) != 2 {
		t.Errorf("drivers: %v, %v", p.Drivers, err)
	}
	want := []manager.Chosen{{Section: "registry", Kind: "memory"}, {Section: "scheduler", Kind: "sync"}, {Section: "provisioner", Kind: "basic"},
		{Section: "allocator", Kind: "fixed"}, {Section: "monitor", Kind: "poll"}, {Section: "drivers.b", Kind: "sim"}, {Section: "drivers.a", Kind: "sim"}}
	if !reflect.DeepEqual(s.Choices, want) {
		t.Errorf("choices: %v", s.Choices)
	}
	if err := errors.Join(m.Close(), m.Close()); err != nil {
		t.Error(err)
	}
	if got := l.all()[len(opening):]; !slices.Equal(got, closing) {
		t.Errorf("closed in the order %q, want %q", got, closing)
	}
}

// Who only looks at nodes opens and closes nothing but the registry.
func TestOpenRegistry(t *testing.T) {
	l := newLedger()
	m, err := manager.OpenRegistry(t.Context(), read(t, fakeMenu(l), full), manager.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if m.Registry == nil || m.Scheduler != nil || len(m.Types) == 0 {
		t.Errorf("it has the registry %v, the scheduler %v and %d types", m.Registry, m.Scheduler, len(m.Types))
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
	if got := l.all(); !slices.Equal(got, []string{"open registry", "close registry"}) {
		t.Errorf("it did %q", got)
	}
	l.failOpen["registry"] = errors.New("it is broken")
	if m, err := manager.OpenRegistry(t.Context(), read(t, fakeMenu(l), full), manager.Options{}); err == nil || m != nil {
		t.Errorf("a registry that cannot be opened: %v, %v", m, err)
	}
}

func TestTypesAndActions(t *testing.T) {
	m, err := manager.Open(t.Context(), read(t, fakeMenu(newLedger()), full), manager.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Close() }()
	for typ, help := range map[string]string{"rack": "anything", "vm": "virtual machine", "hv": "hypervisor"} {
		if got := m.Types[typ].Help; !strings.Contains(got, help) {
			t.Errorf("the class of %s is %q", typ, got)
		}
	}
	vm, args := scheduler.Param{Name: "vm", Type: scheduler.String, Help: "the node that it is about"}, scheduler.Param{Name: "args", Type: scheduler.Object, Help: "whatever it understands"}
	for name, want := range map[string]scheduler.Action{
		"vm_start": {Name: "vm_start"}, "boot": {Name: "boot"},
		"vm_stop": {Name: "vm_stop", Help: "[/usr/bin/stop]", Timeout: 3 * time.Minute, Urgent: true, Params: []scheduler.Param{args}},
		"notify":  {Name: "notify", Help: "[/usr/bin/notify -v]", Timeout: 3 * time.Minute, AnyParams: true, Params: []scheduler.Param{vm, args}},
	} {
		got := m.Actions[name]
		got.Run = nil
		if !reflect.DeepEqual(got, want) {
			t.Errorf("action %s is %+v, want %+v", name, got, want)
		}
	}
	if c, err := m.Actions["boot"].Run(t.Context(), nil); err != nil || c != virt.Cluster(m) {
		t.Errorf("a built-in action got the cluster %v (%v)", c, err)
	}
}

// Whatever fails to open, what was opened before is closed, in reverse.
func TestOpenFails(t *testing.T) {
	broken := errors.New("broken")
	for i, line := range opening {
		what := strings.TrimPrefix(line, "open ")
		t.Run(what, func(t *testing.T) {
			l := newLedger()
			l.failOpen[what] = broken
			m, err := manager.Open(t.Context(), read(t, fakeMenu(l), full), manager.Options{})
			if m != nil || !errors.Is(err, broken) {
				t.Fatalf("got %v, %v", m, err)
			}
			if word, _, _ := strings.Cut(what, " "); !strings.Contains(err.Error(), "cannot open "+word) {
				t.Errorf("the error does not name %s: %v", word, err)
			}
			var want []string
			for _, o := range slices.Backward(opening[:i]) {
				if o != "open provisioner" { // it has no Close
					want = append(want, "close"+strings.TrimPrefix(o, "open"))
				}
			}
			if got := l.all()[i+1:]; !slices.Equal(got, want) {
				t.Errorf("closed %q, want %q", got, want)
			}
		})
	}
}

func TestErrorsAreJoined(t *testing.T) {
	l := newLedger()
	first, second, third := errors.New("first"), errors.New("second"), errors.New("third")
	l.failOpen["scheduler"], l.failClose["driver b"], l.failClose["registry"] = first, second, third
	_, err := manager.Open(t.Context(), read(t, fakeMenu(l), full), manager.Options{})
	for _, want := range []error{first, second, third} {
		if !errors.Is(err, want) {
			t.Errorf("%v is not in %v", want, err)
		}
	}
	if !strings.Contains(err.Error(), "cannot close driver b: second") {
		t.Errorf("the error does not say what could not be closed: %v", err)
	}
}

func TestOpenNeedsItsDirectory(t *testing.T) {
	l := newLedger()
	s := read(t, fakeMenu(l), "data = store\n")
	if err := os.WriteFile(s.Data, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := manager.Open(t.Context(), s, manager.Options{}); err == nil || !strings.Contains(err.Error(), s.Data) {
		t.Errorf("a file in the place of the data directory: %v", err)
	}
	if got := l.all(); len(got) > 0 {
		t.Errorf("opened %q all the same", got)
	}
}

// Everything that is wrong with a file is told at once, with its line, and
// nothing is opened.
func TestReadTellsAllProblems(t *testing.T) {
	l := newLedger()
	path := filepath.Join(t.TempDir(), "vagoth.ini")
	const text = `dta = x
command_timeout = 30
[registry]
use = memry
[scheduler]
size = 0
[allocator.fixed]
siz = 3
[drivers.local]
use = libvrt
[drivers.bare]
[node_types]
rack = anything
host = hypervisr
two = one
_x = any
[actions]
notify = exec:notify
start = vm_strt
none = exec:
_o = vm_start
[metrics]
`
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := manager.Load(t.Context(), path, fakeMenu(l), manager.Options{})
	var all *config.Error
	if !errors.As(err, &all) {
		t.Fatalf("the error is %v", err)
	}
	want := map[int]string{
		1: `"dta"`, 2: "30", 4: `"memry"`, 6: "at least 1", 8: `"siz"`, 10: `"libvrt"`, 11: `"use" is missing`,
		13: `"anything"`, 14: "hypervisr", 15: "alone", 16: `"_x"`, 18: "absolute", 19: "vm_strt", 20: "names no program", 21: `"_o"`, 22: "unknown section",
	}
	for _, p := range all.Problems {
		part, ok := want[p.Line]
		if !ok || !strings.Contains(p.Error(), part) {
			t.Errorf("unexpected problem: %v", p)
		}
		delete(want, p.Line)
	}
	for line, part := range want {
		t.Errorf("no problem was told of line %d (%s)", line, part)
	}
	for _, hint := range []string{`did you mean "vm_start"?`, `did you mean "hypervisor"?`, `did you mean "memory"?`, `did you mean "data"?`} {
		if !strings.Contains(err.Error(), hint) {
			t.Errorf("the error lacks %s", hint)
		}
	}
	if got := l.all(); len(got) > 0 {
		t.Errorf("opened %q", got)
	}
	if _, err := os.Stat(filepath.Join(filepath.Dir(path), "vagoth-data")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a data directory was made: %v", err)
	}
}

func TestLoadWithoutFile(t *testing.T) {
	if _, err := manager.Load(t.Context(), filepath.Join(t.TempDir(), "vagoth.ini"), fakeMenu(newLedger()), manager.Options{}); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
}

// A menu of a program that left parts out refuses what needs them.
func TestMenuWithParts(t *testing.T) {
	menu := fakeMenu(newLedger())
	menu.Actions, menu.Command, menu.Types, menu.Scheduler = nil, nil, nil, nil
	f, _ := config.Parse("vagoth.ini", []byte("[node_types]\nrack = any\n[actions]\nx = exec:/bin/x\n"))
	_, err := manager.Read(f, menu)
	if err == nil || !strings.Contains(err.Error(), "runs no commands") || !strings.Contains(err.Error(), "no kinds") {
		t.Error(err)
	}
	menu = fakeMenu(newLedger())
	menu.Types = map[string]string{"vm": "vmm"}
	f, _ = config.Parse("vagoth.ini", nil)
	if _, err := manager.Read(f, menu); err == nil || !strings.Contains(err.Error(), `"vmm"`) {
		t.Error(err)
	}
	menu = fakeMenu(newLedger())
	menu.Actions, menu.Command, menu.Types = nil, nil, nil
	m, err := manager.Open(t.Context(), read(t, menu, "[node_types]\nrack = any\n"), manager.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = m.Close() }()
	if len(m.Actions) != 0 || len(m.Types) != 1 {
		t.Errorf("actions %v, types %v", m.Actions, m.Types)
	}
}

// pair checks two keys against each other.
type pair struct {
	Low  int `ini:"low" help:"the lesser"`
	High int `ini:"high" help:"the greater"`
}

func (p pair) Validate() error {
	if p.Low > p.High {
		return &component.KeyError{Key: "low", Reason: "it is more than high", Suggestion: "swap them"}
	}
	return nil
}

// What a component's Validate finds is told with the others, at its key's line.
func TestKeyError(t *testing.T) {
	menu := fakeMenu(newLedger())
	menu.Drivers["pair"] = component.Define("a pair", pair{High: 3}, func(context.Context, pair, virt.DriverDeps) (virt.Driver, error) {
		t.Error("it was opened")
		return nil, errors.New("no")
	})
	f, _ := config.Parse("vagoth.ini", []byte("[drivers.p]\nuse = pair\nlow = 9\n[actions]\nx = y\n"))
	_, err := manager.Read(f, menu)
	var all *config.Error
	if !errors.As(err, &all) || len(all.Problems) != 2 || all.Problems[0].Line != 3 || !strings.Contains(err.Error(), "[drivers.p] low: it is more than high (swap them)") {
		t.Error(err)
	}
}

func TestEntries(t *testing.T) {
	var got []string
	for _, e := range fakeMenu(newLedger()).Entries() {
		line := e.Contract + " " + e.Name
		if e.Chosen {
			line += " (default)"
		}
		if e.Help() == "" || len(e.Fields()) == 0 {
			t.Errorf("%s has no description", line)
		}
		got = append(got, line)
	}
	want := []string{"registry memory (default)", "scheduler sync (default)", "provisioner basic (default)", "allocator score (default)", "allocator fixed", "monitor poll (default)", "drivers sim", "actions "}
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The example of a menu is a file that reads, and chooses the defaults.
func TestWriteExample(t *testing.T) {
	menu := fakeMenu(newLedger())
	var b strings.Builder
	if err := manager.WriteExample(&b, menu); err != nil {
		t.Fatal(err)
	}
	s, plain := read(t, menu, b.String()), read(t, menu, "")
	if !slices.Equal(s.Choices, plain.Choices) || filepath.Base(s.Data) != filepath.Base(plain.Data) {
		t.Errorf("the example chooses %v in %s", s.Choices, s.Data)
	}
}
