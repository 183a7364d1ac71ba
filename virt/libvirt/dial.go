package libvirt

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"time"

	"github.com/vagoth/vagoth/virt"
)

// The sockets of libvirtd, and of the daemon that took its place for QEMU.
const (
	socketMonolithic = "/var/run/libvirt/libvirt-sock"
	socketModular    = "/var/run/libvirt/virtqemud-sock"

	portTLS = "16514"
)

// dialed is a go-libvirt dialer that has dialled already.
type dialed struct{ net.Conn }

// Dial gives go-libvirt the connection.
func (d dialed) Dial() (net.Conn, error) { return d.Conn, nil }

// dialTransport connects, up to where RPC begins.
func (p *pool) dialTransport(ctx context.Context) (net.Conn, error) {
	switch p.endpoint.transport {
	case overTLS:
		return p.dialTLS(ctx)
	case overSSH:
		return dialSSH(ctx, p.cfg.SSH, p.endpoint)
	}
	var d net.Dialer
	if p.endpoint.socket != "" {
		return d.DialContext(ctx, "unix", p.endpoint.socket)
	}
	c, err := d.DialContext(ctx, "unix", socketMonolithic)
	if errors.Is(err, fs.ErrNotExist) {
		if c, err := d.DialContext(ctx, "unix", socketModular); err == nil {
			return c, nil
		}
		return nil, fmt.Errorf("%w: is libvirtd running?", err)
	}
	return c, err
}

// dialTLS ends with the byte by which libvirtd says that it likes our
// certificate.
func (p *pool) dialTLS(ctx context.Context) (net.Conn, error) {
	config, err := p.cfg.tls(p.endpoint.host)
	if err != nil {
		return nil, err
	}
	d := tls.Dialer{Config: config, NetDialer: &net.Dialer{KeepAlive: 15 * time.Second}}
	c, err := d.DialContext(ctx, "tcp", p.endpoint.joinPort(portTLS))
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = c.Close() })
	defer stop()
	var verdict [1]byte
	if _, err := io.ReadFull(c, verdict[:]); err != nil {
		_ = c.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("libvirtd did not accept our certificate %s: %w", p.cfg.Cert, err)
	}
	if verdict[0] != 1 {
		_ = c.Close()
		return nil, fmt.Errorf("libvirtd did not accept our certificate %s", p.cfg.Cert)
	}
	return c, nil
}

const maxPEM = 1 << 20

func (c Config) tls(host string) (*tls.Config, error) {
	ca, err := readPEM(string(c.CA))
	if err != nil {
		return nil, fmt.Errorf("%w: cannot read tls_ca: %w", virt.ErrInvalid, err)
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(ca) {
		return nil, fmt.Errorf("%w: tls_ca %s holds no certificate", virt.ErrInvalid, c.CA)
	}
	cert, err := readPEM(string(c.Cert))
	if err != nil {
		return nil, fmt.Errorf("%w: cannot read tls_cert: %w", virt.ErrInvalid, err)
	}
	key, err := readPEM(string(c.Key))
	if err != nil {
		return nil, fmt.Errorf("%w: cannot read tls_key: %w", virt.ErrInvalid, err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("%w: tls_cert and tls_key do not belong together: %w", virt.ErrInvalid, err)
	}
	return &tls.Config{MinVersion: tls.VersionTLS12, ServerName: host, RootCAs: roots, Certificates: []tls.Certificate{pair}}, nil
}

func readPEM(name string) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return io.ReadAll(io.LimitReader(f, maxPEM))
}
