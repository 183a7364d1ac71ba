package agent

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/virt/mistify"
)

const mistifyExample = `{
    "actions": {
        "create": {"stages": [
            {"method": "ImageStore.CreateGuestDisks", "service": "storage", "args": {"pool": "fast"}, "undo": "ImageStore.UndoGuestDisks",},
            {"method": "Libvirt.CreateGuest", "service": "libvirt", "idempotent": true},
        ]},
        "containerCreate": {"type": 2, "stages": [{"method": "MDocker.CreateContainer", "service": "mdocker"}]},
        "listContainerImages": {"stages": [{"method": "Test.ListContainerImages", "service": "test"}]},
        "downloadSnapshot": {"type": "stream", "stages": [{"method": "ImageStore.DownlaodSnapshot", "service": "storageDownload"}]},
        "reboot": {"type": "info", "stages": [{"method": "Libvirt.Reboot", "service": "libvirt"}]},
    },
    "dbpath": "/mistify/.agent.db",
    "unknown": [1, 2,],
    "services": {
        "libvirt": {"port": 20001, "max_pending": 7},
        "mdocker": {"port": 30001, "path": "/rpc",},
        "storage": {"port": 16000, "timeout": "90s"},
        "storageDownload": {"path": "/snapshots/download", "port": 16000},
    },
}
`

// Mistify's own config is read as it is.
func TestReadMistify(t *testing.T) {
	cfg, warnings, err := ReadMistify(strings.NewReader(mistifyExample))
	if err != nil {
		t.Fatal(err)
	}
	want := Defaults()
	want.Store = "/mistify/.agent.db"
	want.Services = map[string]ServiceConfig{
		"libvirt": {Port: 20001, MaxPending: 7}, "mdocker": {Port: 30001, Path: "/rpc"}, "storage": {Port: 16000, Timeout: 90 * time.Second}, "storageDownload": {Port: 16000, Path: "/snapshots/download"},
	}
	want.Actions = map[string]ActionConfig{
		"create":           {Stages: []Stage{{Service: "storage", Method: "ImageStore.CreateGuestDisks", Undo: "ImageStore.UndoGuestDisks", Args: map[string]string{"pool": "fast"}}, {Service: "libvirt", Method: "Libvirt.CreateGuest", Idempotent: true}}},
		"containerCreate":  {Stages: []Stage{{Service: "mdocker", Method: "MDocker.CreateContainer"}}},
		"downloadSnapshot": {Stages: []Stage{{Service: "storageDownload", Method: "ImageStore.DownlaodSnapshot"}}},
		"reboot":           {Stages: []Stage{{Service: "libvirt", Method: "Libvirt.Reboot"}}},
	}
	if !reflect.DeepEqual(want, cfg) {
		t.Errorf("got  %+v\nwant %+v", cfg, want)
	}
	if len(warnings) != 2 || !strings.Contains(warnings[0], "listContainerImages") || !strings.Contains(warnings[1], "reboot") {
		t.Errorf("%q", warnings)
	}
	for _, c := range []struct{ file, problem string }{
		{``, "nothing"}, {`{`, "breaks off"}, {`{"actions":{"create":{"stages":[{"service":"x","method":"A.B"}]}}}`, `service "x"`},
		{`{"services":{"a":{}}}`, "no port"}, {`{"services":{"a":{"port":70000}}}`, "port"}, {`{"services":{"a":{"port":1,"path":"../x"}}}`, "path"},
		{`{"services":{"a":{"port":1}},"actions":{"create":{"stages":[{"service":"a","method":"rm -rf"}]}}}`, "method"},
		{`{"services":{"a":{"port":1}},"actions":{"create":{"stages":[]}}}`, "0 stages"}, {`{"services":{"a":{"port":1,"timeout":"soon"}}}`, "timeout"},
		{`{"services":{"a":{"port":1}},"actions":{"downloadSnapshot":{"stages":[{"service":"a","method":"A.B"},{"service":"a","method":"A.B"}]}}}`, "one stage"},
	} {
		if _, _, err := ReadMistify(strings.NewReader(c.file)); err == nil || !strings.Contains(err.Error(), c.problem) {
			t.Errorf("%s: %v, want %q", c.file, err, c.problem)
		}
	}
}

