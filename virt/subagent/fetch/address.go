package fetch

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"

	"github.com/vagoth/vagoth/virt"
)

// AddressError is an address that downloads may not be from. It is a
// virt.ErrInvalid.
type AddressError struct{ Address netip.Addr }

func (e *AddressError) Error() string {
	return fmt.Sprintf("the address %s is not public and not allowed: allow its network in the config if it is meant", e.Address)
}

func (e *AddressError) Unwrap() error { return virt.ErrInvalid }

const maxRedirects = 5

// newClient dials public addresses only, unless others are allowed. It knows no
// proxy, which would resolve names out of our sight.
func (f *Fetcher) newClient() *http.Client {
	dialer := &net.Dialer{Timeout: min(f.o.Stall, 30*time.Second), Control: func(_, address string, _ syscall.RawConn) error { return f.permit(address) }}
	return &http.Client{
		Transport: &http.Transport{
			DialContext:            dialer.DialContext,
			DisableCompression:     true,
			DisableKeepAlives:      true,
			MaxResponseHeaderBytes: 64 << 10,
			TLSHandshakeTimeout:    30 * time.Second,
			ResponseHeaderTimeout:  f.o.Stall,
			ForceAttemptHTTP2:      true,
		},
		CheckRedirect: func(r *http.Request, via []*http.Request) error {
			switch {
			case len(via) > maxRedirects:
				return fmt.Errorf("it redirects more than %d times", maxRedirects)
			case via[len(via)-1].URL.Scheme == "https" && r.URL.Scheme != "https":
				return errors.New("it redirects from https to http")
			}
			return checkURL(r.URL.String())
		},
	}
}

// permit checks the address that a name was resolved to, right before it is
// connected to.
func (f *Fetcher) permit(address string) error {
	a, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("%w: %q is no address", virt.ErrInvalid, address)
	}
	ip := a.Addr().Unmap().WithZone("")
	if f.o.Private || public(ip) {
		return nil
	}
	for _, allowed := range f.o.Allow {
		if allowed.Contains(ip) {
			return nil
		}
	}
	return &AddressError{ip}
}

// special lists the networks that are not of the public Internet and that
// netip has no word for, and those that reach IPv4 by an address inside.
var special = [...]netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("192.0.0.0/24"),
	netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("192.88.99.0/24"), netip.MustParsePrefix("198.18.0.0/15"),
	netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("203.0.113.0/24"), netip.MustParsePrefix("240.0.0.0/4"),
	netip.MustParsePrefix("::/96"), netip.MustParsePrefix("64:ff9b::/96"), netip.MustParsePrefix("64:ff9b:1::/48"), netip.MustParsePrefix("100::/64"),
	netip.MustParsePrefix("2001::/23"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("2002::/16"), netip.MustParsePrefix("fec0::/10"),
}

func public(ip netip.Addr) bool {
	if !ip.IsGlobalUnicast() || ip.IsPrivate() {
		return false
	}
	for _, p := range special {
		if p.Contains(ip) {
			return false
		}
	}
	return true
}

// plainly takes the URL out of an error of the client: it can hold secrets.
func plainly(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	var wrapped *url.Error
	if errors.As(err, &wrapped) {
		return wrapped.Err
	}
	return err
}
