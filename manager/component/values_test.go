package component_test

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/vagoth/vagoth/manager/component"
)

func TestParseSize(t *testing.T) {
	for in, want := range map[string]component.Size{
		"0": 0, "1B": 1, "1K": 1024, "1k": 1024, "1KiB": 1024, "1KB": 1000, "64MiB": 64 << 20, "64 MiB": 64 << 20, "10G": 10 << 30, "10gib": 10 << 30,
		"1.5G": 3 << 29, "2T": 2 << 40, "1P": 1 << 50, "1MB": 1e6, "1GB": 1e9, "0.5KB": 500,
	} {
		if got, err := component.ParseSize(in); err != nil || got != want {
			t.Errorf("%s: got %d, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "1", "x", "1.K", ".5K", "1..5K", "-1K", "+1K", "1e3K", "1_0K", "K", "1Q", "1 2K", "8388608T", strings.Repeat("9", 400) + "K"} {
		if got, err := component.ParseSize(in); err == nil {
			t.Errorf("%s: got %d", in, got)
		}
	}
}

func TestSizeAndDurationReadWhatTheyWrite(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := component.Size(rapid.Int64Range(0, math.MaxInt64).Draw(t, "size") << rapid.IntRange(0, 3).Draw(t, "shift") & math.MaxInt64)
		if got, err := component.ParseSize(n.String()); err != nil || got != n {
			t.Fatalf("size %d is written as %s and read as %d, %v", n, n, got, err)
		}
		d := time.Duration(rapid.Int64().Draw(t, "duration"))
		if rapid.Bool().Draw(t, "round") {
			d = d.Truncate(time.Hour)
		}
		if got, err := component.ParseDuration(component.FormatDuration(d)); err != nil || got != d {
			t.Fatalf("duration %s is written as %s and read as %s, %v", d, component.FormatDuration(d), got, err)
		}
	})
}

func TestDuration(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"0": 0, "30s": 30 * time.Second, "7d": 168 * time.Hour, "1d12h": 36 * time.Hour, "0d": 0, "1h30m": 90 * time.Minute, "1.5h": 90 * time.Minute,
	} {
		if got, err := component.ParseDuration(in); err != nil || got != want {
			t.Errorf("%s: got %s, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "30", "-30", "1.5", "d", "1.5d", "-1d", "1d-1h", "1dd", "106752d", "106751d24h", "30 s", "five"} {
		if got, err := component.ParseDuration(in); err == nil {
			t.Errorf("%s: got %s", in, got)
		}
	}
	for want, in := range map[string]time.Duration{
		"0s": 0, "1h": time.Hour, "1h30m": 90 * time.Minute, "10s": 10 * time.Second, "1m0.5s": time.Minute + time.Second/2, "7d": 168 * time.Hour, "10m": 10 * time.Minute, "25h": 25 * time.Hour,
	} {
		if got := component.FormatDuration(in); got != want {
			t.Errorf("%s: got %s, want %s", in, got, want)
		}
	}
}

func TestSuggest(t *testing.T) {
	known := []string{"path", "every", "endpoints", "node_types", "lock_wait", "uri", "use"}
	for word, want := range map[string]string{
		"pth": "path", "paht": "path", "Path": "path", "evrey": "every", "endpoint": "endpoints", "endpiont": "endpoints", "node-types": "node_types",
		"nodetype": "node_types", "lock-wait": "lock_wait", "url": "uri", "ues": "use", "xyz": "", "": "", "zebra": "", "path": "", "e": "",
		strings.Repeat("path", 100): "",
	} {
		if got := component.Suggest(word, slices.Values(known)); got != want {
			t.Errorf("%q: got %q, want %q", word, got, want)
		}
		slices.Reverse(known) // the order must not matter
	}
}

func TestChoices(t *testing.T) {
	nine := strings.Fields("aaa bbb ccc ddd eee fff ggg hhh iii")
	for _, c := range []struct {
		word  string
		known []string
		want  string
	}{
		{"debain", []string{"linux", "debian"}, `did you mean "debian"?`},
		{"debian", []string{"linux", "bsd"}, "there is bsd, linux"},
		{"debian", nil, ""},
		{"debian", nine, ""},
		{"debian", nine[:8], "there is aaa, bbb, ccc, ddd, eee, fff, ggg, hhh"},
	} {
		if got := component.Choices(c.word, slices.Values(c.known)); got != c.want {
			t.Errorf("Choices(%q, %q) is %q, want %q", c.word, c.known, got, c.want)
		}
	}
}

func TestSuggestDoesNotDependOnTheOrder(t *testing.T) {
	for _, known := range [][]string{{"bat", "cat", "hat"}, {"hat", "cat", "bat"}, {"cat", "bat", "hat"}} {
		if got := component.Suggest("xat", slices.Values(known)); got != "bat" {
			t.Errorf("%v: got %q", known, got)
		}
	}
}

// Every word with one slip is recognised among words that are unlike it.
func TestSuggestFindsOneSlip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		word := rapid.StringMatching(`[a-z]{4,12}`).Draw(t, "word")
		slip := []byte(word)
		i := rapid.IntRange(0, len(slip)-2).Draw(t, "at")
		switch rapid.IntRange(0, 2).Draw(t, "slip") {
		case 0:
			slip[i], slip[i+1] = slip[i+1], slip[i]
		case 1:
			slip = slices.Delete(slip, i, i+1)
		case 2:
			slip[i] = '9'
		}
		if got := component.Suggest(string(slip), slices.Values([]string{"0000000", word})); got != word && string(slip) != word {
			t.Fatalf("%s: got %q, want %s", slip, got, word)
		}
	})
}

func TestSplitListReadsWhatQuoteWrites(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		list := rapid.SliceOf(rapid.StringMatching(`[a-c ,"\\;#]{0,6}`)).Draw(t, "list")
		var words []string
		for _, e := range list {
			q := component.Quote(e)
			if strings.Contains(e, ",") && q == e {
				q = `"` + e + `"`
			}
			words = append(words, q)
		}
		got, err := component.SplitList(strings.Join(words, ", "))
		if err != nil || !slices.Equal(got, list) {
			t.Fatalf("%q is written as %q and read as %q, %v", list, strings.Join(words, ", "), got, err)
		}
	})
}
