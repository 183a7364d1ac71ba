package serve_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/auth"
)

// authority signs certificates for a test.
type authority struct {
	t    *testing.T
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
	last int64
}

func newAuthority(t *testing.T, dir, file string) *authority {
	t.Helper()
	a := &authority{t: t, dir: dir, pool: x509.NewCertPool(), last: 1}
	a.key = newKey(t)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: file}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, a.key.Public(), a.key)
	if err != nil {
		t.Fatal(err)
	}
	if a.cert, err = x509.ParseCertificate(der); err != nil {
		t.Fatal(err)
	}
	a.pool.AddCert(a.cert)
	write(t, filepath.Join(dir, file), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})))
	return a
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// sign makes a pair for a server on the loopback or a client.
func (a *authority) sign(name string) (certPEM, keyPEM []byte) {
	a.t.Helper()
	a.last++
	key := newKey(a.t)
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(a.last), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, a.cert, key.Public(), a.key)
	if err != nil {
		a.t.Fatal(err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})
}

// serverFiles writes cert.pem and key.pem.
func (a *authority) serverFiles(name string) {
	a.t.Helper()
	cert, key := a.sign(name)
	write(a.t, filepath.Join(a.dir, "cert.pem"), string(cert))
	write(a.t, filepath.Join(a.dir, "key.pem"), string(key))
}

