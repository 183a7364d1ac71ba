package component_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/registry"
)

type slots struct {
	Slots int `ini:"slots" help:"at once" min:"1"`
}

type limits struct {
	Limits map[string]slots `sections:"limit" names:"key" help:"limits"`
	Sizes  map[string]slots `sections:"size" help:"sizes"`
}

func TestSectionsNamedByKeys(t *testing.T) {
	good := []string{"host:*", "spin-*", "*", "10.0.0.1", "a/b", "a/*", "host:h1", "disk@h1", "C++", "x" + strings.Repeat("y", 99)}
	bad := []string{"", "-a", "_a", "*a", "a*b", "a**", "a..b", "a//b", "a/", "a b", "ä", "a$", "x" + strings.Repeat("y", 100)}
	src := component.Source{File: "v.ini"}
	for i, name := range slices.Concat(good, bad) {
		src.All = append(src.All, component.Section{Name: "limit." + name, Line: i + 1, Entries: []component.Entry{{Key: "slots", Value: "2", Line: i + 1}}})
	}
	cfg, problems := component.Decode(src, limits{})
	if got, want := slices.Sorted(maps.Keys(cfg.Limits)), slices.Sorted(slices.Values(good)); !slices.Equal(got, want) {
		t.Errorf("got the names %q, want %q", got, want)
	}
	if len(problems) != len(bad) {
		t.Errorf("got %d problems, want %d: %v", len(problems), len(bad), problems)
	}
	for _, p := range problems {
		if !strings.Contains(p.Error(), "cannot be a name") || !strings.Contains(p.Error(), "`*` at the end") {
			t.Errorf("the problem says %v", p)
		}
	}
	// A field without the tag takes what it always did.
	src.All = []component.Section{{Name: "size.host:*", Line: 1}, {Name: "size.m1.large", Line: 2}}
	cfg, problems = component.Decode(src, limits{})
	if len(problems) != 1 || problems[0].Line != 1 || len(cfg.Sizes) != 1 {
		t.Errorf("sizes: %v, %v", cfg.Sizes, problems)
	}
}

// Whatever is a key of the registry, and so the name of a queue or a limit, can have a section, alone and as the
// beginning of a pattern.
func TestEveryKeyCanHaveASection(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringMatching(`[a-z0-9*._:/@+-]{1,12}`).Draw(t, "name")
		begin, pattern := strings.CutSuffix(name, "*")
		want := registry.CheckKey(begin) == nil
		if pattern {
			want = begin == "" || registry.CheckKey(begin+"x") == nil
		}
		if got := component.IsKeyPattern(name); got != want {
			t.Fatalf("%q: got %t, the registry says %t", name, got, want)
		}
	})
}

func TestNamesTagIsChecked(t *testing.T) {
	for want, describe := range map[string]func(){
		"for sections only": func() {
			component.Describe("", struct {
				A string `ini:"a" names:"key"`
			}{})
		},
		`not "key"`: func() {
			component.Describe("", struct {
				A map[string]slots `sections:"a" names:"any"`
			}{})
		},
	} {
		func() {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.Contains(got, want) {
					t.Errorf("got %s, want %s", got, want)
				}
			}()
			describe()
		}()
	}
}
