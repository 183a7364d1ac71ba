package libvirt

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/virt"
)

// actAsSSH is this program in the place of ssh: it leaves its arguments and its
// pid, and carries bytes to a socket, or fails as it is told.
func actAsSSH() int {
	note := fmt.Sprintf("%d\n%s", os.Getpid(), strings.Join(os.Args[1:], "\n"))
	if err := os.WriteFile(os.Getenv("VAGOTH_TEST_SSH_NOTE"), []byte(note), 0o600); err != nil {
		return 1
	}
	switch how := os.Getenv("VAGOTH_TEST_SSH"); how {
	case "refused":
		_, _ = fmt.Fprintf(os.Stderr, "Warning: be nice\r\nroot@host1: Permission denied (\x1b[31mpublickey).\r\n")
		return 255
	case "hung":
		time.Sleep(time.Minute)
		return 1
	default:
		c, err := net.Dial("unix", how)
		if err != nil {
			return 1
		}
		go func() { _, _ = io.Copy(c, os.Stdin) }()
		_, _ = io.Copy(os.Stdout, c)
		return 0
	}
}

func TestSSH(t *testing.T) {
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	try := func(t *testing.T, how string) (virt.Listing, []string, error) {
		note := filepath.Join(t.TempDir(), "note")
		t.Setenv("VAGOTH_TEST_SSH", how)
		t.Setenv("VAGOTH_TEST_SSH_NOTE", note)
		cfg := Defaults()
		cfg.SSH, cfg.Timeout = program, 3*time.Second
		d, err := Open(t.Context(), cfg, virt.DriverDeps{Name: "test"})
		if err != nil {
			t.Fatal(err)
		}
		l, failure := d.Status(t.Context(), virt.Host{Address: "qemu+ssh://root@host1:2222/system"})
		if err := d.Close(); err != nil {
			t.Error(err)
		}
		b, err := os.ReadFile(note)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(b), "\n")
		var pid int
		if _, err := fmt.Sscan(lines[0], &pid); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("ssh is still there: %v", err)
		}
		return l, lines[1:], failure
	}
	t.Run("works", func(t *testing.T) {
		f := newFake(t, nil)
		_, socket, _ := strings.Cut(f.address, "=")
		l, args, err := try(t, socket)
		if err != nil || !l.Complete {
			t.Fatalf("%+v, %v", l, err)
		}
		want, _ := parseAddress("qemu+ssh://root@host1:2222/system")
		if !slices.Equal(args, sshArguments(want)) {
			t.Errorf("ssh was called with %q", args)
		}
	})
	t.Run("refused", func(t *testing.T) {
		_, _, err := try(t, "refused")
		if !isUnreachable(err) || !strings.Contains(err.Error(), "root@host1: Permission denied (?[31mpublickey).") {
			t.Errorf("got error %v, want ErrUnreachable with ssh's own words", err)
		}
	})
	t.Run("hung", func(t *testing.T) {
		if _, _, err := try(t, "hung"); !isUnreachable(err) {
			t.Errorf("got error %v, want ErrUnreachable", err)
		}
	})
	t.Run("missing", func(t *testing.T) {
		cfg := Defaults()
		cfg.SSH = "/nonexistent/ssh"
		d, err := Open(t.Context(), cfg, virt.DriverDeps{Name: "test"})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := d.Status(t.Context(), virt.Host{Address: "qemu+ssh://host1/system"}); !isUnreachable(err) {
			t.Errorf("got error %v, want ErrUnreachable", err)
		}
	})
}

// authority signs certificates for one test.
type authority struct {
	dir  string
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{dir: t.TempDir()}
	a.key, a.cert = a.issue(t, "ca", true)
	return a
}

func (a *authority) file(name string) string { return filepath.Join(a.dir, name) }

