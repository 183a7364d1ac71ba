package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"sigs.k8s.io/yaml"

	"github.com/vagoth/vagoth/manager/component"
)

func formats() []string { return []string{"table", "wide", "json", "yaml", "name"} }

func (a *app) checkOutput() error {
	for _, f := range formats() {
		if a.output == f {
			return nil
		}
	}
	hint := ""
	if s := component.DidYouMean(a.output, func(yield func(string) bool) {
		for _, f := range formats() {
			if !yield(f) {
				return
			}
		}
	}); s != "" {
		hint = " (" + s + ")"
	}
	return usagef("there is no output format %q%s: use %s", a.output, hint, strings.Join(formats(), ", "))
}

// print writes v as json or yaml if that was asked for, the names alone for
// `-o name`, and otherwise what human writes.
func (a *app) print(v any, names []string, human func(w io.Writer) error) error {
	switch a.output {
	case "json":
		enc := json.NewEncoder(a.env.Out)
		enc.SetIndent("", "  ")
		enc.SetEscapeHTML(false)
		return enc.Encode(v)
	case "yaml":
		data, err := yaml.Marshal(v)
		if err != nil {
			return err
		}
		_, err = a.env.Out.Write(data)
		return err
	case "name":
		for _, n := range names {
			if _, err := fmt.Fprintln(a.env.Out, n); err != nil {
				return err
			}
		}
		return nil
	}
	return human(a.env.Out)
}

// say writes a line that is no result: progress, questions, hints.
func (a *app) say(format string, args ...any) {
	_, _ = fmt.Fprintln(a.env.Err, printable(fmt.Sprintf(format, args...)))
}

// printable leaves out what a terminal takes for a command: texts come from
// actions, workers and other machines.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if r != '\n' && r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r)) {
			return -1
		}
		return r
	}, text)
}

// table lines up columns. Cells are measured in characters; colours come on
// top.
type table struct {
	head []string
	rows [][]string
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

func (t *table) write(w io.Writer, paint func(column, text string) string) error {
	width := make([]int, len(t.head))
	for i, h := range t.head {
		width[i] = utf8.RuneCountInString(h)
	}
	for _, r := range t.rows {
		for i, c := range r {
			width[i] = max(width[i], utf8.RuneCountInString(c))
		}
	}
	line := func(cells []string, paint func(column, text string) string) error {
		var b strings.Builder
		for i, c := range cells {
			pad := width[i] - utf8.RuneCountInString(c)
			b.WriteString(paint(t.head[i], c))
			if i < len(cells)-1 {
				b.WriteString(strings.Repeat(" ", pad+2))
			}
		}
		_, err := fmt.Fprintln(w, strings.TrimRight(b.String(), " "))
		return err
	}
	plain := func(_, text string) string { return text }
	if err := line(t.head, plain); err != nil {
		return err
	}
	for _, r := range t.rows {
		if err := line(r, paint); err != nil {
			return err
		}
	}
	return nil
}

// paint colours states, on a terminal only.
func (a *app) paint(column, text string) string {
	if column != "STATE" {
		return text
	}
	return a.paintState(text)
}

func (a *app) paintState(text string) string {
	if !a.env.Terminal || a.noColor {
		return text
	}
	color := ""
	switch word, _, _ := strings.Cut(text, " "); word {
	case "running", "up", "succeeded":
		color = "32"
	case "unknown", "unreachable", "missing", "crashed", "down", "failed":
		color = "31"
	case "paused", "defined", "stopped":
		color = "33"
	default:
		return text
	}
	return "\x1b[" + color + "m" + text + "\x1b[0m"
}

// ago writes an age as people say it.
func ago(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}
