package config_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/manager/config"
)

type (
	memConfig struct {
		Path  component.Path `ini:"path" help:"directory"`
		Every time.Duration  `ini:"every" help:"between snapshots"`
	}
	etcdConfig struct {
		Endpoints []string         `ini:"endpoints" help:"addresses of etcd" required:"true"`
		Prefix    string           `ini:"prefix" help:"of all keys"`
		Password  component.Secret `ini:"password" help:"password"`
	}
	sizeConfig struct {
		CPU int `ini:"cpu" help:"processors" required:"true" min:"1"`
	}
	templateConfig struct {
		Sizes map[string]sizeConfig `sections:"size" help:"named sizes"`
	}
	topConfig struct {
		Data   component.Path `ini:"data" help:"stores"`
		Limits map[string]struct {
			Slots int `ini:"slots" help:"at once"`
		} `sections:"limit" names:"key" help:"limits"`
	}
	kind = component.Kind[string, string]
)

func opens[C any](defaults C) kind {
	return component.Define("a kind", defaults, func(_ context.Context, cfg C, deps string) (string, error) {
		return fmt.Sprintf("%s %+v", deps, cfg), nil
	})
}

func registries() map[string]kind {
	return map[string]kind{"memdb": opens(memConfig{Every: time.Minute}), "etcd": opens(etcdConfig{Prefix: "/v"})}
}

func provisioners() map[string]kind {
	return map[string]kind{"basic": opens(struct{}{}), "template": opens(templateConfig{})}
}

// read reads a document as the manager does, and gives what would be opened.
func read(t *testing.T, doc string) (string, error) {
	t.Helper()
	f, _ := config.Parse("/etc/v.ini", []byte(doc))
	top := config.Section(f, "", topConfig{Data: "data"})
	reg := config.Select(f, "registry", "memdb", registries())
	pro := config.Select(f, "provisioner", "basic", provisioners())
	drivers := config.Instances(f, "drivers", "", map[string]kind{"sim": opens(memConfig{}), "libvirt": opens(etcdConfig{})})
	var actions []string
	for _, e := range f.Entries("actions") {
		actions = append(actions, fmt.Sprintf("%s@%d", e.Key, e.Line))
	}
	if err := f.Err(); err != nil {
		return "", err
	}
	opened := []string{fmt.Sprintf("top %+v", top)}
	open := func(name string, c config.Choice[string, string]) {
		got, err := c.Open(t.Context(), name+" "+c.Kind)
		if err != nil {
			t.Fatal(err)
		}
		opened = append(opened, got)
	}
	open("registry", reg)
	open("provisioner", pro)
	for _, d := range drivers {
		open(d.Name, d.Choice)
	}
	return strings.Join(append(opened, fmt.Sprint(actions)), "\n"), nil
}

func TestSelectAndInstances(t *testing.T) {
	for _, tc := range []struct{ name, doc, want string }{
		{"nothing said", "", "top {Data:/etc/data Limits:map[]}\nregistry memdb {Path: Every:1m0s}\nprovisioner basic {}\n[]"},
		{"everything said", `data = /d
[registry]
use = etcd
prefix = /x
[registry.memdb]
path = unused
[registry.etcd]
endpoints = a, b
[provisioner]
use = template
[size.s]
cpu = 1
[limit.l]
slots = 3
[drivers.z]
use = sim
path = z
[drivers.a]
use = libvirt
endpoints = c
[actions]
z = 1
a = 2
`, `top {Data:/d Limits:map[l:{Slots:3}]}
registry etcd {Endpoints:[a b] Prefix:/x Password:***}
provisioner template {Sizes:map[s:{CPU:1}]}
z sim {Path:/etc/z Every:0s}
a libvirt {Endpoints:[c] Prefix: Password:***}
[z@22 a@23]`},
		{"default kind with keys", "[registry]\nevery = 0\n", "top {Data:/etc/data Limits:map[]}\nregistry memdb {Path: Every:0s}\nprovisioner basic {}\n[]"},
		{"kind not chosen may lack what is required, and its secret is not read", "[registry.etcd]\nprefix = x\npassword = file:none\n",
			"top {Data:/etc/data Limits:map[]}\nregistry memdb {Path: Every:1m0s}\nprovisioner basic {}\n[]"},
		{"patterns", "[limit.host:*]\nslots = 3\n[limit.host:h1.example]\nslots = 4\n", "top {Data:/etc/data Limits:map[host:*:{Slots:3} host:h1.example:{Slots:4}]}\nregistry memdb {Path: Every:1m0s}\nprovisioner basic {}\n[]"},
		{"sections of a kind not chosen", "[size.s]\ncpu = 1\n", "top {Data:/etc/data Limits:map[]}\nregistry memdb {Path: Every:1m0s}\nprovisioner basic {}\n[]"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got, err := read(t, tc.doc)
			if err != nil {
				t.Fatal(err)
			}
			if got != tc.want {
				t.Errorf("got\n%s\nwant\n%s", got, tc.want)
			}
		})
	}
}

