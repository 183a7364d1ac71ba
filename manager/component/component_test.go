package component_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/manager/component"
)

type policy string

type size struct {
	CPU    int            `ini:"cpu" help:"virtual processors" min:"1" max:"64"`
	Memory component.Size `ini:"memory" help:"memory" required:"true"`
}

func (size) Defaults() size { return size{CPU: 2} }

type common struct {
	Label string `ini:"label" help:"shown in lists"`
}

type config struct {
	common
	Path     component.Path     `ini:"path" help:"directory of the store"`
	Every    time.Duration      `ini:"every" help:"time between polls" min:"1s" max:"1h"`
	Limit    component.Size     `ini:"limit" help:"largest answer"`
	Policy   policy             `ini:"policy" help:"how hosts are chosen" oneof:"spread,pack"`
	Workers  int                `ini:"workers" help:"hosts at once" min:"0" max:"100"`
	Slots    uint8              `ini:"slots" help:"slots"`
	Ratio    float64            `ini:"ratio" help:"overcommit"`
	Fsync    bool               `ini:"fsync" help:"sync each write"`
	Hosts    []string           `ini:"hosts" help:"names of hosts"`
	Networks []netip.Prefix     `ini:"networks" help:"allowed networks"`
	Gateway  netip.Addr         `ini:"gateway" help:"gateway" example:"10.0.0.1"`
	Weights  map[string]float64 `ini:"weights" help:"weight of each term" min:"0"`
	Token    component.Secret   `ini:"token" help:"password"`
	Pin      int                `ini:"pin" help:"a secret number" secret:"true"`
	Sizes    map[string]size    `sections:"size" help:"named sizes"`
	Ignored  func()             `ini:"-"`
}

func defaults() config {
	return config{
		common: common{Label: "main"}, Path: "store", Every: 10 * time.Second, Limit: 64 << 20, Policy: "spread", Workers: 8,
		Slots: 3, Ratio: 1.5, Fsync: true, Hosts: []string{"a", "b,c"}, Weights: map[string]float64{"cpu": 2},
	}
}

// one gives a source of one section; its entries are "key=value" on lines 11, 12 …
func one(name string, entries ...string) component.Source {
	s := component.Section{Name: name, Line: 10}
	for i, e := range entries {
		key, value, _ := strings.Cut(e, "=")
		entry := component.Entry{Key: key, Value: value, Raw: value, Line: 11 + i}
		if v, rest, err := component.Unquote(value); err == nil && rest == "" {
			entry.Value = v
		}
		s.Entries = append(s.Entries, entry)
	}
	return component.Source{File: "vagoth.ini", Dir: "/etc/vagoth", Own: []component.Section{s}, All: []component.Section{s}}
}

