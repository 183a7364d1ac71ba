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

// certificates are the daemon's, and those that sign its clients'. Each
// connection begins with the ones of its moment.
type certificates struct {
	now       atomic.Pointer[tls.Config]
	hasTokens func() bool
}

// readCertificates reads the files; nil if there is to be no TLS.
func readCertificates(d manager.Daemon) (*tls.Config, error) {
	if d.TLSCert == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(string(d.TLSCert), string(d.TLSKey))
	if err != nil {
		return nil, fmt.Errorf("[serve] tls_cert, tls_key: cannot use %s with %s: %w", d.TLSCert, d.TLSKey, err)
	}
	c := &tls.Config{
		MinVersion:   tls.VersionTLS12,
		Certificates: []tls.Certificate{pair},
		NextProtos:   []string{"http/1.1"},
	}
	if d.ClientCA == "" {
		return c, nil
	}
	pem, err := os.ReadFile(string(d.ClientCA))
	if err != nil {
		return nil, fmt.Errorf("[serve] client_ca: %w", err)
	}
	c.ClientCAs, c.ClientAuth = x509.NewCertPool(), tls.RequireAndVerifyClientCert
	if !c.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("[serve] client_ca: %s holds no certificate in PEM", d.ClientCA)
	}
	return c, nil
}

// config is what a listener is given; it does not change.
func (c *certificates) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: c.forClient}
}

// forClient asks for a certificate, and insists if there is nothing else that a
// client could show.
func (c *certificates) forClient(*tls.ClientHelloInfo) (*tls.Config, error) {
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