func TestSelectRefuses(t *testing.T) {
	for _, tc := range []struct {
		name, doc string
		want      []string
	}{
		{"unknown kind", "[registry]\nuse = etdc\npath = x\n", []string{`2: [registry] use: there is no kind "etdc" (did you mean "etcd"? the kinds are etcd, memdb)`}},
		{"unlike any kind", "[registry]\nuse = postgres\n", []string{`2: [registry] use: there is no kind "postgres" (the kinds are etcd, memdb)`}},
		{"empty kind", "[registry]\nuse =\n", []string{`2: [registry] use: the value is empty (the kinds are etcd, memdb)`}},
		{"broken use is one problem", "[registry]\nuse = 'etcd'\nendpoints = x\n", []string{`2: [registry] use: the value is in single quotes (use double quotes)`}},
		{"use in the wrong section", "[registry.memdb]\nuse = memdb\n", []string{`2: [registry.memdb] unknown key "use" (it stands in [registry])`}},
		{"key of the other kind", "[registry]\nendpoints = x\n", []string{`2: [registry] unknown key "endpoints" (it is a key of etcd: put it in [registry.etcd])`}},
		{"unknown key", "[registry]\npth = x\n", []string{`2: [registry] unknown key "pth" (did you mean "path"?)`}},
		{"kind not chosen is checked", "[registry.etcd]\nendpoint = x\n[size.s]\ncpu = 0\n[size.t]\n", []string{
			`2: [registry.etcd] unknown key "endpoint" (did you mean "endpoints"?)`, `4: [size.s] cpu: "0" must be at least 1`,
			`5: [size.t] required key "cpu" is missing (processors)`}},
		{"in both sections", "[registry.memdb]\npath = x\n[registry]\npath = y\n", []string{`2: [registry.memdb] key "path" is also set in [registry], line 4 (remove one of them)`}},
		{"required", "[registry]\nuse = etcd\n", []string{`1: [registry] required key "endpoints" is missing (addresses of etcd)`}},
		{"broken line is not missing too", "[registry]\nuse = etcd\n[registry.etcd]\nendpoints: x\n", []string{`4: [registry.etcd] key "endpoints" is followed by a colon (write endpoints = …)`}},
		{"unknown kind section", "[registry.etdc]\n", []string{`1: [registry.etdc] unknown section (did you mean [registry.etcd]?)`}},
		{"unlike any kind section", "[registry.sqlite]\n", []string{`1: [registry.sqlite] unknown section (there are [registry.etcd], [registry.memdb])`}},
		{"unknown section", "[registy]\na = b\n", []string{`1: [registy] unknown section (did you mean [registry]?)`}},
		{"unknown group", "[driver.local]\n", []string{`1: [driver.local] unknown section (did you mean [drivers.local]?)`}},
		{"group without a name", "[drivers]\nuse = sim\n", []string{`1: [drivers] unknown section (give it a name, as in [drivers.NAME])`}},
		{"nothing near", "[zzzzzzzzzzz]\n", []string{"1: [zzzzzzzzzzz] unknown section (`vagoth config example` shows the sections)"}},
		{"pattern in the wrong group", "[drivers.x:*]\nuse = sim\n[size.*]\ncpu = 1\n[limt.host:*]\n[limit.*x]\n", []string{
			`1: [drivers.x:*] "x:*" cannot be a name`,
			"3: [size.*] \"*\" cannot be a name (use letters, digits, `-`, `_` and `.`, at most 63, the first a letter or digit)",
			`5: [limt.host:*] unknown section (did you mean [limit.host:*]?)`,
			"6: [limit.*x] \"*x\" cannot be a name (use letters, digits, `-`, `_`, `.`, `:`, `/`, `@` and `+`, at most 100, the first a letter or digit; a `*` at the end matches what follows)"}},
		{"unknown top key", "dat = x\n", []string{`1: unknown key "dat" (did you mean "data"?)`}},
		{"instance without a kind", "[drivers.x]\npath = y\n", []string{`1: [drivers.x] required key "use" is missing (the kinds are libvirt, sim)`}},
		{"instance with a problem", "[drivers.x]\nuse = sim\nevery = 30\n[drivers.y]\nuse = sm\n", []string{
			`3: [drivers.x] every: "30" needs a unit, such as 30s`, `5: [drivers.y] use: there is no kind "sm" (did you mean "sim"? the kinds are libvirt, sim)`}},
		{"everything at once, by line", "x\n[registry]\nuse = etcd\n[provisioner]\nuse = tmplate\n[what]\n[drivers.a]\nuse = libvirt\nendpoints = a,\n", []string{
			`1: the line is no header, no comment and no key = value (a value ends with its line; a list goes on one line, with commas)`,
			`2: [registry] required key "endpoints" is missing (addresses of etcd)`,
			`5: [provisioner] use: there is no kind "tmplate" (did you mean "template"? the kinds are basic, template)`,
			"6: [what] unknown section (`vagoth config example` shows the sections)",
			`9: [drivers.a] endpoints: the list ends with a comma (remove it)`}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := read(t, tc.doc)
			var all *config.Error
			if !errors.As(err, &all) {
				t.Fatalf("got %v", err)
			}
			var got []string
			for _, p := range all.Problems {
				got = append(got, strings.TrimPrefix(p.Error(), "/etc/v.ini:"))
			}
			if !slices.Equal(got, tc.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tc.want, "\n"))
			}
		})
	}
}

