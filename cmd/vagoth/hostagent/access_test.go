package hostagent_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/auth"
	"github.com/vagoth/vagoth/virt/mistify"
)

// tokens is the file of `vagoth token`.
func tokens(t *testing.T, path string) *auth.Store {
	t.Helper()
	s, err := auth.Open(path, auth.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func token(t *testing.T, s *auth.Store, role auth.Role) (auth.Token, string) {
	t.Helper()
	made, secret, err := s.Create(t.Context(), auth.Spec{Name: "some-" + string(role), Role: role})
	if err != nil {
		t.Fatal(err)
	}
	return made, secret
}

// code is the status of an answer that is an error, or 200.
func code(err error) int {
	if e, ok := err.(*mistify.Error); ok { //nolint:errorlint // it is what the client returns
		return e.Code
	}
	return 200
}

// Tokens on loopback, where they are asked for; each role may what it may, and
// one that was revoked may nothing from the next request on.
func TestTokens(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	store := tokens(t, filepath.Join(dir, "tokens"))
	made, reader := token(t, store, auth.Reader)
	_, operator := token(t, store, auth.Operator)
	_, admin := token(t, store, auth.Admin)
	_, worker := token(t, store, auth.Worker)
	r := start(t, dir, with("tokens = tokens\n"))
	ctx := t.Context()
	for _, tc := range []struct {
		who, token          string
		look, change, reset int
	}{
		{"nobody", "", 401, 401, 401},
		{"a liar", "vagoth_00000000_" + strings.Repeat("A", 43), 401, 401, 401},
		{"worker", worker, 403, 403, 403},
		{"reader", reader, 200, 403, 403},
		{"operator", operator, 200, 200, 403},
		{"admin", admin, 200, 200, 404},
	} {
		c := r.mistify(tc.token)
		_, look := c.Guests(ctx)
		_, change := c.PatchMetadata(ctx, mistify.MetadataPatch{"a": nil})
		reset := c.ResetFence(ctx, guestID)
		if code(look) != tc.look || code(change) != tc.change || code(reset) != tc.reset {
			t.Errorf("%s: looks %v, changes %v, resets %v; want %d %d %d", tc.who, look, change, reset, tc.look, tc.change, tc.reset)
		}
	}
	if status, _ := r.get("http://" + r.address + "/healthz"); status != 200 {
		t.Errorf("healthz answers %d", status)
	}
	if _, err := store.Revoke(ctx, made.ID); err != nil {
		t.Fatal(err)
	}
	if _, err := r.mistify(reader).Guests(ctx); code(err) != 401 {
		t.Errorf("a token that was revoked: %v", err)
	}
	for _, secret := range []string{reader, operator, admin, worker} {
		if strings.Contains(r.log.String(), secret) {
			t.Error("a token is in the log")
		}
	}
}

// pki signs certificates for a test.
type pki struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
	last int64
}

func newPKI(t *testing.T, dir string) *pki {
	t.Helper()
	p := &pki{t: t, dir: dir, pool: x509.NewCertPool(), last: 1}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ca"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	p.key = key(t)
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, p.key.Public(), p.key)
	if err != nil {
		t.Fatal(err)
	}
	if p.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	p.pool.AddCert(p.cert)
	write(t, filepath.Join(dir, "ca.pem"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	return p
}

func key(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// sign writes NAME.pem and NAME.key.
func (p *pki) sign(name string) tls.Certificate {
	p.t.Helper()
	p.last++
	k := key(p.t)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(p.last), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, p.cert, k.Public(), p.key)
	if err != nil {
		p.t.Fatal(err)
	}
	plain, err := x509.MarshalECPrivateKey(k)
	if err != nil {
		p.t.Fatal(err)
	}
	cert, private := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: plain})
	write(p.t, filepath.Join(p.dir, name+".pem"), string(cert))
	write(p.t, filepath.Join(p.dir, name+".key"), string(private))
	pair, err := tls.X509KeyPair(cert, private)
	if err != nil {
		p.t.Fatal(err)
	}
	return pair
}

// Off loopback with TLS and client certificates, which are reloaded, and refused
// as a whole when they are wrong.
func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ca := newPKI(t, dir)
	ca.sign("server")
	known, stranger := ca.sign("boss"), ca.sign("stranger")
	text := strings.Replace(with("tls_cert = server.pem\ntls_key = server.key\nclient_ca = ca.pem\ntokens = tokens\n"), "127.0.0.1:0", "0.0.0.0:0", 1)
	if _, err := tokens(t, filepath.Join(dir, "tokens")).Allow(t.Context(), auth.Spec{Name: "boss", Role: auth.Admin}); err != nil {
		t.Fatal(err)
	}
	r := start(t, dir, text)
	_, port, _ := net.SplitHostPort(r.address)
	ask := func(certs ...tls.Certificate) (serial int64, err error) {
		transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: ca.pool, Certificates: certs, MinVersion: tls.VersionTLS12}}
		defer transport.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://127.0.0.1:"+port+"/guests", nil)
		if err != nil {
			return 0, err
		}
		resp, err := transport.RoundTrip(req)
		if err != nil {
			return 0, err
		}
		defer func() { _ = resp.Body.Close() }()
		if resp.StatusCode != http.StatusOK {
			return 0, &mistify.Error{ErrorBody: mistify.ErrorBody{Code: resp.StatusCode}}
		}
		return resp.TLS.PeerCertificates[0].SerialNumber.Int64(), nil
	}
	if n, err := ask(known); err != nil || n != 2 {
		t.Errorf("who is let in: certificate %d, %v", n, err)
	}
	if _, err := ask(stranger); code(err) != 401 {
		t.Errorf("a stranger: %v", err)
	}
	if _, err := ask(); err == nil {
		t.Error("without a certificate it is served")
	}
	wish := func(said string) {
		t.Helper()
		r.reload <- struct{}{}
		eventually(t, "the log says "+said, func() bool { return strings.Contains(r.log.String(), said) })
	}
	ca.sign("server")
	write(t, r.source.INI, text+"jitter = 1ms\n")
	wish("[subagent.sim] jitter")
	if n, err := ask(known); err != nil || n != 5 {
		t.Errorf("after a reload: certificate %d, %v", n, err)
	}
	write(t, filepath.Join(dir, "server.key"), "nothing")
	wish("nothing was reloaded")
	if n, err := ask(known); err != nil || n != 5 {
		t.Errorf("after a reload that was refused: certificate %d, %v", n, err)
	}
	if _, err := tls.DialWithDialer(&net.Dialer{Timeout: 5 * time.Second}, "tcp", "127.0.0.1:"+port, &tls.Config{RootCAs: ca.pool, MaxVersion: tls.VersionTLS11}); err == nil { //nolint:gosec // it is to be refused
		t.Error("TLS 1.1 is served")
	}
}
