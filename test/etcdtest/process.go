package etcdtest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vagoth/vagoth/test/testbed"
)

// Options are those of a Process. The zero value is etcd as it comes.
type Options struct {
	Quota int64 // --quota-backend-bytes; 0 is etcd's own
	TLS   bool  // with client certificates
}

// Process is one member of Debian's etcd on the loopback, for what needs no
// network of its own: users, certificates, a full disk.
type Process struct {
	t       testing.TB
	o       Options
	dir     string
	client  url.URL
	peer    url.URL
	metrics url.URL
	m       *member
}

// Run starts one, which ends with the test.
func Run(t testing.TB, o Options) *Process {
	t.Helper()
	testbed.Need(t, "etcd")
	p := &Process{t: t, o: o, dir: scratch(t), client: free(t), peer: free(t), metrics: free(t)}
	if o.TLS {
		p.client.Scheme = "https"
		p.certificates()
	}
	p.m = &member{dir: filepath.Join(p.dir, "etcd")}
	t.Cleanup(func() {
		if p.m.cmd != nil && p.m.cmd.Process != nil {
			p.Kill()
		}
	})
	p.Start()
	return p
}

// URL is its client URL.
func (p *Process) URL() string { return p.client.String() }

// CA is the file of the authority that signs the server's certificate.
func (p *Process) CA() string { return filepath.Join(p.dir, "ca.pem") }

// Cert is the file of a client's certificate.
func (p *Process) Cert() string { return filepath.Join(p.dir, "client.pem") }

// Key is the file of its key.
func (p *Process) Key() string { return filepath.Join(p.dir, "client.key") }

// Kill kills it, until Start.
func (p *Process) Kill() {
	p.m.signal(syscall.SIGKILL)
	<-p.m.ended
}

// Stop holds it with SIGSTOP, until Continue.
func (p *Process) Stop() { p.m.signal(syscall.SIGSTOP) }

// Continue lets it go on.
func (p *Process) Continue() { p.m.signal(syscall.SIGCONT) }

// Start starts it, for the first time or again, and waits until it is healthy.
func (p *Process) Start() {
	p.t.Helper()
	args := []string{
		"--name", "m0", "--data-dir", p.m.dir, "--listen-client-urls", p.client.String(), "--advertise-client-urls", p.client.String(),
		"--listen-peer-urls", p.peer.String(), "--initial-advertise-peer-urls", p.peer.String(), "--initial-cluster", "m0=" + p.peer.String(),
		"--listen-metrics-urls", p.metrics.String(), "--heartbeat-interval", "50", "--election-timeout", "500", "--logger", "zap", "--log-outputs", "stderr",
	}
	if p.o.Quota > 0 {
		args = append(args, "--quota-backend-bytes", big.NewInt(p.o.Quota).String())
	}
	if p.o.TLS {
		args = append(args, "--cert-file", filepath.Join(p.dir, "server.pem"), "--key-file", filepath.Join(p.dir, "server.key"),
			"--client-cert-auth", "--trusted-ca-file", p.CA())
	}
	if err := p.m.run(exec.Command("etcd", args...)); err != nil { //nolint:noctx // it ends with the test
		p.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	p.m.ready(ctx, p.t, p.metrics.String())
}

// Ctl runs etcdctl as root, or as the user that args name.
func (p *Process) Ctl(args ...string) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	all := []string{"--endpoints", p.URL()}
	if p.o.TLS {
		all = append(all, "--cacert", p.CA(), "--cert", p.Cert(), "--key", p.Key())
	}
	cmd := exec.CommandContext(ctx, "etcdctl", append(all, args...)...)
	cmd.Env = append(os.Environ(), "ETCDCTL_API=3")
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.t.Fatalf("etcdctl %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// certificates makes an authority, and certificates of the server and of a client.
func (p *Process) certificates() {
	p.t.Helper()
	authority := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	caKey := p.key("ca.key")
	p.sign("ca.pem", authority, authority, caKey, caKey)
	for i, name := range []string{"server", "client"} {
		p.sign(name+".pem", &x509.Certificate{
			SerialNumber: big.NewInt(int64(i + 2)), Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
			KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
			NotBefore: authority.NotBefore, NotAfter: authority.NotAfter,
		}, authority, p.key(name+".key"), caKey)
	}
}

func (p *Process) key(name string) *ecdsa.PrivateKey {
	p.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		p.t.Fatal(err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		p.t.Fatal(err)
	}
	p.pem(name, "EC PRIVATE KEY", der)
	return key
}

func (p *Process) sign(name string, c, by *x509.Certificate, key, with *ecdsa.PrivateKey) {
	p.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, c, by, key.Public(), with)
	if err != nil {
		p.t.Fatal(err)
	}
	p.pem(name, "CERTIFICATE", der)
}

func (p *Process) pem(name, kind string, der []byte) {
	p.t.Helper()
	data := pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
	if err := os.WriteFile(filepath.Join(p.dir, name), data, 0o600); err != nil {
		p.t.Fatal(err)
	}
}
