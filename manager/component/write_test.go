package component_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"testing"

	"github.com/vagoth/vagoth/manager/component"
)

var update = flag.Bool("update", false, "write the golden files")

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s has changed (go test -update writes it)\n got\n%s\nwant\n%s", path, got, want)
	}
}

func components() []component.Component {
	type nothing struct{}
	type pipes struct {
		Mode string            `ini:"mode" help:"a | b, <c>" oneof:"a|b,c"`
		Rest map[string]string `ini:"*" help:"whatever else"`
		URI  string            `ini:"uri" required:"true" help:"where"`
	}
	menu := map[string]component.Kind[string, string]{
		"poll":  component.Define("asks every host in turn", defaults(), open[config]),
		"never": component.Define("asks nobody", nothing{}, open[nothing]),
		"awful": component.Define("has awkward words", pipes{Mode: "c"}, open[pipes]),
	}
	return append(component.List("monitor", "poll", menu), component.Component{Contract: "api", Describer: component.Describe("Where people ask.", pipes{})})
}

func open[C any](context.Context, C, string) (string, error) { return "", nil }

func TestWriteTable(t *testing.T) {
	var b bytes.Buffer
	if err := component.WriteTable(&b, components()); err != nil {
		t.Fatal(err)
	}
	golden(t, "table.txt", b.Bytes())
}

func TestWriteMarkdown(t *testing.T) {
	var b bytes.Buffer
	if err := component.WriteMarkdown(&b, components()); err != nil {
		t.Fatal(err)
	}
	golden(t, "components.md", b.Bytes())
}

func TestWriteExample(t *testing.T) {
	var b bytes.Buffer
	for i, c := range components() {
		if i > 0 {
			b.WriteByte('\n')
		}
		e := component.Example{Section: c.Contract, Of: c, Off: !c.Chosen}
		if c.Chosen {
			e.Set = []component.Setting{{Key: "use", Value: c.Name}, {Key: "every", Value: "1m"}, {Key: "label", Value: "a ; b"}, {Key: "hosts", Value: `x, "y, z"`}}
		} else if c.Name != "" {
			e.Section += "." + c.Name
		}
		if err := component.WriteExample(&b, e); err != nil {
			t.Fatal(err)
		}
	}
	golden(t, "example.ini", b.Bytes())
}

type failing struct{ after int }

var errFull = errors.New("full")

func (f *failing) Write(p []byte) (int, error) {
	if f.after--; f.after < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestWritersReportErrors(t *testing.T) {
	for after := range 3 {
		w := func() *failing { return &failing{after} }
		for name, err := range map[string]error{
			"table": component.WriteTable(w(), components()), "markdown": component.WriteMarkdown(w(), components()),
			"example": component.WriteExample(w(), component.Example{Section: "x", Of: components()[0]}),
		} {
			if !errors.Is(err, errFull) {
				t.Errorf("%s after %d writes: got %v", name, after, err)
			}
		}
	}
}