// client shows the certificate of a name, if there is one, signed by of.
func (a *authority) client(of *authority, name string) *http.Client {
	a.t.Helper()
	cfg := &tls.Config{RootCAs: a.pool, MinVersion: tls.VersionTLS12}
	if name != "" {
		cert, key := of.sign(name)
		pair, err := tls.X509KeyPair(cert, key)
		if err != nil {
			a.t.Fatal(err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	tr := &http.Transport{TLSClientConfig: cfg, DisableKeepAlives: true}
	return &http.Client{Transport: tr}
}

// ask gets the version with a token, if there is one; 0 is that the connection
// failed.
func ask(t *testing.T, c *http.Client, url, secret string) int {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/v1/version", nil)
	if err != nil {
		t.Fatal(err)
	}
	if secret != "" {
		req.Header.Set("Authorization", "Bearer "+secret)
	}
	answer, err := c.Do(req)
	if err != nil {
		return 0
	}
	_ = answer.Body.Close()
	return answer.StatusCode
}

func tokens(t *testing.T, dir string) *auth.Store {
	t.Helper()
	store, err := auth.Open(filepath.Join(dir, "tokens"), auth.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return store
}

func TestNetworkWithCertificates(t *testing.T) {
	dir := tempDir(t)
	ca, foreign := newAuthority(t, dir, "ca.pem"), newAuthority(t, dir, "foreign.pem")
	ca.serverFiles("vagoth")
	store := tokens(t, dir)
	if _, err := store.Allow(t.Context(), auth.Spec{Name: "ops", Role: auth.Reader}); err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	s := start(t, dir, small+"[serve]\nlisten = "+address+"\ntls_cert = cert.pem\ntls_key = key.pem\nclient_ca = ca.pem\ntokens = tokens\n")
	url := "https://" + address

	want := func(what string, got, want int) {
		t.Helper()
		if got != want {
			t.Errorf("%s: %d, want %d", what, got, want)
		}
	}
	want("a certificate that is let in", ask(t, ca.client(ca, "ops"), url, ""), http.StatusOK)
	want("a certificate of nobody known", ask(t, ca.client(ca, "eve"), url, ""), http.StatusUnauthorized)
	want("a certificate of another authority", ask(t, ca.client(foreign, "ops"), url, ""), 0)
	want("no certificate", ask(t, ca.client(ca, ""), url, ""), 0)
	want("no TLS", ask(t, &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}, "http://"+address, ""), http.StatusBadRequest)

	old := ca.client(ca, "ops")
	old.Transport.(*http.Transport).TLSClientConfig.MinVersion = tls.VersionTLS10
	old.Transport.(*http.Transport).TLSClientConfig.MaxVersion = tls.VersionTLS11
	want("TLS 1.1", ask(t, old, url, ""), 0)

	// A reader changes nothing.
	answer, err := ca.client(ca, "ops").Post(url+"/v1/nodes", "application/json", strings.NewReader(`{"id":"x"}`))
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	want("a reader that creates", answer.StatusCode, http.StatusForbidden)

	// From now on a token does too.
	made, secret, err := store.Create(t.Context(), auth.Spec{Name: "ci", Role: auth.Reader})
	if err != nil {
		t.Fatal(err)
	}
	want("a token", ask(t, ca.client(ca, ""), url, secret), http.StatusOK)
	want("a wrong token", ask(t, ca.client(ca, ""), url, secret[:len(secret)-2]+"AA"), http.StatusUnauthorized)
	if _, err := store.Revoke(t.Context(), made.ID); err != nil {
		t.Fatal(err)
	}
	want("a revoked token", ask(t, ca.client(ca, ""), url, secret), 0)

	// A new certificate of the daemon is taken while it runs, a bad one is not.
	serving := func() string {
		c, err := tls.Dial("tcp", address, ca.client(ca, "ops").Transport.(*http.Transport).TLSClientConfig)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		return c.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	ca.serverFiles("renewed")
	s.reload <- struct{}{}
	eventually(t, "the renewed certificate is served", func() bool { return serving() == "renewed" })
	write(t, filepath.Join(dir, "cert.pem"), "nonsense")
	s.reload <- struct{}{}
	s.waitFor("nothing was reloaded")
	if name := serving(); name != "renewed" {
		t.Errorf("after a bad certificate %q is served", name)
	}
}

// On the loopback tokens do without TLS.
func TestNetworkWithTokens(t *testing.T) {
	dir := tempDir(t)
	store := tokens(t, dir)
	_, secret, err := store.Create(t.Context(), auth.Spec{Name: "ci", Role: auth.Operator})
	if err != nil {
		t.Fatal(err)
	}
	address := freeAddress(t)
	start(t, dir, small+"[serve]\nlisten = "+address+"\ntokens = tokens\n")
	c := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	if got := ask(t, c, "http://"+address, secret); got != http.StatusOK {
		t.Errorf("with the token: %d", got)
	}
	if got := ask(t, c, "http://"+address, ""); got != http.StatusUnauthorized {
		t.Errorf("without: %d", got)
	}
}

// Nobody is let onto a network without being asked who he is, or in clear text.
func TestOpenListenersAreRefused(t *testing.T) {
	dir := tempDir(t)
	ca := newAuthority(t, dir, "ca.pem")
	ca.serverFiles("vagoth")
	const pair = "tls_cert = cert.pem\ntls_key = key.pem\n"
	write(t, filepath.Join(dir, "expired"), "")
	if _, _, err := tokens(t, dir).Create(t.Context(), auth.Spec{Name: "ci", Role: auth.Reader}); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct{ name, text, says string }{
		{"loopback, nothing", "listen = 127.0.0.1:0\n", "nobody could be told apart"},
		{"localhost, nothing", "listen = localhost:0\n", "nobody could be told apart"},
		{"everywhere, nothing", "listen = :0\n", "no loopback address and there is no TLS"},
		{"everywhere, tokens alone", "listen = 0.0.0.0:0\ntokens = tokens\n", "no loopback address and there is no TLS"},
		{"mapped, tokens alone", "listen = [::ffff:192.0.2.1]:0\ntokens = tokens\n", "no loopback address and there is no TLS"},
		{"a name, tokens alone", "listen = localhost.example.org:0\ntokens = tokens\n", "no loopback address and there is no TLS"},
		{"TLS alone", "listen = 127.0.0.1:0\n" + pair, "nobody could be told apart"},
		{"one good, one bad", "tokens = tokens\nlisten = 127.0.0.1:0, 0.0.0.0:0\n", "0.0.0.0:0"},
		{"no port", "listen = 127.0.0.1\ntokens = tokens\n", "is not host:port"},
		{"no such certificate", "listen = 127.0.0.1:0\ntls_cert = gone.pem\ntls_key = key.pem\nclient_ca = ca.pem\n", "gone.pem"},
		{"no such authority", "listen = 127.0.0.1:0\n" + pair + "client_ca = gone.pem\n", "gone.pem"},
		{"an empty authority", "listen = 127.0.0.1:0\n" + pair + "client_ca = expired\n", "no certificate in PEM"},
	} {
		if err := failing(t, dir, small+"[serve]\n"+tc.text); err == nil || !strings.Contains(err.Error(), tc.says) {
			t.Errorf("%s: %v, want it to say %q", tc.name, err, tc.says)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	err = failing(t, dir, small+"[serve]\ntokens = tokens\nlisten = "+l.Addr().String()+"\n")
	var op *net.OpError
	if !errors.As(err, &op) {
		t.Errorf("an address in use: %v", err)
	}
}
