package etcd

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
)

// network is how managers reach each other.
type network interface {
	listen() (l net.Listener, address string, err error)
	dial(ctx context.Context, to member) (net.Conn, error)
	// from names who asks, of those that live; empty is a stranger.
	from(r *http.Request, alive map[string]member) string
	host() string  // this machine, for people
	shows() []byte // by which this manager is known
}

// overTLS is the network: each process makes a key of its own and tells its
// certificate to the others in etcd, so that who may write there is who is trusted,
// and nothing is to be configured.
type overTLS struct {
	cfg  Config
	cert tls.Certificate
}

func newTLS(cfg Config) (*overTLS, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	// Its times are not looked at: it is good as long as it stands in etcd.
	t := &x509.Certificate{SerialNumber: serial, Subject: pkix.Name{CommonName: "a manager of vagoth"}, NotBefore: time.Unix(0, 0), NotAfter: time.Unix(1<<33, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, t, t, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	return &overTLS{cfg: cfg, cert: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}}, nil
}

func (n *overTLS) host() string {
	name, err := os.Hostname()
	if err != nil {
		return ""
	}
	return name
}

func (n *overTLS) shows() []byte { return n.cert.Certificate[0] }

// listen listens at the configured address, or at the one that etcd is reached from.
func (n *overTLS) listen() (net.Listener, string, error) {
	at := n.cfg.Listen
	if at == "" {
		ip, err := n.towardsEtcd()
		if err != nil {
			return nil, "", fmt.Errorf("cannot find the address from which etcd is reached: %w: name one with listen", err)
		}
		at = net.JoinHostPort(ip, "0")
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", at)
	if err != nil {
		return nil, "", fmt.Errorf("cannot listen for the other managers: %w", err)
	}
	address := n.cfg.Advertise
	if address == "" {
		address = l.Addr().String()
		if host, port, err := net.SplitHostPort(address); err == nil && net.ParseIP(host).IsUnspecified() {
			ip, err := n.towardsEtcd()
			if err != nil {
				return nil, "", errors.Join(fmt.Errorf("cannot find the address of this machine: %w: name it with advertise", err), l.Close())
			}
			address = net.JoinHostPort(ip, port)
		}
	}
	return tls.NewListener(l, &tls.Config{MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{n.cert}, ClientAuth: tls.RequireAnyClientCert}), address, nil
}

// towardsEtcd asks the kernel, and sends nothing.
func (n *overTLS) towardsEtcd() (string, error) {
	u, err := url.Parse(n.cfg.Endpoints[0])
	if err != nil {
		return "", err
	}
	c, err := (&net.Dialer{Timeout: n.cfg.Timeout}).Dial("udp", net.JoinHostPort(u.Hostname(), "9"))
	if err != nil {
		return "", err
	}
	defer func() { _ = c.Close() }() // nothing was sent
	host, _, err := net.SplitHostPort(c.LocalAddr().String())
	return host, err
}

func (n *overTLS) dial(ctx context.Context, to member) (net.Conn, error) {
	d := &tls.Dialer{NetDialer: &net.Dialer{Timeout: n.cfg.Timeout}, Config: &tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{n.cert},
		InsecureSkipVerify: true, //nolint:gosec // what is compared is the certificate itself
		VerifyConnection: func(c tls.ConnectionState) error {
			if len(c.PeerCertificates) == 0 || !slices.Equal(c.PeerCertificates[0].Raw, to.Cert) {
				return fmt.Errorf("at %s there is another than the manager that stands in etcd", to.Address)
			}
			return nil
		},
	}}
	return d.DialContext(ctx, "tcp", to.Address)
}

func (n *overTLS) from(r *http.Request, alive map[string]member) string {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return ""
	}
	for name, m := range alive {
		if slices.Equal(m.Cert, r.TLS.PeerCertificates[0].Raw) && strings.EqualFold(name, r.Header.Get(nameHeader)) {
			return name
		}
	}
	return ""
}

// nameHeader names the session of who asks.
const nameHeader = "Vagoth-Manager"