func TestUnclaimedTopKeys(t *testing.T) {
	f, _ := config.Parse("v.ini", []byte("a = 1\n[b]\nc = 2\n[d.e]\n"))
	if got := list(f.Unclaimed()); got != "v.ini:1: unknown key \"a\" above the first section\n"+
		"v.ini:2: [b] unknown section (`vagoth config example` shows the sections)\n"+
		"v.ini:4: [d.e] unknown section (`vagoth config example` shows the sections)\n" {
		t.Error(got)
	}
	f.Claim("", "b", "d.*")
	if got := f.Unclaimed(); len(got) > 0 {
		t.Error(got)
	}
}

func TestErrorIsBounded(t *testing.T) {
	f, _ := config.Parse("v.ini", []byte(strings.Repeat("x\n", 200)))
	err := f.Err()
	if text := err.Error(); !strings.HasPrefix(text, "v.ini has 200 problems:\n  v.ini:1: ") || !strings.HasSuffix(text, "\n  and 150 more") {
		t.Error(text)
	}
	var p component.Problem
	if !errors.As(err, &p) || p.Line != 1 {
		t.Errorf("the first problem is not found: %v", p)
	}
}

func TestReportKeepsAProblemOnce(t *testing.T) {
	f, _ := config.Parse("v.ini", []byte("[actions]\nnotify = what\n"))
	e := f.Entries("actions")[0]
	f.ReportAt("actions", e, `notify: "what" is no action`, "")
	f.ReportAt("actions", e, `notify: "what" is no action`, "")
	if err := f.Err(); err == nil || err.Error() != `v.ini:2: [actions] notify: "what" is no action` {
		t.Error(err)
	}
}
