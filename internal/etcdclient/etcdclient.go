// Package etcdclient is how vagoth reaches etcd: the keys of the configuration that
// registry and scheduler have in common, the client that they make, and what etcd's
// refusals mean.
package etcdclient

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/vagoth/vagoth/manager/component"
)

// Config says where etcd is and who asks it.
type Config struct {
	Endpoints []string         `ini:"endpoints" help:"client URLs of the members of etcd" required:"true" example:"https://10.0.0.1:2379, https://10.0.0.2:2379"`
	Prefix    string           `ini:"prefix" help:"what our keys begin with; two clusters in one etcd need two"`
	Username  string           `ini:"username" help:"user of etcd; empty is none"`
	Password  component.Secret `ini:"password" help:"of that user"`
	CA        component.Path   `ini:"tls_ca" help:"certificate authority of the members; empty is that of the system"`
	Cert      component.Path   `ini:"tls_cert" help:"our own certificate"`
	Key       component.Path   `ini:"tls_key" help:"our own key"`
	Timeout   time.Duration    `ini:"timeout" help:"how long etcd may take before a read or a write fails" min:"100ms" max:"5m"`
}

// Defaults is the config of an empty section.
func Defaults() Config { return Config{Prefix: "/vagoth/", Timeout: 10 * time.Second} }

// maxPrefix bounds the prefix, which stands in every key.
const maxPrefix = 128

// Validate checks what the tags cannot say.
func (c Config) Validate() error {
	secure := false
	for i, e := range c.Endpoints {
		u, err := url.Parse(e)
		if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.Path != "" && u.Path != "/" || u.User != nil || u.RawQuery != "" {
			return &component.KeyError{Key: "endpoints", Reason: fmt.Sprintf("%q is not the URL of a member", e), Suggestion: "such as https://10.0.0.1:2379"}
		}
		if i > 0 && secure != (u.Scheme == "https") {
			return &component.KeyError{Key: "endpoints", Reason: "some are https and some are not"}
		}
		secure = u.Scheme == "https"
	}
	if !strings.HasPrefix(c.Prefix, "/") || !strings.HasSuffix(c.Prefix, "/") || len(c.Prefix) > maxPrefix {
		return &component.KeyError{Key: "prefix", Reason: fmt.Sprintf("must begin and end with / and have at most %d bytes", maxPrefix), Suggestion: "/vagoth/"}
	}
	for _, r := range c.Prefix {
		if r <= ' ' || r > '~' {
			return &component.KeyError{Key: "prefix", Reason: fmt.Sprintf("%q has %q: use printable ASCII", c.Prefix, r)}
		}
	}
	switch {
	case c.Username == "" && !c.Password.IsZero():
		return &component.KeyError{Key: "password", Reason: "there is no username for it"}
	case c.Username != "" && c.Password.IsZero():
		return &component.KeyError{Key: "username", Reason: "there is no password for it", Suggestion: "password = file:/etc/vagoth/etcd.password"}
	case (c.Cert == "") != (c.Key == ""):
		return &component.KeyError{Key: "tls_cert", Reason: "tls_cert and tls_key go together"}
	case !secure && (c.CA != "" || c.Cert != ""):
		return &component.KeyError{Key: "endpoints", Reason: "there are certificates, and the members are not https"}
	}
	return nil
}

// tls is nil if the members are reached in the clear.
func (c Config) tls() (*tls.Config, error) {
	if !strings.HasPrefix(c.Endpoints[0], "https:") {
		return nil, nil
	}
	t := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CA != "" {
		pem, err := os.ReadFile(string(c.CA))
		if err != nil {
			return nil, fmt.Errorf("cannot read tls_ca: %w", err)
		}
		t.RootCAs = x509.NewCertPool()
		if !t.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("tls_ca %s holds no certificate in PEM form", c.CA)
		}
	}
	if c.Cert != "" {
		pair, err := tls.LoadX509KeyPair(string(c.Cert), string(c.Key))
		if err != nil {
			return nil, fmt.Errorf("cannot read tls_cert and tls_key: %w", err)
		}
		t.Certificates = []tls.Certificate{pair}
	}
	return t, nil
}

// Client makes the client. Nothing is dialled yet. A member that hangs is left within
// two probes.
func (c Config) Client(probe time.Duration) (*clientv3.Client, error) {
	t, err := c.tls()
	if err != nil {
		return nil, err
	}
	var client *clientv3.Client
	var options []grpc.DialOption
	if c.Username != "" {
		a := newTokens(c.Username, c.Password.Reveal())
		options = a.options(func() *clientv3.Client { return client })
	}
	client, err = clientv3.New(clientv3.Config{
		Endpoints: c.Endpoints, TLS: t, DialTimeout: c.Timeout, Logger: zap.NewNop(), DialOptions: options,
		DialKeepAliveTime: max(probe, minKeepAlive), DialKeepAliveTimeout: probe,
	})
	return client, err
}

// minKeepAlive is the least that etcd lets its clients do.
const minKeepAlive = 5 * time.Second
