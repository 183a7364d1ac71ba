package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/manager/standard"
	"github.com/vagoth/vagoth/registry"
)

// TestCompletionTables: every place in the tables is that of a command or flag,
// and every command that takes arguments says what they are.
func TestCompletionTables(t *testing.T) {
	root := newRoot(&app{menu: standard.Menu(), env: Env{Getenv: func(string) string { return "" }}})
	commands, flags := map[string]bool{}, map[string]bool{}
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		path := strings.TrimPrefix(c.CommandPath(), root.Name()+" ")
		commands[path] = true
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			flags["--"+f.Name], flags[path+" --"+f.Name] = true, true
		})
		_, place := argPlaces()[path]
		if takes := strings.Contains(c.Use, " "); takes && !place {
			t.Errorf("%q takes arguments and has no place in argPlaces", c.Use)
		} else if place && !takes {
			t.Errorf("%q takes no arguments and has a place in argPlaces", c.Use)
		}
		for _, below := range c.Commands() {
			walk(below)
		}
	}
	walk(root)
	for path := range argPlaces() {
		if !commands[path] {
			t.Errorf("argPlaces: there is no command %q", path)
		}
	}
	for name := range flagPlaces() {
		if !flags[name] {
			t.Errorf("flagPlaces: there is no flag %q", name)
		}
	}
}

// question asks with the menu, in a directory of its own, and returns the
// values and how long it took.
func question(t *testing.T, menu manager.Menu, ini string, words ...string) (values []string, took time.Duration) {
	t.Helper()
	var out, errs bytes.Buffer
	env := Env{In: strings.NewReader(""), Out: &out, Err: &errs, Getenv: func(string) string { return "" }, Now: time.Now, Who: "tester"}
	began := time.Now()
	code := Run(t.Context(), menu, env, append([]string{"__completeNoDesc", "-c", ini}, words...))
	took = time.Since(began)
	if said := strings.TrimPrefix(errs.String(), "Completion ended with directive: ShellCompDirectiveNoFileComp\n"); code != 0 || said != "" {
		t.Errorf("it exited with %d and said %q", code, said)
	}
	text, ok := strings.CutSuffix(out.String(), ":4\n")
	if !ok {
		t.Errorf("it answered %q, without the directive that keeps files out", out.String())
	}
	return strings.Fields(text), took
}

func writeIni(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "vagoth.ini")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestCompletionOfMany: a great cluster is offered in part, and one that somebody
// else has open not at all, without waiting for it.
func TestCompletionOfMany(t *testing.T) {
	t.Parallel()
	ini := writeIni(t, "")
	m, err := manager.Load(t.Context(), ini, standard.Menu(), manager.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 * completeMost {
		name := fmt.Sprintf("n%04d", i)
		d := registry.Draft{ID: name, Name: name, Type: "vm", Keys: []string{fmt.Sprintf("k:%d", i)}}
		if _, err := registry.Create(t.Context(), m.Registry, d); err != nil {
			t.Fatal(err)
		}
	}
	values, took := question(t, standard.Menu(), ini, "info", "")
	if len(values) != 0 || took > 1400*time.Millisecond {
		t.Errorf("of a cluster that is in use it offered %d values after %s", len(values), took)
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	for want, words := range map[int][]string{completeMost: {"info", ""}, 100: {"info", "n05"}, 1: {"info", "n0599"}} {
		if values, _ := question(t, standard.Menu(), ini, words...); len(values) != want {
			t.Errorf("%v: it offered %d values, not %d", words, len(values), want)
		}
	}
	var actions strings.Builder
	actions.WriteString("[actions]\n")
	for i := range 2 * completeMost {
		fmt.Fprintf(&actions, "a%d = exec:/bin/true\n", i)
	}
	if values, _ := question(t, standard.Menu(), writeIni(t, actions.String()), "do", "a"); len(values) != completeMost {
		t.Errorf("it offered %d actions, not %d", len(values), completeMost)
	}
	if values, _ := question(t, standard.Menu(), ini, "list", "--key", ""); len(values) != completeMost {
		t.Errorf("it offered %d keys, not %d", len(values), completeMost)
	}
}

// TestCompletionGivesUp: a store that cannot be opened in time, and does not
// heed its context, holds nobody up.
func TestCompletionGivesUp(t *testing.T) {
	t.Parallel()
	opening, release, returned := make(chan struct{}), make(chan struct{}), make(chan struct{})
	menu := standard.Menu()
	menu.Registry["stuck"] = component.Define("never opens", struct{}{}, func(_ context.Context, _ struct{}, deps registry.Deps) (registry.Registry, error) {
		defer close(returned)
		deps.Log.Warn("nobody wants to know while completing")
		close(opening)
		<-release
		return nil, registry.ErrClosed
	})
	ini := writeIni(t, "[registry]\nuse = stuck\n")
	if err := os.Mkdir(filepath.Join(filepath.Dir(ini), "vagoth-data"), 0o700); err != nil {
		t.Fatal(err)
	}
	values, took := question(t, menu, ini, "info", "")
	close(release)
	select {
	case <-opening:
		<-returned
	default:
		t.Error("it did not try to open the store")
	}
	if len(values) != 0 || took < time.Second || took > 4*time.Second {
		t.Errorf("it offered %v after %s", values, took)
	}
}
