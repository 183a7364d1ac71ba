package remote

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// authority signs certificates of a test.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	file string
}

func newAuthority(t *testing.T, name string) *authority {
	t.Helper()
	a := &authority{t: t}
	a.cert, a.key, a.file, _ = a.sign(name, nil)
	return a
}

// sign makes a certificate for loopback, by itself or by a, and writes it and
// its key to files.
func (a *authority) sign(name string, by *authority) (*x509.Certificate, *ecdsa.PrivateKey, string, string) {
	a.t.Helper()
	check := func(err error) {
		if err != nil {
			a.t.Fatal(err)
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, BasicConstraintsValid: true, IsCA: by == nil,
	}
	parent, signer := template, key
	if by != nil {
		parent, signer = by.cert, by.key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	check(err)
	cert, err := x509.ParseCertificate(der)
	check(err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	check(err)
	dir := a.t.TempDir()
	certFile, keyFile := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	check(os.WriteFile(certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	check(os.WriteFile(keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	return cert, key, certFile, keyFile
}

// An agent with client certificates is reached with ours, and only the one whose
// authority we know is.
func TestTLS(t *testing.T) {
	ours, theirs := newAuthority(t, "ours"), newAuthority(t, "theirs")
	cert, key, _, _ := ours.sign("agent", ours)
	pool := x509.NewCertPool()
	pool.AddCert(ours.cert)
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		answer(w, 200, mistify.Status{Complete: true})
	}))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	srv.TLS = &tls.Config{
		Certificates: []tls.Certificate{{Certificate: [][]byte{cert.Raw}, PrivateKey: key}}, ClientCAs: pool, ClientAuth: tls.RequireAndVerifyClientCert,
	}
	srv.StartTLS()
	defer srv.Close()
	_, _, goodCert, goodKey := ours.sign("manager", ours)
	_, _, badCert, badKey := theirs.sign("manager", theirs)
	h := virt.Host{ID: "h1", Address: srv.URL}
	for name, c := range map[string]struct {
		ca, cert, key string
		ok            bool
	}{
		"all is well":               {ours.file, goodCert, goodKey, true},
		"an agent of somebody else": {theirs.file, goodCert, goodKey, false},
		"an unknown authority":      {"", goodCert, goodKey, false},
		"no certificate":            {ours.file, "", "", false},
		"a certificate of others":   {ours.file, badCert, badKey, false},
	} {
		t.Run(name, func(t *testing.T) {
			d := open(t, func(cfg *Config) {
				cfg.CA, cfg.Cert, cfg.Key = component.Path(c.ca), component.Path(c.cert), component.Path(c.key)
				cfg.Token = component.NewSecret("geheim")
			})
			l, err := d.Status(t.Context(), h)
			if c.ok && (err != nil || !l.Complete) {
				t.Errorf("got %+v (%v), want a listing", l, err)
			}
			if c.ok {
				return
			}
			if err == nil || errors.Is(err, virt.ErrUnreachable) {
				t.Errorf("status: got error %v, want one that takes nobody for dead", err)
			}
			_, err = d.Info(t.Context(), h, vm("web"))
			is(t, "info", err, virt.ErrUnreachable)
		})
	}
	cfg := Defaults()
	cfg.Cert, cfg.Key = component.Path(goodCert), component.Path(badKey)
	if _, err := Open(t.Context(), cfg, virt.DriverDeps{Name: "x"}); err == nil {
		t.Error("a certificate was taken with the key of another")
	}
}
