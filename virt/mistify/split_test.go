package mistify

import "testing"

// What agents and sub-agents write is taken apart the fast way; what cannot be is
// left to the slow one.
func TestSplit(t *testing.T) {
	for _, x := range []struct {
		text string
		ok   bool
		part string // the params or the result
	}{
		{`{"method":"A.B","params":[{"guest":{"id":"x"},"args":{"a":"}\"]\\"}}],"id":1}`, true, `[{"guest":{"id":"x"},"args":{"a":"}\"]\\"}}]`},
		{" { \"method\" : \"A.B\" ,\n\t\"params\" : [ { } ] , \"id\" : null }\r\n", true, `[ { } ]`},
		{`{"result":{"message":"{[\"\\"},"error":null,"id":"x"}`, true, `{"message":"{[\"\\"}`},
		{`{"result":null,"error":"no","id":1}`, true, `null`},
		{`{"result":1}`, true, `1`},
		{`{"result":1}{`, false, ``},
		{`{"result":1,"jsonrpc":"2.0"}`, false, ``},
		{`{"result":1,"result":2}`, false, ``},
		{`{"r\u0065sult":1}`, false, ``},
		{`{"result":"\"}`, false, ``},
		{`{"result":[}`, false, ``},
		{`{"result":1,}`, false, ``},
		{`{"result":}`, false, ``},
		{`{"result"}`, false, ``},
		{`{"result":1`, false, ``},
		{`[1]`, false, ``},
		{`{}`, false, ``},
		{``, false, ``},
	} {
		p, ok := split([]byte(x.text))
		if got := string(p.params) + string(p.result); ok != x.ok || ok && got != x.part {
			t.Errorf("%q: %v %q, want %v %q", x.text, ok, got, x.ok, x.part)
		}
	}
}
