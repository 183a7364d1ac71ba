package mistify

import (
	"reflect"
	"testing"
)

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

// picked wants two members and no others.
type picked struct {
	A int
	B []string
}

func (p *picked) Pick(name string) any {
	switch name {
	case "a":
		return &p.A
	case "b":
		return &p.B
	}
	return nil
}

// What an answer is not asked for is passed over, and what cannot be read so is
// left to the slow way.
func TestPick(t *testing.T) {
	for _, x := range []struct {
		text string
		ok   bool
		want picked
	}{
		{`{"guest":{"a":7,"id":"}\""},"a":1,"b":["x"]}`, true, picked{1, []string{"x"}}},
		{`{"guest":not even JSON,"a":1}`, false, picked{}},
		{`{"guest":nonsense,"a":1}`, true, picked{A: 1}},
		{`{"a":1,"a":2}`, true, picked{A: 2}},
		{`{"a":null}`, true, picked{}},
		{`{"a":"1"}`, false, picked{}},
		{`{"\u0061":1}`, false, picked{}},
		{`{}`, false, picked{}},
		{`[]`, false, picked{}},
		{`{"a":1`, false, picked{}},
	} {
		var p picked
		if ok := pick([]byte(x.text), &p); ok != x.ok || ok && !reflect.DeepEqual(p, x.want) {
			t.Errorf("%s: %v %+v, want %v %+v", x.text, ok, p, x.ok, x.want)
		}
	}
}
