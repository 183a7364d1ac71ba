package etcdclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"
)

// Reach knocks at the members and returns why none of them lets us in, as etcd's
// client only tells that it took too long. It returns nil if one does.
func (c Config) Reach(ctx context.Context) error {
	t, err := c.tls()
	if err != nil {
		return err
	}
	var errs []error
	for _, e := range c.Endpoints {
		err := knock(ctx, e, t)
		if err == nil {
			return nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", e, err))
	}
	return errors.Join(errs...)
}

// knocking bounds how long one member may take to say something.
const knocking = time.Second

func knock(ctx context.Context, endpoint string, t *tls.Config) error {
	u, err := url.Parse(endpoint)
	if err != nil {
		return err
	}
	host := u.Host
	if u.Port() == "" {
		host = net.JoinHostPort(u.Hostname(), "2379")
	}
	ctx, cancel := context.WithTimeout(ctx, knocking)
	defer cancel()
	conn, err := new(net.Dialer).DialContext(ctx, "tcp", host)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if t == nil {
		return nil
	}
	t = t.Clone()
	t.ServerName, t.NextProtos = u.Hostname(), []string{"h2"}
	secured := tls.Client(conn, t)
	if err := secured.HandshakeContext(ctx); err != nil {
		return err
	}
	// What a server thinks of our certificate it says only now; and if it likes it,
	// it begins to speak.
	deadline, _ := ctx.Deadline()
	if err := secured.SetReadDeadline(deadline); err != nil {
		return err
	}
	_, err = secured.Read(make([]byte, 1))
	var slow net.Error
	if errors.As(err, &slow) && slow.Timeout() {
		return nil
	}
	return err
}
