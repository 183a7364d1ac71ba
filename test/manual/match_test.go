package manual

import (
	"regexp"
	"strings"
	"testing"
)

// vary are the parts of an output that are others each time.
func vary() []*regexp.Regexp {
	return []*regexp.Regexp{
		regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}`),
		regexp.MustCompile(`\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)`),
		regexp.MustCompile(`\b(\d+h)?(\d+m)?\d+(\.\d+)?(ms|µs|s)\b`),
		regexp.MustCompile(`\bdevel(-[0-9a-f]{12})?\b`),
		regexp.MustCompile(` +`), // columns are as wide as what varies in them
	}
}

// alike reports whether what is shown is what is printed, but for what varies.
// In a line … stands for any text, alone on a line for any lines.
func alike(shown, printed []string) bool {
	all := vary()
	even := func(line string) string {
		for _, re := range all {
			line = re.ReplaceAllString(line, " ")
		}
		return strings.TrimSpace(line)
	}
	var pattern, text strings.Builder
	for _, line := range trimmed(shown) {
		if strings.TrimSpace(line) == "…" {
			pattern.WriteString(`(?:.*\n)*`)
			continue
		}
		parts := strings.Split(even(line), "…")
		for i := range parts {
			parts[i] = regexp.QuoteMeta(parts[i])
		}
		pattern.WriteString(strings.Join(parts, ".*") + `\n`)
	}
	for _, line := range trimmed(printed) {
		text.WriteString(even(line) + "\n")
	}
	return regexp.MustCompile(`^` + pattern.String() + `$`).MatchString(text.String())
}

// trimmed leaves out empty lines before and after.
func trimmed(lines []string) []string {
	text := strings.Trim(strings.Join(lines, "\n"), "\n")
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

func TestAlike(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		shown, printed string
		want           bool
	}{
		{"a b", "a   b", true},
		{"a b", "a c", false},
		{"a\nb", "a", false},
		{"a", "a\nb", false},
		{"", "", true},
		{"", "a", false},
		{"job 0198c1f0-0000-7000-8000-000000000000 x", "job 01a1fde4-c7a4-7bc0-945c-d299bee672f4 x", true},
		{"began 2026-01-02T03:04:05Z", "began 2026-11-21T11:36:31+01:00", true},
		{"oldest 3s", "oldest 1m12s", true},
		{"oldest 3s", "oldest never", false},
		{"a … c\n…\nz", "a b c\n1\n2\nz", true},
		{"a … c\n…\nz", "a b c\nz", true},
		{"a … c\n…\nz", "a b d\nz", false},
		{"1 of 2 (x)", "1 of 3 (x)", false},
	} {
		if got := alike(strings.Split(c.shown, "\n"), strings.Split(c.printed, "\n")); got != c.want {
			t.Errorf("%q and %q: alike %v", c.shown, c.printed, got)
		}
	}
}
