package mistify

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"
)

// FuzzGuest: what is read and found valid is written and read back the same, and
// is bounded.
func FuzzGuest(f *testing.F) {
	f.Add([]byte(fullGuestJSON))
	f.Add([]byte(`{"id":"` + guestID + `","disks":[null],"metadata":{"a":null}}`))
	f.Add([]byte(`{"id":"` + guestID + `","NICS":[{"vlans":[1e3]}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var g Guest
		if Decode(data, &g) != nil || g.Validate() != nil {
			return
		}
		again := roundTrip(t, g)
		if len(again) > 100*len(data)+10_000 {
			t.Errorf("%d bytes became %d", len(data), len(again))
		}
	})
}

func roundTrip[T any](t *testing.T, v T) []byte {
	t.Helper()
	first, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var back T
	if err := Decode(first, &back); err != nil {
		t.Fatalf("%s cannot be read back: %v", first, err)
	}
	if second, _ := json.Marshal(back); !bytes.Equal(first, second) {
		t.Fatalf("%s is read back as %s", first, second)
	}
	return first
}

// FuzzTypes: every answer of a sub-agent that can be read at all can be written
// and read back.
func FuzzTypes(f *testing.F) {
	for i, s := range []string{`{"images":[{"id":"a"},null]}`, `{"snapshots":[{"id":"a","size":1}]}`, `{"guest":{},"type":"cpu","cpu":[{"cpu_time":1e300}],"disk":{"a":null}}`,
		`{"complete":true,"guests":[{"id":"x"}],"capacity":{"cpu":1}}`, `{"ID":"x","QueuedAt":"2015-02-03T04:05:06Z"}`, `{"volumes":[]}`, `{"guest":null,"retry":-1}`, `{"message":"x","code":1}`} {
		f.Add(uint8(i), []byte(s))
	}
	f.Fuzz(func(t *testing.T, which uint8, data []byte) {
		switch which % 8 {
		case 0:
			readBack[ImageResponse](t, data)
		case 1:
			readBack[SnapshotResponse](t, data)
		case 2:
			readBack[GuestMetricsResponse](t, data)
		case 3:
			readBack[StatusResponse](t, data)
		case 4:
			readBack[Job](t, data)
		case 5:
			readBack[VolumeResponse](t, data)
		case 6:
			readBack[GuestResponse](t, data)
		case 7:
			readBack[ErrorBody](t, data)
		}
	})
}

func readBack[T any](t *testing.T, data []byte) {
	t.Helper()
	var v T
	if Decode(data, &v) == nil {
		roundTrip(t, v)
	}
}

// FuzzReply: whatever a sub-agent answers is a result or an error of one short
// line, and never a panic.
func FuzzReply(f *testing.F) {
	for _, s := range []string{`{"result":{"guest":null},"error":null,"id":1}`, `{"result":null,"error":"no","id":1}`, `{"error":{"a":[1]}}`, `[]`, `null`, `{"result":[`, "\xff"} {
		f.Add([]byte(s), "not_found")
	}
	c, err := NewRPC(Endpoint{Port: 1}, RPCOptions{Name: "test"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte, kind string) {
		var r GuestResponse
		err := c.decode("A.B", http.Header{HeaderError: {kind}}, data, &r)
		if err == nil {
			if !json.Valid(data) {
				t.Errorf("%q was taken", data)
			}
			return
		}
		if text := err.Error(); len(text) > 3*maxMessage || strings.ContainsAny(text, "\n\r\x00\x1b") {
			t.Errorf("the error is %q", text)
		}
	})
}

// FuzzServer: whatever is sent to a server is answered, with a status that says
// whose fault it is.
func FuzzServer(f *testing.F) {
	for _, s := range []string{`{"method":"Test.Echo","params":[{"guest":{"id":"x"},"action":"a"}],"id":1}`, `{"method":"Test.Echo","params":{},"id":[]}`, `{}`, `[]`, `{"method":7}`, ""} {
		f.Add(s, "", RPCPath)
	}
	f.Add(`{"id":"guests/x"}`, "1.2", "/snapshots/download")
	s := example()
	delete(s.methods, "Test.Hang")
	RegisterStream(s, "Test.Download", "/snapshots/download", download)
	f.Fuzz(func(t *testing.T, body, token, path string) {
		status, answer, _ := ask(s, func(r *http.Request) {
			r.URL.Path = path
			r.Header.Set(HeaderToken, token)
		}, body)
		if status >= 500 && status != http.StatusInternalServerError || status == 0 {
			t.Errorf("%q is answered %d %q", body, status, answer)
		}
		if status == 200 && path == RPCPath && !json.Valid([]byte(answer)) {
			t.Errorf("%q is answered %q", body, answer)
		}
	})
}

func download(_ context.Context, r *SnapshotRequest) (*Download, error) {
	return &Download{ReadCloser: io.NopCloser(strings.NewReader(r.ID)), Length: int64(len(r.ID))}, nil
}

// FuzzNames: what is let through is harmless in a path, a dataset's name and an
// argument.
func FuzzNames(f *testing.F) {
	for _, s := range []string{guestID, "guests/" + guestID + "/disk-0@a", "..", "-a", "a/b", "1.2", "A.B", RPCPath, "snap"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		harmless := func(what string, err error, extra string) {
			if err != nil {
				return
			}
			if s == "" || s[0] == '-' || strings.Contains(s, "..") || len(s) > 512 || strings.ContainsFunc(s, func(r rune) bool { return !wordRune(r, "_-.:@"+extra) }) {
				t.Errorf("%s %q is let through", what, s)
			}
		}
		id, err := ParseGuestID(s)
		harmless("guest", err, "")
		if err == nil && id != strings.ToLower(s) {
			t.Errorf("%q became %q", s, id)
		}
		harmless("disk", CheckDiskID(s), "")
		harmless("snapshot", CheckSnapshotName(s), "")
		harmless("image", CheckImageID("", s), "")
		harmless("container image", CheckImageID(TypeContainer, s), "/")
		harmless("path", CheckPath(s), "/")
		harmless("method", CheckMethod(s), "")
		snapshot, err := ParseSnapshotID(s)
		harmless("snapshot's id", err, "/")
		if err == nil && !strings.EqualFold(snapshot.String(), s) {
			t.Errorf("%q became %q", s, snapshot)
		}
		if token, err := ParseToken(s); err == nil {
			if again, err := ParseToken(token.String()); err != nil || again != token {
				t.Errorf("%q became %s", s, token)
			}
		}
		if _, err := ParseAction(s); err != nil && KindOf(err) != KindInvalid {
			t.Error(err)
		}
		h := http.Header{HeaderReason: {s}, HeaderByJob: {s}}
		if tr, err := TrailOf(h); err == nil && tr.Validate() != nil || err != nil && KindOf(err) != KindInvalid {
			t.Errorf("%q is a trail %+v, %v", s, tr, err)
		}
	})
}

// FuzzSplit: an envelope that is taken apart the fast way is what it is the slow
// way: the same members if all is JSON, and no JSON in one of them if it is not.
func FuzzSplit(f *testing.F) {
	for _, s := range []string{`{"result":{"guest":null},"error":null,"id":1}`, ` { "method" : "A.B" , "params" : [ {"a":"}\\"]"} ] , "id" : "x" } `, `{"id":1,"id":2}`, `{"id":}`,
		`{"id":1]}`, `{"id":{]}}`, `{}`, `{"id":"a`, `{"id":[[[`, `{"id":1}x`, `{"ID":1}`, `{"id":1,}`, `{"id" 1}`, "{\"id\":\"\x01\"}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, ok := split(data)
		if !ok {
			return
		}
		members := map[string]json.RawMessage{"method": p.method, "params": p.params, "id": p.id, "result": p.result, "error": p.problem}
		valid := true
		for name, m := range members {
			if m == nil {
				delete(members, name)
			} else if !json.Valid(m) {
				valid = false
			}
		}
		if valid != json.Valid(data) {
			t.Fatalf("%q is taken apart into %q", data, members)
		}
		if !valid {
			return
		}
		var slow map[string]json.RawMessage
		if err := json.Unmarshal(data, &slow); err != nil || len(slow) != len(members) {
			t.Fatalf("%q: %q, the slow way %q, %v", data, members, slow, err)
		}
		for name, m := range slow {
			if string(members[name]) != string(m) {
				t.Errorf("%q: %s is %q, the slow way %q", data, name, members[name], m)
			}
		}
	})
}
