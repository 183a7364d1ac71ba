package remote

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"github.com/vagoth/vagoth/virt"
)

// hostMark is what a hypervisor's address or ID replaces in the config's url.
const hostMark = "{host}"

// maxAddress bounds a URL.
const maxAddress = 1024

// address returns the URL of a host's agent.
func (d *Driver) address(h virt.Host) (*url.URL, error) {
	text := d.cfg.URL
	switch {
	case strings.Contains(h.Address, "://"):
		text = h.Address
	case strings.Contains(text, hostMark):
		name := h.Address
		if name == "" {
			name = h.ID
		}
		if err := checkHost(name); err != nil {
			return nil, fmt.Errorf("%w: the address of %.64q: %w", virt.ErrInvalid, h.ID, err)
		}
		if strings.Contains(name, ":") && !strings.HasPrefix(name, "[") && strings.Count(name, ":") > 1 {
			name = "[" + name + "]" // a bare IPv6 address
		}
		text = strings.ReplaceAll(text, hostMark, name)
	case h.Address != "":
		return nil, fmt.Errorf("%w: the address of %.64q is no URL, and the driver's url has no %s for it to stand in", virt.ErrInvalid, h.ID, hostMark)
	}
	u, err := parseAddress(text)
	if err != nil {
		return nil, fmt.Errorf("%w: the address of %.64q: %w", virt.ErrInvalid, h.ID, err)
	}
	if u.Scheme == "http" && !d.cfg.Token.IsZero() && !loopback(u.Hostname()) {
		return nil, fmt.Errorf("%w: the token is not sent to %s in the clear: use https", virt.ErrInvalid, u.Host)
	}
	return u, nil
}

// checkHost takes a name or an address, with or without a port.
func checkHost(s string) error {
	if s == "" || len(s) > 300 || strings.HasPrefix(s, "-") || strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_:[]") != "" {
		return fmt.Errorf("%.64q is no name or address of a host", s)
	}
	return nil
}

// parseAddress takes a URL of an agent and nothing else.
func parseAddress(s string) (*url.URL, error) {
	if len(s) > maxAddress {
		return nil, fmt.Errorf("it has %d bytes, at most %d are taken", len(s), maxAddress)
	}
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, fmt.Errorf("%.128q is no URL", s)
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("%.128q must begin with https:// or http://", s)
	case u.User != nil:
		return nil, fmt.Errorf("it holds a user or a password: use token")
	case u.RawQuery != "" || u.Fragment != "" || u.Opaque != "":
		return nil, fmt.Errorf("%.128q has more than a host and a path", s)
	}
	if err := checkHost(u.Host); err != nil {
		return nil, err
	}
	if port := u.Port(); port == "" && strings.HasSuffix(u.Host, ":") || strings.ContainsAny(port, "[]") {
		return nil, fmt.Errorf("%.128q has no proper port", s)
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	u.RawPath = ""
	return u, nil
}

// loopback reports whether a host is this machine.
func loopback(host string) bool {
	if a, err := netip.ParseAddr(host); err == nil {
		return a.IsLoopback()
	}
	return host == "localhost" || strings.HasSuffix(host, ".localhost") && net.ParseIP(host) == nil
}