func TestDecodeTakesWhatIsWritten(t *testing.T) {
	for _, tc := range []struct {
		entry string
		want  func(*config)
	}{
		{"label=other", func(c *config) { c.Label = "other" }},
		{"label=", func(c *config) { c.Label = "" }},
		{`label=" a ; b "`, func(c *config) { c.Label = " a ; b " }},
		{"path=data/x", func(c *config) { c.Path = "/etc/vagoth/data/x" }},
		{"path=../x", func(c *config) { c.Path = "/etc/x" }},
		{"path=/abs", func(c *config) { c.Path = "/abs" }},
		{"path=", func(c *config) { c.Path = "" }},
		{"every=90s", func(c *config) { c.Every = 90 * time.Second }},
		{"limit=10G", func(c *config) { c.Limit = 10 << 30 }},
		{"limit=0", func(c *config) { c.Limit = 0 }},
		{"policy=pack", func(c *config) { c.Policy = "pack" }},
		{"workers=0", func(c *config) { c.Workers = 0 }},
		{"slots=255", func(c *config) { c.Slots = 255 }},
		{"ratio=0", func(c *config) { c.Ratio = 0 }},
		{"ratio=2.5e1", func(c *config) { c.Ratio = 25 }},
		{"fsync=no", func(c *config) { c.Fsync = false }},
		{"fsync=False", func(c *config) { c.Fsync = false }},
		{`hosts=x, "y, z" ,w`, func(c *config) { c.Hosts = []string{"x", "y, z", "w"} }},
		{`hosts=`, func(c *config) { c.Hosts = []string{} }},
		{`networks=10.0.0.0/8, fd00::/8`, func(c *config) {
			c.Networks = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8")}
		}},
		{"gateway=10.0.0.1", func(c *config) { c.Gateway = netip.MustParseAddr("10.0.0.1") }},
		{"weights=cpu=1, memory = 0.5", func(c *config) { c.Weights = map[string]float64{"cpu": 1, "memory": 0.5} }},
		{"weights=", func(c *config) { c.Weights = map[string]float64{} }},
		{"pin=17", func(c *config) { c.Pin = 17 }},
	} {
		t.Run(tc.entry, func(t *testing.T) {
			want := defaults()
			want.Path = "/etc/vagoth/store"
			tc.want(&want)
			got, problems := component.Decode(one("poll", tc.entry), defaults())
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, tc := range []struct{ entry, want string }{
		{"every=30", `vagoth.ini:11: [poll] every: "30" needs a unit, such as 30s`},
		{"every=1.5", `vagoth.ini:11: [poll] every: "1.5" needs a unit, such as 1.5s`},
		{"every=soon", `vagoth.ini:11: [poll] every: "soon" is not a duration such as 500ms, 30s, 5m, 2h or 7d`},
		{"every=", `vagoth.ini:11: [poll] every: the empty value is not a duration such as 500ms, 30s, 5m, 2h or 7d`},
		{"every=1ms", `vagoth.ini:11: [poll] every: "1ms" must be at least 1s`},
		{"every=2h", `vagoth.ini:11: [poll] every: "2h" must be at most 1h`},
		{"every=0", `vagoth.ini:11: [poll] every: "0" must be at least 1s`},
		{"limit=64", `vagoth.ini:11: [poll] limit: "64" needs a unit, such as 64MiB, or 64B for bytes`},
		{"limit=64Mb/s", `vagoth.ini:11: [poll] limit: "64Mb/s" is not a size such as 64MiB or 10G`},
		{"limit=6 apples", `vagoth.ini:11: [poll] limit: "6 apples" has the unknown unit "apples" (use B, KiB, MiB, GiB, TiB or PiB)`},
		{"limit=-1G", `vagoth.ini:11: [poll] limit: "-1G" is not a size such as 64MiB or 10G`},
		{"limit=9000PiB", `vagoth.ini:11: [poll] limit: "9000PiB" is larger than 9223372036854775807B`},
		{"limit=0.3B", `vagoth.ini:11: [poll] limit: "0.3B" is not a whole number of bytes`},
		{"policy=pakc", `vagoth.ini:11: [poll] policy: "pakc" must be spread or pack; did you mean "pack"?`},
		{"workers=many", `vagoth.ini:11: [poll] workers: "many" is not a whole number`},
		{"workers=1_0", `vagoth.ini:11: [poll] workers: "1_0" is not a whole number`},
		{"workers=101", `vagoth.ini:11: [poll] workers: "101" must be at most 100`},
		{"workers=-1", `vagoth.ini:11: [poll] workers: "-1" must be at least 0`},
		{"workers=99999999999999999999", `vagoth.ini:11: [poll] workers: "99999999999999999999" is out of range`},
		{"slots=256", `vagoth.ini:11: [poll] slots: "256" is out of range`},
		{"slots=-1", `vagoth.ini:11: [poll] slots: "-1" must not be negative`},
		{"ratio=NaN", `vagoth.ini:11: [poll] ratio: "NaN" is not a number`},
		{"ratio=inf", `vagoth.ini:11: [poll] ratio: "inf" is not a number`},
		{"ratio=0x10p0", `vagoth.ini:11: [poll] ratio: "0x10p0" is not a number`},
		{"fsync=1", `vagoth.ini:11: [poll] fsync: "1" must be yes or no`},
		{"hosts=a,,b", `vagoth.ini:11: [poll] hosts: the list has an empty element (remove the comma, or write "")`},
		{"hosts=a,", `vagoth.ini:11: [poll] hosts: the list ends with a comma (remove it)`},
		{`hosts="a`, `vagoth.ini:11: [poll] hosts: the quote is not closed (inside quotes, write \" for a quote)`},
		{`hosts="a"b`, `vagoth.ini:11: [poll] hosts: there is text after the closing quote (put the whole value in quotes)`},
		{`label="a", "b"`, `vagoth.ini:11: [poll] label: "\"a\", \"b\"" is a list, where one value is expected`},
		{"networks=10.0.0.0/8, here", `vagoth.ini:11: [poll] networks: "here" is not a valid network like 10.0.0.0/24: netip.ParsePrefix("here"): no '/'`},
		{"weights=cpu", `vagoth.ini:11: [poll] weights: "cpu" is not of the form NAME=number`},
		{"weights=cpu=1,cpu=2", `vagoth.ini:11: [poll] weights: "cpu=2" gives "cpu" a second time`},
		{"weights=cpu=-1", `vagoth.ini:11: [poll] weights: "-1" must be at least 0`},
		{"path=~/x", `vagoth.ini:11: [poll] path: "~/x" begins with ~, which only a shell knows; write the whole path, or one relative to this file`},
		{"pin=hunter2", `vagoth.ini:11: [poll] pin: the value is not a valid whole number`},
		{"pth=x", `vagoth.ini:11: [poll] unknown key "pth" (did you mean "path"?)`},
		{"Path=x", `vagoth.ini:11: [poll] unknown key "Path" (did you mean "path"?)`},
		{"zzzzzz=x", "vagoth.ini:11: [poll] unknown key \"zzzzzz\" (`vagoth components` lists the keys)"},
		{"Ignored=x", "vagoth.ini:11: [poll] unknown key \"Ignored\" (`vagoth components` lists the keys)"},
	} {
		t.Run(tc.entry, func(t *testing.T) {
			_, problems := component.Decode(one("poll", tc.entry), defaults())
			if len(problems) != 1 {
				t.Fatalf("want one problem, got %q", problems)
			}
			if got := problems[0].Error(); got != tc.want {
				t.Errorf("got  %s\nwant %s", got, tc.want)
			}
		})
	}
}

func TestDecodeReportsAllProblemsByLine(t *testing.T) {
	src := one("poll", "every=30", "pth=x", "workers=many")
	src.All = append(src.All, component.Section{Name: "size.small", Line: 3})
	_, problems := component.Decode(src, defaults())
	var lines []int
	for _, p := range problems {
		lines = append(lines, p.Line)
	}
	if want := []int{3, 11, 12, 13}; !slices.Equal(lines, want) {
		t.Errorf("got problems on lines %v, want %v: %q", lines, want, problems)
	}
}

func TestDecodeLeavesDefaultsAlone(t *testing.T) {
	shared := defaults()
	got, _ := component.Decode(one("poll"), shared)
	got.Hosts[0], got.Weights["cpu"] = "changed", 99
	if shared.Hosts[0] != "a" || shared.Weights["cpu"] != 2 {
		t.Error("a decoded config shares memory with the defaults")
	}
}

func TestDecodeFromSectionAndKindSection(t *testing.T) {
	src := one("monitor", "every=5s", "workers=3")
	src.Own = append(src.Own, component.Section{Name: "monitor.poll", Line: 20, Entries: []component.Entry{
		{Key: "limit", Value: "1M", Line: 21}, {Key: "every", Value: "6s", Line: 22},
	}})
	cfg, problems := component.Decode(src, defaults())
	if len(problems) != 1 || problems[0].Error() != `vagoth.ini:22: [monitor.poll] key "every" is also set in [monitor], line 11 (remove one of them)` {
		t.Fatal(problems)
	}
	if cfg.Workers != 3 || cfg.Limit != 1<<20 {
		t.Errorf("got %d and %s", cfg.Workers, cfg.Limit)
	}
}

func TestDecodeSections(t *testing.T) {
	src := one("provisioner")
	src.All = append(src.All,
		component.Section{Name: "size.small", Line: 20, Entries: []component.Entry{{Key: "memory", Value: "1G", Line: 21}}},
		component.Section{Name: "size.m1.large", Line: 30, Entries: []component.Entry{{Key: "memory", Value: "8G", Line: 31}, {Key: "cpu", Value: "8", Line: 32}}},
	)
	cfg, problems := component.Decode(src, defaults())
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	want := map[string]size{"small": {CPU: 2, Memory: 1 << 30}, "m1.large": {CPU: 8, Memory: 8 << 30}}
	if !reflect.DeepEqual(cfg.Sizes, want) {
		t.Errorf("got %v, want %v", cfg.Sizes, want)
	}

	src.All = append(src.All,
		component.Section{Name: "size.a b", Line: 40},
		component.Section{Name: "size.none", Line: 50, Entries: []component.Entry{{Key: "cpus", Value: "1", Line: 51}}},
	)
	_, problems = component.Decode(src, defaults())
	got := ""
	for _, p := range problems {
		got += p.Error() + "\n"
	}
	if want := "vagoth.ini:40: [size.a b] \"a b\" cannot be a name (use letters, digits, `-`, `_` and `.`, at most 63, the first a letter or digit)\n" +
		"vagoth.ini:50: [size.none] required key \"memory\" is missing (memory)\n" +
		"vagoth.ini:51: [size.none] unknown key \"cpus\" (did you mean \"cpu\"?)\n"; got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// What the example and the manual show as a default is what the decoder would read as that default.
func TestShownDefaultsAreTheDefaults(t *testing.T) {
	nothing, _ := component.Decode(one("poll"), defaults())
	var entries []string
	for _, f := range component.Describe("", defaults()).Fields() {
		if f.Default != "" {
			entries = append(entries, f.Key+"="+f.Default)
		}
	}
	if len(entries) < 11 {
		t.Errorf("only %q have a default", entries)
	}
	got, problems := component.Decode(one("poll", entries...), config{})
	if len(problems) > 0 || !reflect.DeepEqual(got, nothing) {
		t.Errorf("got  %+v, %q\nwant %+v", got, problems, nothing)
	}
}

func TestUnusedMayBeIncomplete(t *testing.T) {
	type needy struct {
		checked
		URI string `ini:"uri" help:"where" required:"true"`
	}
	src := one("x", "low=2", "hgih=3")
	src.Unused = true
	if _, problems := component.Decode(src, needy{}); len(problems) != 1 || problems[0].Key != "hgih" {
		t.Errorf("got %q", problems)
	}
	src = one("x", "low=2")
	src.Unused = true
	if _, problems := component.Decode(src, needy{}); len(problems) != 0 {
		t.Errorf("an incomplete config is validated: %q", problems)
	}
	src = one("x", "low=2", "uri=y")
	src.Unused = true
	if _, problems := component.Decode(src, needy{}); len(problems) != 2 || problems[1].Key != "low" {
		t.Errorf("a complete config is not validated: %q", problems)
	}
}

func TestDecodeRest(t *testing.T) {
	type actions struct {
		Timeout time.Duration     `ini:"timeout" help:"for each"`
		Others  map[string]string `ini:"*" help:"what runs"`
	}
	cfg, problems := component.Decode(one("actions", "notify=exec:/bin/true", "timeout=1s", "wall=x"), actions{})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	if want := (actions{time.Second, map[string]string{"notify": "exec:/bin/true", "wall": "x"}}); !reflect.DeepEqual(cfg, want) {
		t.Errorf("got %v, want %v", cfg, want)
	}
}

type checked struct {
	Low  int `ini:"low" help:"least"`
	High int `ini:"high" help:"most"`
}

func (c *checked) Validate() error {
	if c.Low > c.High {
		return errors.Join(&component.KeyError{Key: "low", Reason: "is more than high", Suggestion: "swap them"}, errors.New("nothing fits"))
	}
	return nil
}

func TestDecodeValidates(t *testing.T) {
	_, problems := component.Decode(one("x", "high=1", "low=2"), checked{})
	if len(problems) != 2 || problems[0].Error() != `vagoth.ini:10: [x] nothing fits` ||
		problems[1].Error() != `vagoth.ini:12: [x] low: is more than high (swap them)` {
		t.Errorf("got %q", problems)
	}
}

func TestRequired(t *testing.T) {
	type required struct {
		URI string `ini:"uri" help:"where libvirt listens" required:"true"`
	}
	for _, tc := range []struct {
		entries []string
		want    string
	}{
		{nil, `vagoth.ini:10: [d] required key "uri" is missing (where libvirt listens)`},
		{[]string{"uri="}, `vagoth.ini:11: [d] required key "uri" is empty (where libvirt listens)`},
	} {
		_, problems := component.Decode(one("d", tc.entries...), required{})
		if len(problems) != 1 || problems[0].Error() != tc.want {
			t.Errorf("got %q, want %s", problems, tc.want)
		}
	}
}

func TestSecretIsNeverShown(t *testing.T) {
	cfg, problems := component.Decode(one("x", "token=hunter2"), defaults())
	if len(problems) > 0 || cfg.Token.Reveal() != "hunter2" || !cfg.Token.Equal("hunter2") || cfg.Token.Equal("hunter") {
		t.Fatal(problems, cfg.Token.Reveal())
	}
	type hides struct{ inner component.Secret }
	var log strings.Builder
	slog.New(slog.NewTextHandler(&log, nil)).Info("x", "secret", cfg.Token, "all", cfg)
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "secret", cfg.Token)
	encoded, err := json.Marshal(map[string]any{"t": cfg.Token, "p": &cfg.Token})
	if err != nil {
		t.Fatal(err)
	}
	for what, got := range map[string]string{
		"v": fmt.Sprintf("%v", cfg.Token), "+v": fmt.Sprintf("%+v", cfg), "#v": fmt.Sprintf("%#v", cfg.Token), "s": fmt.Sprintf("%s", cfg.Token),
		"q": fmt.Sprintf("%q", cfg.Token), "x": fmt.Sprintf("%x", cfg.Token), "d": fmt.Sprintf("%d", cfg.Token),
		"unexported": fmt.Sprintf("%+v %#v", hides{cfg.Token}, hides{cfg.Token}),
		"print":      fmt.Sprint(cfg.Token, &cfg.Token), "string": cfg.Token.String(), "json": string(encoded), "log": log.String(),
		"fields": fmt.Sprint(component.Describe("", cfg).Fields()),
	} {
		if strings.Contains(got, "hunter") || strings.Contains(got, "68756e746572") {
			t.Errorf("%s shows the secret: %s", what, got)
		}
		if what != "unexported" && what != "fields" && !strings.Contains(got, "***") {
			t.Errorf("%s does not say that there is a secret: %s", what, got)
		}
	}
}

func TestSecretFromFile(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("good", "hunter2\n")
	write("empty", "\n")
	write("large", strings.Repeat("x", 70000))
	for _, tc := range []struct{ value, want, problem string }{
		{"file:good", "hunter2", ""},
		{"file:" + filepath.Join(dir, "good"), "hunter2", ""},
		{`"file:good"`, "file:good", ""},
		{"file:none", "", "token: the value cannot be read: open " + dir + "/none: no such file or directory"},
		{"file:empty", "", "token: the value cannot be read: " + dir + "/empty is empty"},
		{"file:large", "", "token: the value cannot be read: " + dir + "/large is larger than 64KiB"},
		{"file:.", "", "token: the value cannot be read: " + dir + " is not a regular file"},
	} {
		src := one("x", "token="+tc.value)
		src.Dir = dir
		cfg, problems := component.Decode(src, defaults())
		switch {
		case tc.problem == "" && (len(problems) > 0 || cfg.Token.Reveal() != tc.want):
			t.Errorf("%s: got %q, %q", tc.value, cfg.Token.Reveal(), problems)
		case tc.problem != "" && (len(problems) != 1 || problems[0].Reason != tc.problem):
			t.Errorf("%s: got %q, want %s", tc.value, problems, tc.problem)
		}
	}
	src := one("x", "token=file:none")
	src.Unused = true
	if _, problems := component.Decode(src, defaults()); len(problems) > 0 {
		t.Errorf("the secret of an unused component was read: %q", problems)
	}
}

func TestKindOpensWithItsConfig(t *testing.T) {
	kind := component.Define("says hello", defaults(), func(_ context.Context, cfg config, who string) (string, error) {
		return "hello " + who + " from " + cfg.Label, nil
	})
	open, problems := kind.Decode(one("x", "label=here"))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	got, err := open(t.Context(), "you")
	if err != nil || got != "hello you from here" {
		t.Error(got, err)
	}
	if open, problems = kind.Decode(one("x", "lable=here")); open != nil || len(problems) != 1 {
		t.Error("a config with a problem can be opened")
	}
	var none component.Kind[string, string]
	if open, problems = none.Decode(one("x")); open != nil || len(problems) != 1 {
		t.Error("the zero kind can be opened")
	}
}

func TestDefineRefusesSenselessTags(t *testing.T) {
	type inner struct {
		A map[string]size `sections:"x"`
	}
	for name, tc := range map[string]struct {
		describe func()
		want     string
	}{
		"no struct": {func() { component.Describe("", 1) }, "is not a struct"},
		"no tag":    {func() { component.Describe("", struct{ A int }{}) }, `needs either an "ini" or a "sections" tag`},
		"unexported": {func() {
			component.Describe("", struct {
				a int `ini:"a"`
			}{})
		}, "is not exported"},
		"channel": {func() {
			component.Describe("", struct {
				A chan int `ini:"a"`
			}{})
		}, "cannot stand in a config"},
		"any": {func() {
			component.Describe("", struct {
				A any `ini:"a"`
			}{})
		}, "cannot stand in a config"},
		"bad min": {func() {
			component.Describe("", struct {
				A int `ini:"a" min:"x"`
			}{})
		}, "not of its type"},
		"min of text": {func() {
			component.Describe("", struct {
				A string `ini:"a" min:"1"`
			}{})
		}, "has no order"},
		"oneof of int": {func() {
			component.Describe("", struct {
				A int `ini:"a" oneof:"1,2"`
			}{})
		}, "for text only"},
		"twice": {func() {
			component.Describe("", struct {
				A, B int `ini:"a"`
			}{})
		}, "two fields"},
		"bad flag": {func() {
			component.Describe("", struct {
				A int `ini:"a" required:"yes"`
			}{})
		}, `must be "true"`},
		"both": {func() {
			component.Describe("", struct {
				A int `ini:"a" required:"true"`
			}{1})
		}, "it can only be one"},
		"default": {func() {
			component.Describe("", struct {
				A int `ini:"a" max:"1"`
			}{2})
		}, "its own tags refuse"},
		"rest": {func() {
			component.Describe("", struct {
				A string `ini:"*"`
			}{})
		}, "must be a map"},
		"sections": {func() {
			component.Describe("", struct {
				A map[string]int `sections:"a"`
			}{})
		}, "map from string to a struct"},
		"sections deep": {func() {
			component.Describe("", struct {
				A map[string]inner `sections:"a"`
			}{})
		}, "inside of sections"},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.Contains(got, tc.want) {
					t.Errorf("got %s, want %s", got, tc.want)
				}
			}()
			tc.describe()
		})
	}
}
