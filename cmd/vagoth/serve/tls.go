package serve

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"sync/atomic"

	"github.com/vagoth/vagoth/manager"
)

// checkListen refuses addresses at which everybody could do everything, or could
// read along. hasTokens says that there is a token to show.
func checkListen(d manager.Daemon, hasTokens bool) error {
	var errs []error
	for _, address := range d.Listen {
		host, _, err := net.SplitHostPort(address)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("[serve] listen: %.100q is not host:port: %w", address, err))
		case d.TLSCert == "" && !isLoopback(host):
			errs = append(errs, fmt.Errorf("[serve] listen: %s is no loopback address and there is no TLS, so tokens could be read on the way: name tls_cert and tls_key", address))
		case d.ClientCA == "" && !hasTokens:
			errs = append(errs, fmt.Errorf("[serve] listen: nobody could be told apart at %s: name client_ca, or make a token with `vagoth token create`", address))
		}
	}
	return errors.Join(errs...)
}

// isLoopback reports whether only this machine reaches the host. A name other
// than localhost could stand for anything tomorrow.
func isLoopback(host string) bool {
	if host == "localhost" {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && a.Unmap().IsLoopback()
}

// Certificates are the daemon's, and those that sign its clients'. Each
// connection begins with the ones of its moment.
type Certificates struct {
	now       atomic.Pointer[tls.Config]
	hasTokens func() bool
}

// TLSFiles name them. Without ClientCA clients need none.
type TLSFiles struct {
	Section           string // of the config, for errors
	Cert, Key, Client string
}

func files(d manager.Daemon) TLSFiles {
	return TLSFiles{Section: "serve", Cert: string(d.TLSCert), Key: string(d.TLSKey), Client: string(d.ClientCA)}
}

// OpenCertificates reads the files; nil if there is to be no TLS. hasTokens says
// that clients can show a token instead of a certificate.
func OpenCertificates(f TLSFiles, hasTokens func() bool) (*Certificates, error) {
	cfg, err := f.read()
	if cfg == nil || err != nil {
		return nil, err
	}
	c := &Certificates{hasTokens: hasTokens}
	c.now.Store(cfg)
	return c, nil
}

// Reload reads the files for the connections to come, once take is called. A nil
// c, without TLS, stays that.
func (c *Certificates) Reload(f TLSFiles) (take func(), err error) {
	cfg, err := f.read()
	if c == nil || cfg == nil || err != nil {
		return func() {}, err
	}
	return func() { c.now.Store(cfg) }, nil
}

func (f TLSFiles) read() (*tls.Config, error) {
	if f.Cert == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, fmt.Errorf("[%s] tls_cert, tls_key: cannot use %s with %s: %w", f.Section, f.Cert, f.Key, err)
	}
	c := &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{pair},
		NextProtos:   []string{"http/1.1"},
	}
	if f.Client == "" {
		return c, nil
	}
	pem, err := os.ReadFile(f.Client)
	if err != nil {
		return nil, fmt.Errorf("[%s] client_ca: %w", f.Section, err)
	}
	c.ClientCAs, c.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if !c.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("[%s] client_ca: %s holds no certificate in PEM", f.Section, f.Client)
	}
	return c, nil
}

// Config is what a listener is given; it does not change.
func (c *Certificates) Config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: c.forClient}
}

// forClient asks for a certificate, and insists if there is nothing else that a
// client could show.
func (c *Certificates) forClient(*tls.ClientHelloInfo) (*tls.Config, error) {
	now := c.now.Load()
	if now == nil {
		return nil, errors.New("there is no certificate")
	}
	if now.ClientAuth == tls.NoClientCert || !c.hasTokens() {
		return now, nil
	}
	lenient := now.Clone()
	lenient.ClientAuth = tls.VerifyClientCertIfGiven
	return lenient, nil
}
