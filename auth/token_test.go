package auth

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// clock is a time that tests set.
type clock struct{ at time.Time }

func (c *clock) now() time.Time { return c.at }

type box struct {
	*Store
	t     *testing.T
	path  string
	clock *clock
	log   *bytes.Buffer
}

func newBox(t *testing.T) *box {
	t.Helper()
	b := &box{t: t, path: filepath.Join(t.TempDir(), "tokens"), clock: &clock{time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}, log: new(bytes.Buffer)}
	b.Store = b.open()
	return b
}

func (b *box) open() *Store {
	b.t.Helper()
	s, err := Open(b.path, Options{Now: b.clock.now, Log: slog.New(slog.NewTextHandler(b.log, nil))})
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

func (b *box) create(name string, r Role, expires time.Time) (Token, string) {
	b.t.Helper()
	t, secret, err := b.Create(b.t.Context(), Spec{Name: name, Role: r, Expires: expires})
	if err != nil {
		b.t.Fatal(err)
	}
	return t, secret
}

func with(headers ...string) *http.Request {
	r := httptest.NewRequestWithContext(context.Background(), "GET", "/", nil)
	for i := 0; i+1 < len(headers); i += 2 {
		r.Header.Add(headers[i], headers[i+1])
	}
	return r
}

func withToken(secret string) *http.Request { return with("Authorization", "Bearer "+secret) }

func withCertificate(name string) *http.Request {
	r := with()
	r.TLS = &tls.ConnectionState{VerifiedChains: [][]*x509.Certificate{{{Subject: pkix.Name{CommonName: name, OrganizationalUnit: []string{"admin"}}}}}}
	return r
}

func TestTokens(t *testing.T) {
	b := newBox(t)
	made, secret := b.create("ci", Operator, b.clock.at.Add(time.Hour))
	_, never := b.create("worker-1", Worker, time.Time{})
	if !strings.HasPrefix(secret, "vagoth_"+made.ID+"_") || !strings.HasSuffix(secret, made.Last) || len(secret) < 50 {
		t.Errorf("the secret of %+v is %s", made, secret)
	}
	for _, s := range []*Store{b.Store, b.open()} {
		if id, err := s.Authenticate(withToken(secret)); err != nil || id != (Identity{"ci", Operator}) {
			t.Errorf("%+v, %v", id, err)
		}
	}
	info, err := os.Stat(b.path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	data, err := os.ReadFile(b.path)
	if err != nil || bytes.Contains(data, []byte(secret[len(secret)-20:])) {
		t.Errorf("the secret stands in the file: %s, %v", data, err)
	}
	list, err := b.List()
	if err != nil || len(list) != 2 || list[0].ID != made.ID || list[0].Last != made.Last || !list[0].Expires.Equal(made.Expires) {
		t.Errorf("%+v, %v", list, err)
	}
	b.clock.at = b.clock.at.Add(time.Hour)
	if _, err := b.Authenticate(withToken(secret)); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "expired at 2026-03-01T13:00:00Z") {
		t.Errorf("an expired token: %v", err)
	}
	other := b.open()
	if gone, err := other.Revoke(t.Context(), list[1].ID); err != nil || gone.Name != "worker-1" {
		t.Errorf("%+v, %v", gone, err)
	}
	if _, err := b.Authenticate(withToken(never)); !errors.Is(err, ErrRefused) {
		t.Errorf("a token that another process has revoked: %v", err)
	}
	if _, err := b.Revoke(t.Context(), list[1].ID); err == nil || !strings.Contains(err.Error(), "vagoth token list") {
		t.Error(err)
	}
}

// Only the very secret lets in.
func TestTokensRefuse(t *testing.T) {
	b := newBox(t)
	made, secret := b.create("ci", Admin, time.Time{})
	last := secret[len(secret)-1]
	other := byte('A')
	if last == other {
		other = 'B'
	}
	for name, r := range map[string]*http.Request{
		"changed at the end":   withToken(secret[:len(secret)-2] + string(other) + string(last)),
		"changed in the midst": withToken(secret[:20] + "x" + secret[21:]),
		"cut":                  withToken(secret[:len(secret)-4]),
		"longer":               withToken(secret + "AAAA"),
		"the id alone":         withToken("vagoth_" + made.ID + "_"),
		"no secret":            withToken("vagoth_" + made.ID),
		"another id":           withToken("vagoth_00000000" + secret[len("vagoth_00000000"):]),
		"nothing":              withToken(""),
		"another prefix":       withToken("v" + secret),
		"the hash":             withToken(fmt.Sprintf("vagoth_%s_%x", made.ID, b.known.bearers[made.ID].hash)),
		"basic":                with("Authorization", "Basic "+secret),
		"twice":                with("Authorization", "Bearer "+secret, "Authorization", "Bearer "+secret),
	} {
		if id, err := b.Authenticate(r); !errors.Is(err, ErrRefused) || id != (Identity{}) || strings.Contains(err.Error(), secret[20:]) {
			t.Errorf("%s: %+v, %v", name, id, err)
		}
	}
	if _, err := b.Authenticate(with()); !errors.Is(err, ErrNoCredentials) {
		t.Error(err)
	}
	if _, err := b.Authenticate(with("Authorization", "bearer   "+secret)); err != nil {
		t.Errorf("a scheme in lower case: %v", err)
	}
}

// A certificate says who, the file what they may.
func TestCertificates(t *testing.T) {
	b := newBox(t)
	made, err := b.Allow(t.Context(), Spec{Name: "worker-1.example.org", Role: Worker, Expires: b.clock.at.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	if id, err := b.Authenticate(withCertificate("worker-1.example.org")); err != nil || id != (Identity{"worker-1.example.org", Worker}) {
		t.Errorf("%+v, %v", id, err)
	}
	for _, name := range []string{"worker-2.example.org", "", "token"} {
		if id, err := b.Authenticate(withCertificate(name)); !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %+v, %v", name, id, err)
		}
	}
	unverified := withCertificate("worker-1.example.org")
	unverified.TLS.PeerCertificates, unverified.TLS.VerifiedChains = unverified.TLS.VerifiedChains[0], nil
	if _, err := b.Authenticate(unverified); !errors.Is(err, ErrNoCredentials) {
		t.Errorf("a certificate that nobody has verified: %v", err)
	}
	both := withCertificate("worker-1.example.org")
	both.Header.Set("Authorization", "Bearer nonsense")
	if _, err := b.Authenticate(both); !errors.Is(err, ErrRefused) {
		t.Errorf("a bad token beside a good certificate: %v", err)
	}
	if _, err := b.Allow(t.Context(), Spec{Name: "worker-1.example.org", Role: Admin}); err == nil || !strings.Contains(err.Error(), "revoke "+made.ID+" first") {
		t.Error(err)
	}
	b.clock.at = b.clock.at.Add(time.Hour)
	if _, err := b.Authenticate(withCertificate("worker-1.example.org")); !errors.Is(err, ErrRefused) {
		t.Errorf("an expired one: %v", err)
	}
}

// A file that changes counts for the next request; one that is broken changes
// nothing and is said once.
func TestReload(t *testing.T) {
	b := newBox(t)
	_, secret := b.create("ci", Reader, time.Time{})
	good, err := os.ReadFile(b.path)
	if err != nil {
		t.Fatal(err)
	}
	place := func(text string) {
		t.Helper()
		if err := os.WriteFile(b.path+".new", []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(b.path+".new", b.path); err != nil {
			t.Fatal(err)
		}
	}
	place(string(good) + "tokn id=1\n")
	for range 3 {
		if _, err := b.Authenticate(withToken(secret)); err != nil {
			t.Errorf("a broken file: %v", err)
		}
	}
	if n := strings.Count(b.log.String(), "tokens:3:"); n != 1 {
		t.Errorf("it was said %d times: %s", n, b.log)
	}
	if err := b.Reload(); err == nil || !strings.Contains(err.Error(), "tokens:3: ") {
		t.Error(err)
	}
	if _, _, err := b.Create(t.Context(), Spec{Name: "x", Role: Reader}); err == nil {
		t.Error("a broken file was written over")
	}
	if _, err := Open(b.path, Options{}); err == nil {
		t.Error("a broken file was opened")
	}
	place(strings.Replace(string(good), "role=reader", "role=admin", 1))
	if id, err := b.Authenticate(withToken(secret)); err != nil || id.Role != Admin {
		t.Errorf("%+v, %v", id, err)
	}
	if err := os.Chmod(b.path, 0o640); err != nil {
		t.Fatal(err)
	}
	if err := b.Reload(); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Error(err)
	}
	if err := os.Remove(b.path); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Authenticate(withToken(secret)); !errors.Is(err, ErrRefused) {
		t.Errorf("a file that is gone: %v", err)
	}
}

// Several processes write one file, and nothing is lost.
func TestWritersTogether(t *testing.T) {
	b := newBox(t)
	var all sync.WaitGroup
	const n = 8
	for i := range n {
		s := b.open()
		all.Go(func() {
			for j := range 3 {
				if _, _, err := s.Create(t.Context(), Spec{Name: fmt.Sprintf("w%d-%d", i, j), Role: Worker}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	list, err := b.List()
	if err != nil || len(list) != 3*n {
		t.Errorf("%d tokens, %v", len(list), err)
	}
	left, err := filepath.Glob(filepath.Join(filepath.Dir(b.path), ".tokens.*"))
	if err != nil || len(left) > 0 {
		t.Errorf("%v, %v", left, err)
	}
}

func TestCreateRefuses(t *testing.T) {
	b := newBox(t)
	for name, s := range map[string]Spec{
		"no name": {Role: Reader}, "bad name": {Name: "a b", Role: Reader}, "a name with a line": {Name: "a\nb", Role: Reader},
		"no role": {Name: "a"}, "bad role": {Name: "a", Role: "root"}, "past": {Name: "a", Role: Reader, Expires: b.clock.at},
	} {
		if _, _, err := b.Create(t.Context(), s); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if _, err := ParseRole("opertor"); err == nil || !strings.Contains(err.Error(), `did you mean "operator"?`) {
		t.Error(err)
	}
	if _, err := os.Stat(b.path); !os.IsNotExist(err) {
		t.Error("a file was made")
	}
}

// Each role may what it is said to.
func TestRoles(t *testing.T) {
	for needed, who := range map[Role]string{"": "admin", Worker: "worker admin", Reader: "reader operator admin", Operator: "operator admin", Admin: "admin", "else": "admin"} {
		var may []string
		for _, r := range Roles() {
			if r.May(needed) {
				may = append(may, string(r))
			}
		}
		if strings.Join(may, " ") != who {
			t.Errorf("%q: %v may, want %s", needed, may, who)
		}
	}
	if Role("").May(Reader) || Role("root").May(Worker) {
		t.Error("nobody may something")
	}
}

const sample = "# kept\n\ntoken id=0123abcd name=ci role=operator created=2026-03-01T12:00:00Z expires=never last4=x-_9 sha256=" +
	"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\ncertificate id=0123abce name=w role=worker created=2026-03-01T12:00:00Z expires=2027-03-01T12:00:00Z\n"

// What is wrong is told with its line, and nothing of it is taken.
func TestParseRefuses(t *testing.T) {
	lines, err := parse("f", []byte(sample))
	if err != nil || len(lines) != 4 || string(format(lines)) != sample {
		t.Fatalf("%+v, %v", lines, err)
	}
	for name, r := range map[string]struct{ old, new, says string }{
		"kind":         {"token id", "tokens id", "f:3: it begins with"},
		"order":        {"name=ci role=operator", "role=operator name=ci", "f:3: field 2"},
		"space":        {"name=ci role", "name=ci  role", "f:3: it has"},
		"name":         {"name=ci", "name=c/i", "f:3: name"},
		"role":         {"role=operator", "role=opertor", `did you mean "operator"?`},
		"time":         {"created=2026-03-01T12:00:00Z expires=never", "created=2026-03-01 expires=never", "f:3: created"},
		"time zone":    {"created=2026-03-01T12:00:00Z expires=never", "created=2026-03-01T12:00:00+01:00 expires=never", "f:3: created"},
		"expires":      {"expires=never", "expires=", "f:3: expires"},
		"id":           {"id=0123abcd", "id=0123ABCD", "f:3: id"},
		"hash":         {"sha256=aaaa", "sha256=aaaA", "f:3: sha256"},
		"short hash":   {"sha256=aaaa", "sha256=aaa", "f:3: sha256"},
		"last":         {"last4=x-_9", "last4=x-_", "f:3: last4"},
		"id twice":     {"id=0123abce", "id=0123abcd", "f:4: the id 0123abcd stands in line 3"},
		"more":         {"2027-03-01T12:00:00Z", "2027-03-01T12:00:00Z last4=abcd", "f:4: it has"},
		"cut":          {"2027-03-01T12:00:00Z\n", "2027-03-01T12:00:00Z", "f:4: the last line"},
		"control":      {"# kept", "# k\x1bept", "f:1: "},
		"carriage":     {"# kept", "# kept\r", "f:1: "},
		"not UTF-8":    {"# kept", "# \xff", "f:1: "},
		"long":         {"# kept", "# " + strings.Repeat("x", maxLine), "f:1: "},
		"second entry": {"\ncertificate id=0123abce", "\ncertificate id=0123abcf name=w role=admin created=2026-03-01T12:00:00Z expires=never\ncertificate id=0123abce", "f:5: the certificate of w stands in line 4"},
	} {
		text := strings.Replace(sample, r.old, r.new, 1)
		if lines, err := parse("f", []byte(text)); err == nil || !strings.Contains(err.Error(), r.says) || lines != nil {
			t.Errorf("%s: %v, want %s", name, err, r.says)
		}
	}
}

func FuzzFile(f *testing.F) {
	f.Add([]byte(sample))
	f.Add([]byte("\n\n#\n"))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, data []byte) {
		lines, err := parse("f", data)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "f:") {
				t.Errorf("an error without its line: %v", err)
			}
			return
		}
		if again := format(lines); !bytes.Equal(again, data) {
			t.Errorf("%q is written again as %q", data, again)
		}
	})
}

func FuzzBearer(f *testing.F) {
	path := filepath.Join(f.TempDir(), "tokens")
	s, err := Open(path, Options{})
	if err != nil {
		f.Fatal(err)
	}
	_, secret, err := s.Create(context.Background(), Spec{Name: "ci", Role: Reader})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(secret)
	f.Add("vagoth__")
	f.Fuzz(func(t *testing.T, text string) {
		r := with()
		r.Header["Authorization"] = []string{"Bearer " + text}
		if id, err := s.Authenticate(r); err == nil && strings.TrimLeft(text, " ") != secret {
			t.Errorf("%q is %+v", text, id)
		}
	})
}

func Example() {
	dir, err := os.MkdirTemp("", "tokens")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()
	store, err := Open(filepath.Join(dir, "tokens"), Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	made, secret, err := store.Create(context.Background(), Spec{Name: "ci", Role: Operator})
	if err != nil {
		fmt.Println(err)
		return
	}
	who, err := store.Authenticate(withToken(secret))
	fmt.Println(who.Name, who.Role, err)
	_, err = store.Revoke(context.Background(), made.ID)
	fmt.Println(err)
	_, err = store.Authenticate(withToken(secret))
	fmt.Println(err)
	// Output:
	// ci operator <nil>
	// <nil>
	// not authenticated: the token is not known, or was revoked
}
