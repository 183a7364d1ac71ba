package config_test

import (
	"testing"

	"gopkg.in/ini.v1"
)

// TestWhyTheParserIsNotTrusted shows what gopkg.in/ini.v1 does with its usual options. These are the reasons for
// the scanner; if one of them goes away with a new version, the scanner may become simpler.
func TestWhyTheParserIsNotTrusted(t *testing.T) {
	for _, tc := range []struct{ name, doc, section, key, got string }{
		{"the last of equal keys wins", "a = 1\na = 2", "", "a", "2"},
		{"equal sections are one", "[s]\na = 1\n[s]\na = 2", "s", "a", "2"},
		{"a section falls back to its parent", "[s]\na = 1\n[s.t]\nb = 2", "s.t", "a", "1"},
		{"a value ends at #", "a = pass#word", "", "a", "pass"},
		{"a value ends at ;", "a = b;c", "", "a", "b"},
		{"[DEFAULT] is the top", "[DEFAULT]\na = 1", "", "a", "1"},
		{"text after a header is lost", "[s] a = 1\nb = 2", "s", "a", ""},
		{"a colon is a sign", "a: b = c", "", "a", "b = c"},
		{"lines go on", "a = b\\\nc = d", "", "a", "bc = d"},
		{"backquotes span lines", "a = `b\nc = d`", "", "a", "b\nc = d"},
		{"single quotes vanish", "a = 'b'", "", "a", "b"},
		{"values are interpolated", "b = c\na = %(b)s", "", "a", "c"},
		{"- is numbered", "- = b", "", "#1", "b"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			f, err := ini.Load([]byte(tc.doc))
			if err != nil {
				t.Fatal(err)
			}
			if got := f.Section(tc.section).Key(tc.key).String(); got != tc.got {
				t.Errorf("the parser now reads %q", got)
			}
		})
	}
	var loose struct{ Every int64 }
	f, err := ini.Load([]byte("Evry = 30\nEvery = nonsense"))
	if err != nil {
		t.Fatal(err)
	}
	if err := f.MapTo(&loose); err != nil || loose.Every != 0 {
		t.Errorf("its decoder now notices: %v", err)
	}
}