// The ini sections say the same.
func TestIni(t *testing.T) {
	section := func(name string, keys ...string) component.Section {
		s := component.Section{Name: name}
		for i := 0; i < len(keys); i += 2 {
			s.Entries = append(s.Entries, component.Entry{Key: keys[i], Value: keys[i+1]})
		}
		return s
	}
	all := []component.Section{
		section("agent", "listen", "127.0.0.1:9", "require_token", "true", "keep_jobs", "5"),
		section("agent.service.libvirt", "port", "20001", "max_pending", "7"), section("agent.service.storage", "port", "16000", "timeout", "90s"),
		section("agent.action.create", "stages", "storage ImageStore.CreateGuestDisks pool=a%20b undo ImageStore.UndoGuestDisks, libvirt Libvirt.CreateGuest idempotent"),
	}
	cfg, problems := component.Decode(component.Source{File: "x.ini", Own: all[:1], All: all}, Defaults())
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	want := Defaults()
	want.Listen, want.RequireToken, want.KeepJobs = "127.0.0.1:9", true, 5
	want.Services = map[string]ServiceConfig{"libvirt": {Port: 20001, MaxPending: 7}, "storage": {Port: 16000, Timeout: 90 * time.Second}}
	want.Actions = map[string]ActionConfig{"create": {Stages: []Stage{{Service: "storage", Method: "ImageStore.CreateGuestDisks", Undo: "ImageStore.UndoGuestDisks", Args: map[string]string{"pool": "a b"}}, {Service: "libvirt", Method: "Libvirt.CreateGuest", Idempotent: true}}}}
	if !reflect.DeepEqual(want, cfg) {
		t.Errorf("got  %+v\nwant %+v", cfg, want)
	}
	for _, c := range []struct{ section, key, value, problem string }{
		{"agent.action.crate", "stages", "libvirt A.B", "create"}, {"agent.action.create", "stages", "libvrit A.B", "libvirt"}, {"agent.action.create", "stages", "libvirt", "SERVICE METHOD"},
		{"agent.action.create", "stages", "libvirt A.B twice", "idempotent"}, {"agent.action.create", "stages", "libvirt A.B undo", "undo METHOD"}, {"agent.action.create", "stages", "libvirt A.B undo A.C undo A.D", "twice"},
		{"agent.action.create", "stages", "libvirt A.B undo rm", "undo"}, {"agent.action.fetchImage", "stages", "libvirt A.B undo A.C", "leave it out"},
		{"agent.action.status", "stages", "libvirt A.B undo A.C", "leave it out"},
		{"agent.service.x", "prot", "1", "port"}, {"agent.service.x", "port", "99999", "65535"},
	} {
		_, problems := component.Decode(component.Source{File: "x.ini", Own: all[:1], All: append(slices.Clone(all[:3]), section(c.section, c.key, c.value))}, Defaults())
		text := ""
		for _, p := range problems {
			text += p.Error() + "\n"
		}
		if !strings.Contains(text, c.problem) {
			t.Errorf("[%s] %s = %s: %q, want %q", c.section, c.key, c.value, text, c.problem)
		}
	}
}

// A stage is read as it is written.
func FuzzStage(f *testing.F) {
	f.Add("libvirt Libvirt.Create idempotent a=b c=%20")
	f.Add("a b =")
	f.Add("a b undo a.c undo=1")
	f.Fuzz(func(t *testing.T, text string) {
		var s, again Stage
		if s.UnmarshalText([]byte(text)) != nil {
			return
		}
		written, err := s.MarshalText()
		if err != nil {
			t.Fatal(err)
		}
		if err := again.UnmarshalText(written); err != nil || again.Service != s.Service || again.Idempotent != s.Idempotent || again.Undo != s.Undo || !maps.Equal(again.Args, s.Args) {
			t.Fatalf("%q became %q: %+v, %+v, %v", text, written, s, again, err)
		}
	})
}

// Whatever an agent.json holds, it is an error or a config that opens.
func FuzzReadMistify(f *testing.F) {
	f.Add(mistifyExample)
	f.Add(`{"services":{"a":{"port":1,},},}`)
	f.Fuzz(func(t *testing.T, text string) {
		cfg, _, err := ReadMistify(strings.NewReader(text))
		if err != nil {
			return
		}
		if err := cfg.Validate(); err != nil {
			t.Fatalf("it was accepted and is not valid: %v", err)
		}
		for name := range cfg.Actions {
			if _, err := mistify.ParseAction(name); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// Only commas before a closing bracket go, and only outside of texts.
func TestTrailingCommas(t *testing.T) {
	for in, want := range map[string]string{
		`[1,]`: `[1 ]`, `{"a":1 , }`: `{"a":1   }`, `[",]"]`: `[",]"]`, `["\",]",]`: `["\",]" ]`, `[,]`: `[ ]`, `[1,,]`: `[1, ]`, `[1,2]`: `[1,2]`, `"`: `"`, `"\`: `"\`, `,`: `,`, "[1,\n\t]": "[1 \n\t]",
	} {
		if got := string(withoutTrailingCommas([]byte(in))); got != want {
			t.Errorf("%q became %q, want %q", in, got, want)
		}
	}
}