// issue writes name.pem and name.key.
func (a *authority) issue(t *testing.T, name string, ca bool, hosts ...net.IP) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, IPAddresses: hosts,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: ca, BasicConstraintsValid: true,
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := a.cert, a.key
	if ca {
		parent, signer = c, key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{name + ".pem": {Type: "CERTIFICATE", Bytes: der}, name + ".key": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(a.file(file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	c, err = x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return key, c
}

// verdictListener sends libvirtd's verdict about the client's certificate.
type verdictListener struct {
	net.Listener
	verdict []byte
}

func (l verdictListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil && len(l.verdict) > 0 {
		go func() { _, _ = c.Write(l.verdict) }() // the handshake waits for the client
	}
	return c, err
}

func TestTLS(t *testing.T) {
	a := newAuthority(t)
	a.issue(t, "client", false)
	other := newAuthority(t)
	other.issue(t, "client", false)
	for name, c := range map[string]struct {
		verdict []byte
		hosts   []net.IP
		ca, us  *authority
		works   bool
	}{
		"works":         {[]byte{1}, []net.IP{net.IPv4(127, 0, 0, 1)}, a, a, true},
		"refused":       {[]byte{0}, []net.IP{net.IPv4(127, 0, 0, 1)}, a, a, false},
		"silent":        {nil, []net.IP{net.IPv4(127, 0, 0, 1)}, a, a, false},
		"another host":  {[]byte{1}, []net.IP{net.IPv4(10, 0, 0, 1)}, a, a, false},
		"another CA":    {[]byte{1}, []net.IP{net.IPv4(127, 0, 0, 1)}, other, a, false},
		"other's paper": {[]byte{1}, []net.IP{net.IPv4(127, 0, 0, 1)}, a, other, false},
	} {
		t.Run(name, func(t *testing.T) {
			a.issue(t, "server", false, c.hosts...)
			pair, err := tls.LoadX509KeyPair(a.file("server.pem"), a.file("server.key"))
			if err != nil {
				t.Fatal(err)
			}
			roots := x509.NewCertPool()
			roots.AddCert(a.cert)
			l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{pair}, ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: roots})
			if err != nil {
				t.Fatal(err)
			}
			f := newFakeOn(t, verdictListener{l, c.verdict}, "qemu+tls://"+l.Addr().String()+"/system", nil)
			cfg := Defaults()
			cfg.URI, cfg.Timeout = f.address, 2*time.Second
			cfg.CA = component.Path(c.ca.file("ca.pem"))
			cfg.Cert, cfg.Key = component.Path(c.us.file("client.pem")), component.Path(c.us.file("client.key"))
			d, err := Open(t.Context(), cfg, virt.DriverDeps{Name: "test"})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = d.Close() }()
			listing, err := d.Status(context.Background(), virt.Host{})
			if c.works && (err != nil || !listing.Complete) {
				t.Errorf("%+v, %v", listing, err)
			}
			if !c.works && !isUnreachable(err) {
				t.Errorf("got error %v, want ErrUnreachable", err)
			}
		})
	}
}

func TestTLSFilesAreNamed(t *testing.T) {
	a := newAuthority(t)
	a.issue(t, "client", false)
	cfg := Defaults()
	cfg.URI = "qemu+tls://127.0.0.1:1/system"
	good := func() Config {
		c := cfg
		c.CA, c.Cert, c.Key = component.Path(a.file("ca.pem")), component.Path(a.file("client.pem")), component.Path(a.file("client.key"))
		return c
	}
	for want, change := range map[string]func(*Config){
		"tls_ca":               func(c *Config) { c.CA = "/nonexistent" },
		"tls_cert":             func(c *Config) { c.Cert = "/nonexistent" },
		"tls_key":              func(c *Config) { c.Key = "/nonexistent" },
		"do not belong":        func(c *Config) { c.Key = component.Path(a.file("ca.key")) },
		"holds no certificate": func(c *Config) { c.CA = component.Path(a.file("ca.key")) },
	} {
		c := good()
		change(&c)
		if _, err := c.tls("host"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got error %v, want one that says %q", err, want)
		}
	}
	if _, err := good().tls("host"); err != nil {
		t.Error(err)
	}
}
