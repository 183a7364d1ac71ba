package daemon

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// certificate writes NAME.pem and NAME.key, signed by the parent or by itself.
func (p *place) certificate(name string, serial int64, parent *x509.Certificate, by *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
	p.t.Helper()
	must := func(err error) {
		if err != nil {
			p.t.Fatal(err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(err)
	c := &x509.Certificate{
		SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if parent == nil {
		parent, by = c, key
		c.IsCA, c.BasicConstraintsValid, c.KeyUsage = true, true, x509.KeyUsageCertSign
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), by)
	must(err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	must(err)
	made, err := x509.ParseCertificate(der)
	must(err)
	must(os.WriteFile(filepath.Join(p.dir, name+".pem"), pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	must(os.WriteFile(filepath.Join(p.dir, name+".key"), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
	return made, key
}

// The command line reaches a daemon elsewhere with a certificate or a token, and
// trusts only the daemon whose certificate it can check.
func TestCommandOverTLS(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	p := newPlace(t, "[drivers.lab]\nuse = sim\n[serve]\ntls_cert = server.pem\ntls_key = server.key\nclient_ca = ca.pem\nlisten = "+address+"\n")
	ca, key := p.certificate("ca", 1, nil, nil)
	p.certificate("server", 2, ca, key)
	p.certificate("ops", 3, ca, key)
	p.certificate("eve", 4, ca, key)
	run := func(ok bool, says string, args ...string) string {
		t.Helper()
		out, err := p.command(args...).CombinedOutput()
		if (err == nil) != ok || !strings.Contains(string(out), says) {
			t.Errorf("vagoth %q: %v, want it to say %q:\n%s", args, err, says, out)
		}
		return strings.TrimSpace(string(out))
	}
	run(true, "let in as operator", "token", "create", "ops", "--role", "operator", "--certificate")
	p.start(t.Context())
	over := func(more ...string) []string {
		return append(more, "--server", "https://"+address, "-c", "nowhere.ini")
	}
	run(true, "h1", over("hv", "add", "h1", "--driver", "lab", "--ca", "ca.pem", "--cert", "ops.pem", "--cert-key", "ops.key")...)
	run(false, "is not let in", over("list", "--ca", "ca.pem", "--cert", "eve.pem", "--cert-key", "eve.key")...)
	run(false, "certificate required", over("list", "--ca", "ca.pem")...)
	run(false, "unknown authority", over("list", "--cert", "ops.pem", "--cert-key", "ops.key")...)

	secret := run(true, "vagoth_", "token", "create", "eye", "--role", "reader", "-o", "name")
	if err := os.WriteFile(filepath.Join(p.dir, "token"), []byte(secret+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	run(true, "h1", over("list", "-o", "name", "--ca", "ca.pem", "--token-file", "token")...)
	run(false, "needs the role operator", over("hv", "remove", "h1", "-y", "--ca", "ca.pem", "--token-file", "token")...)
}
