package manager_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/manager/config"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/virt"
)

// described is an action in one line.
func described(a scheduler.Action) string {
	words := []string{a.Help, a.Timeout.String()}
	for _, p := range a.Params {
		w := p.Name + ":" + string(p.Type)
		if p.Required {
			w += "!"
		}
		words = append(words, w)
	}
	for _, f := range []struct {
		on   bool
		word string
	}{{a.AnyParams, "any"}, {a.Urgent, "urgent"}, {a.Superseded, "superseded"}, {a.Remote, "remote"}} {
		if f.on {
			words = append(words, f.word)
		}
	}
	return strings.Join(words, " ")
}

func TestActions(t *testing.T) {
	menu := fakeMenu(newLedger())
	for _, c := range []struct{ text, name, want string }{
		{"[actions]\nx = exec:/bin/x -v\n", "x", "[/bin/x -v] 10m0s vm:string args:object any"},
		{"[action.x]\nrun = exec:/bin/x -v\n", "x", "[/bin/x -v] 10m0s vm:string args:object any"},
		{"[actions]\nx = https://h/x\n", "x", `[https://h/x ""] 10m0s vm:string args:object any`},
		{"[action.x]\nrun = http://h/x\ntoken = abc\ntimeout = 5s\nhelp = pages somebody\n", "x", `pages somebody 5s vm:string args:object any`},
		{"[action.x]\nrun = http://h/x\ntoken = abc\n", "x", `[http://h/x "abc"] 10m0s vm:string args:object any`},
		{"[actions]\nx = remote\n", "x", "done by workers outside 0s vm:string args:object any remote"},
		{"[actions]\nx = remote\n[action.x]\nparams = name:string! size:integer\ntimeout = 1h\nurgent = yes\n", "x", "done by workers outside 1h0m0s name:string! size:integer urgent remote"},
		{"[action.x]\nrun = exec:/bin/x\ngrace = 30s\nparams =\n", "x", "[/bin/x] grace 30s 10m0s"},
		{"[action.x]\nrun = exec:/bin/x\nparams =\n", "x", "[/bin/x] 10m0s"},
		{"[action.x]\nrun = exec:/bin/x\nparams = a:number b:boolean c:object d:array! e:duration\n", "x", "[/bin/x] 10m0s a:number b:boolean c:object d:array! e:duration"},
		{"[actions]\nvm_stop = exec:/bin/x\n", "vm_stop", "[/bin/x] 10m0s args:object urgent"},
		{"[action.vm_stop]\nrun = remote\nurgent = no\nparams = hard:boolean\n", "vm_stop", "done by workers outside 0s args:object hard:boolean remote"},
		{"[action.vm_stop]\nrun = exec:/bin/x\nparams = args:object!\n", "vm_stop", "[/bin/x] 10m0s args:object urgent"},
		{"[action.vm_stop]\ntimeout = 9s\n", "vm_stop", " 9s urgent"},
		{"[actions]\nhalt = vm_stop\n[action.halt]\nhelp = off\nurgent = no\n", "halt", "off 0s"},
		{"command_timeout = 1m\n[actions]\nx = http://h/x\n", "x", `[http://h/x ""] 1m0s vm:string args:object any`},
	} {
		m, err := manager.Open(t.Context(), read(t, menu, c.text), manager.Options{})
		if err != nil {
			t.Errorf("%q: %v", c.text, err)
			continue
		}
		a := m.Actions[c.name]
		if got := described(a); got != c.want || a.Name != c.name {
			t.Errorf("%q:\n got %s\nwant %s", c.text, got, c.want)
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	}
}

// Whatever is wrong with an action is told with its line, and with what to do.
func TestActionsAreRefused(t *testing.T) {
	menu := fakeMenu(newLedger())
	for _, c := range []struct{ text, want string }{
		{"[actions]\nx = exce:/bin/x\n", `v.ini:2: [actions] x: "exce:/bin/x" is neither a built-in action nor exec:/path/of/a/program, an http(s) URL or remote (did you mean "exec:/bin/x"?)`},
		{"[actions]\nx = /bin/x\n", `(did you mean "exec:/bin/x"?)`},
		{"[actions]\nx = htps://h/x\n", `(did you mean "https://h/x"?)`},
		{"[actions]\nx = remot\n", `(did you mean "remote"?)`},
		{"[actions]\nx = vm_strt\n", `did you mean "vm_start"?`},
		{"[actions]\nx = exec: \n", "x: exec: names no program"},
		{"[actions]\nx = https://ann@h/\n", "x: the URL holds a user"},
		{"[action.x]\nhelp = y\n", `v.ini:1: [action.x] it says not what runs it: the key "run" is missing (write run`},
		{"[action.vm_strt]\ntimeout = 5s\n", `did you mean [action.vm_start]?`},
		{"[actions]\nx = vm_stop\n[action.x]\nhelp = y\nrun = vm_stop\n", "v.ini:5: [action.x] what runs x is also said in [actions], line 2 (remove one of them)"},
		{"[actions]\nx = vm_stop\n[action.x]\nparams = a:string\n", "vm_stop is built in and knows what it takes"},
		{"[action.x]\nrun = exec:/bin/x\ntoken = s3cret\n", "v.ini:2: [action.x] x: a token is for a URL"},
		{"[action.x]\nrun = vm_stop\ntoken = s3cret\n", "a token is for a URL"},
		{"[action.x]\nrun = https://h/x\ngrace = 5s\n", "v.ini:2: [action.x] x: a grace is for a program"},
		{"[action.vm_stop]\ngrace = 5s\n", "a grace is for a program"},
		{"[action.x]\nrun = exec:/bin/x\ngrace = 11m\n", "10m"},
		{"[action.vm_stop]\nrun = remote\nparams = a:string a:number\n", `"a" stands there twice`},
		{"[action.x]\nrun = remote\nparams = a\n", `v.ini:3: [action.x] params: "a" is not a valid list of NAME:TYPE: "a" has no type: write a:string`},
		{"[action.x]\nrun = remote\nparams = a:strng! b:text\n", `"a:strng!": there is no type "strng" (did you mean "string"?); "b:text": there is no type "text" (there are string, integer, number, boolean, object, array, duration)`},
		{"[action.x]\nrun = remote\nparams = a:string, b:string\n", "part parameters with spaces"},
		{"[action.x]\nrun = remote\nparams = :string\n", "cannot be a parameter's name"},
		{"[action.x]\nrun = remote\nurgent = maybe\n", "write yes or no"},
		{"[action.x]\nrun = remote\ntimeout = 30\n", "needs a unit"},
		{"[action.x]\nrun = remote\nhlp = y\n", `unknown key "hlp" (did you mean "help"?)`},
		{"[action.x:y]\nrun = remote\n", "cannot be a name"},
		{"[acton.x]\nrun = remote\n", "did you mean [action.x]?"},
	} {
		f, _ := config.Parse("v.ini", []byte(c.text))
		_, err := manager.Read(f, menu)
		var all *config.Error
		if !errors.As(err, &all) || len(all.Problems) != 1 || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q:\n got %v\nwant %s", c.text, err, c.want)
		}
	}
	menu.URL = nil
	f, _ := config.Parse("v.ini", []byte("[actions]\nx = https://h\n"))
	if _, err := manager.Read(f, menu); err == nil || !strings.Contains(err.Error(), "posts to no URLs") {
		t.Error(err)
	}
}

