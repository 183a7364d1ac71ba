package component

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"
)

// Example is one section of an example file.
type Example struct {
	Section string    // "registry.etcd", or "" for the keys above the first header
	Of      Describer // whose keys are explained
	Set     []Setting // written as they are, first those that are no keys of Of, such as `use`
	Off     bool      // the header is a comment too, for a kind that is not chosen
}

// Setting is a key with a value; the value is quoted as needed.
type Setting struct{ Key, Value string }

// WriteExample writes a section in which every key is explained by a comment, and stands as a comment with its
// default unless it is set: `; key = value`.
func WriteExample(w io.Writer, e Example) error {
	out := &writer{w: w}
	if e.Of.Help() != "" {
		out.comment("", e.Of.Help())
	}
	if e.Section != "" {
		off := ""
		if e.Off {
			off = "; "
		}
		out.print("%s[%s]\n", off, e.Section)
	}
	fields := e.Of.Fields()
	isField := func(key string) bool {
		return slices.ContainsFunc(fields, func(f Field) bool { return f.Key == key })
	}
	for _, s := range e.Set {
		if !isField(s.Key) {
			out.setting(e.Off, s.Key, Quote(s.Value))
		}
	}
	for _, f := range fields {
		if f.Sections == "" {
			out.exampleKey(e, f)
		}
	}
	for _, f := range fields {
		if f.Sections != "" {
			out.print("\n")
			out.comment("", f.Help)
			out.print("; [%s.NAME]\n", f.Sections)
			for _, sub := range f.Fields {
				out.exampleKey(Example{}, sub)
			}
		}
	}
	return out.err
}

func (out *writer) exampleKey(e Example, f Field) {
	note := f.Help
	if limits := f.limitWords(); limits != "" {
		note = strings.TrimPrefix(note+"; "+limits, "; ")
	}
	if f.Required {
		note += " (required)"
	}
	out.comment("; ", note)
	for _, s := range e.Set {
		if s.Key == f.Key {
			value := Quote(s.Value)
			if strings.HasPrefix(f.Type, "list of ") {
				value = s.Value // its commas and quotes are the list's own
			}
			out.setting(e.Off, s.Key, value)
			return
		}
	}
	key := f.Key
	if key == "*" {
		key = "NAME"
	}
	out.print("; %s\n", strings.TrimRight(key+" = "+cmp.Or(f.Default, f.Example), " "))
}

// limitWords says of which type a value is and what bounds it.
func (f Field) limitWords() string {
	words := []string{f.Type}
	if f.Min != "" {
		words = append(words, "at least "+f.Min)
	}
	if f.Max != "" {
		words = append(words, "at most "+f.Max)
	}
	return strings.Join(words, ", ")
}

// Component is a Describer with its place in the menu.
type Component struct {
	Contract string // "registry", which is its section too
	Name     string // "memdb"; "" for keys that belong to no kind
	Chosen   bool   // it is the one used if the file does not say
	Describer
}

// List gives the kinds of a menu, the default first and the others by name.
func List[D, T any](contract, defaultKind string, menu map[string]Kind[D, T]) []Component {
	all := make([]Component, 0, len(menu))
	for _, name := range slices.Sorted(maps.Keys(menu)) {
		all = append(all, Component{Contract: contract, Name: name, Chosen: name == defaultKind, Describer: menu[name]})
	}
	slices.SortStableFunc(all, func(a, b Component) int {
		return cmp.Compare(btoi(b.Chosen), btoi(a.Chosen))
	})
	return all
}

// WriteTable writes the components for a terminal: every component with its keys, types, defaults and help.
func WriteTable(w io.Writer, components []Component) error {
	out := &writer{w: w}
	contract := ""
	for _, c := range components {
		if c.Contract != contract {
			if contract != "" {
				out.print("\n")
			}
			out.print("[%s]\n", c.Contract)
			contract = c.Contract
		}
		head := strings.TrimSpace(c.Name + " " + c.mark())
		out.print("  %s\n", strings.TrimPrefix(head+"  "+c.Help(), "  "))
		t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.StripEscape)
		row := func(indent string, f Field) {
			fallback := f.Default
			if f.Required {
				fallback = "required"
			}
			_, _ = fmt.Fprintf(t, "    %s%s\t%s\t%s\t%s\n", indent, cmp.Or(f.Key, "["+f.Sections+".NAME]"), f.Type, dash(fallback), f.Help)
		}
		for _, f := range c.Fields() {
			row("", f)
			for _, sub := range f.Fields {
				row("  ", sub)
			}
		}
		out.err = errors.Join(out.err, t.Flush())
	}
	return out.err
}

// WriteMarkdown writes the components for the manual.
func WriteMarkdown(w io.Writer, components []Component) error {
	out := &writer{w: w}
	for i, c := range components {
		if i > 0 {
			out.print("\n")
		}
		out.print("### %s\n\n", strings.TrimSpace(cmp.Or(c.Name, "["+c.Contract+"]")+" "+c.mark()))
		if c.Help() != "" {
			out.print("%s\n\n", sentence(c.Help()))
		}
		var keys, groups []Field
		for _, f := range c.Fields() {
			if f.Sections != "" {
				groups = append(groups, f)
			} else {
				keys = append(keys, f)
			}
		}
		if len(keys) > 0 {
			place := "`[" + c.Contract + "]`"
			if c.Name != "" {
				place += " or `[" + c.Contract + "." + c.Name + "]`"
			}
			out.print("Keys in %s:\n\n", place)
			out.keyTable(keys)
		} else if len(groups) == 0 {
			out.print("It has no keys.\n")
		}
		for n, g := range groups {
			if n > 0 || len(keys) > 0 {
				out.print("\n")
			}
			out.print("Each `[%s.NAME]`: %s\n\n", g.Sections, cmp.Or(g.Help, "a section of its own"))
			out.keyTable(g.Fields)
		}
	}
	return out.err
}

func (out *writer) keyTable(fields []Field) {
	cell := strings.NewReplacer("|", `\|`, "<", "&lt;", "\n", " ")
	out.print("| key | type | default | meaning |\n|---|---|---|---|\n")
	for _, f := range fields {
		fallback := ""
		switch {
		case f.Required:
			fallback = "required"
		case f.Default != "":
			fallback = "`" + strings.ReplaceAll(f.Default, "|", `\|`) + "`"
		}
		key := "`" + f.Key + "`"
		if f.Key == "*" {
			key = "any other"
		}
		out.print("| %s | %s | %s | %s |\n", key, cell.Replace(f.limitWords()), fallback, cell.Replace(f.Help))
	}
}

func (c Component) mark() string {
	if c.Chosen {
		return "(default)"
	}
	return ""
}

// writer remembers the first error, so that the text above reads as text.
type writer struct {
	w   io.Writer
	err error
}

func (out *writer) Write(p []byte) (int, error) {
	if out.err != nil {
		return 0, out.err
	}
	n, err := out.w.Write(p)
	out.err = err
	return n, err
}

func (out *writer) print(format string, args ...any) { _, _ = fmt.Fprintf(out, format, args...) }

func (out *writer) comment(indent, text string) {
	for line := range strings.Lines(text) {
		out.print("; %s%s\n", strings.TrimPrefix(indent, "; "), strings.TrimSpace(line))
	}
}

func (out *writer) setting(off bool, key, value string) {
	if off {
		out.print("; ")
	}
	out.print("%s\n", strings.TrimRight(key+" = "+value, " "))
}

func sentence(s string) string {
	if strings.HasSuffix(s, ".") {
		return s
	}
	return s + "."
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