// A built-in's parameter cannot be declared to be another.
func TestActionsKeepBuiltInParams(t *testing.T) {
	menu := fakeMenu(newLedger())
	builtin := menu.Actions(nil)
	stop := builtin["vm_stop"]
	stop.Params = []scheduler.Param{{Name: "grace", Type: scheduler.Duration}}
	builtin["vm_stop"] = stop
	menu.Actions = func(virt.Cluster) map[string]scheduler.Action { return builtin }
	f, _ := config.Parse("v.ini", []byte("[action.vm_stop]\nrun = remote\nparams = grace:string\n"))
	if _, err := manager.Read(f, menu); err == nil || !strings.Contains(err.Error(), `takes "grace" (duration) already`) {
		t.Error(err)
	}
	m, err := manager.Open(t.Context(), read(t, menu, "[actions]\nvm_stop = remote\n"), manager.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := described(m.Actions["vm_stop"]), "done by workers outside 0s grace:duration args:object urgent remote"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if err := m.Close(); err != nil {
		t.Error(err)
	}
}

func TestActionsAreInTheExample(t *testing.T) {
	var b strings.Builder
	if err := manager.WriteExample(&b, fakeMenu(newLedger())); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"\n[actions]\n", "; NAME = exec:/usr/local/bin/notify", "; [action.NAME]", "; run = exec:/usr/local/bin/notify", "; params = channel:string! count:integer", "; token ="} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("the example lacks %q", want)
		}
	}
}

// FuzzParamList: whatever is accepted is written the same way and read again as
// the same.
func FuzzParamList(f *testing.F) {
	for _, seed := range []string{"", "a:string!", "a:string b:integer", "a", ":", "a:b:c!", "a:string,b:string", "a:string! a:string"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var l manager.ParamList
		if err := l.UnmarshalText([]byte(text)); err != nil {
			return
		}
		var words []string
		for _, p := range l.Params {
			w := fmt.Sprintf("%s:%s", p.Name, p.Type)
			if p.Required {
				w += "!"
			}
			words = append(words, w)
		}
		if got := strings.Join(strings.Fields(text), " "); got != strings.Join(words, " ") {
			t.Fatalf("%q was read as %q", text, words)
		}
		var again manager.ParamList
		if err := again.UnmarshalText([]byte(strings.Join(words, " "))); err != nil || !slices.Equal(again.Params, l.Params) || !again.Declared {
			t.Fatalf("%q was read as %v, %v", words, again, err)
		}
	})
}
