package libvirt

import (
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"path"
	"strconv"
	"strings"

	"github.com/vagoth/vagoth/virt"
)

// transport is how the bytes travel.
type transport string

const (
	overUnix transport = "unix"
	overTLS  transport = "tls"
	overSSH  transport = "ssh"
)

// endpoint is what an address says: where libvirtd is, and what it is to open.
type endpoint struct {
	transport transport
	socket    string // on this host, or on the far side of ssh; "" tries the usual ones
	host      string // of tls and ssh
	port      string
	user      string // of ssh
	driver    string // the URI that libvirtd opens: qemu:///system or test:///default
}

// isTest reports whether libvirtd is to open its simulated hypervisor.
func (e endpoint) isTest() bool { return strings.HasPrefix(e.driver, "test:") }

// String is the address in the form that libvirt's own tools take.
func (e endpoint) String() string {
	scheme, rest, _ := strings.Cut(e.driver, "://")
	authority := e.host
	if strings.Contains(authority, ":") {
		authority = "[" + authority + "]"
	}
	if e.port != "" {
		authority += ":" + e.port
	}
	if e.user != "" {
		authority = e.user + "@" + authority
	}
	if e.transport != overUnix || e.socket != "" {
		scheme += "+" + string(e.transport)
	}
	query := ""
	if e.socket != "" {
		query = "?socket=" + e.socket
	}
	return scheme + "://" + authority + rest + query
}

const maxAddress = 1024

// parseAddress reads a libvirt URI. The error is an ErrInvalid or
// ErrUnsupported and says what to write instead.
func parseAddress(text string) (endpoint, error) {
	refuse := func(format string, args ...any) (endpoint, error) {
		return endpoint{}, fmt.Errorf("%w: the libvirt address %.100q %s", virt.ErrInvalid, text, fmt.Sprintf(format, args...))
	}
	if len(text) > maxAddress {
		return refuse("has %d bytes, at most %d are allowed", len(text), maxAddress)
	}
	u, err := url.Parse(text)
	if err != nil {
		return refuse("is no URI: write one such as qemu:///system or qemu+ssh://root@host/system")
	}
	if !strings.HasPrefix(strings.ToLower(text), u.Scheme+"://") || u.Opaque != "" || u.Fragment != "" || u.RawFragment != "" || u.RawPath != "" {
		return refuse("is no libvirt URI: write one such as qemu:///system")
	}
	hypervisor, over, _ := strings.Cut(u.Scheme, "+")
	e := endpoint{transport: transport(over), driver: hypervisor + "://" + u.Path}
	switch e.driver {
	case "qemu:///system", "test:///default":
	default:
		return refuse("is for %.40q: only qemu:///system (and test:///default, for tests) are known", e.driver)
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return refuse("has parameters that cannot be read: only one socket=PATH is known")
	}
	for key, values := range query {
		if key != "socket" || len(values) != 1 {
			return refuse("has the parameter %.40q: only one socket=PATH is known", key)
		}
		e.socket = values[0]
		if err := checkSocket(e.socket); err != nil {
			return refuse("has a socket that %v", err)
		}
	}
	switch e.transport {
	case "", overUnix:
		e.transport = overUnix
		if u.Host != "" || u.User != nil {
			return refuse("names a host but no way to get there: write qemu+ssh://HOST/system or qemu+tls://HOST/system")
		}
		return e, nil
	case overTLS:
		if u.User != nil {
			return refuse("has a user, which TLS does not know: the client's certificate says who it is")
		}
		if e.socket != "" {
			return refuse("has a socket, which TLS does not know")
		}
	case overSSH:
		if u.User != nil {
			if _, has := u.User.Password(); has {
				return endpoint{}, fmt.Errorf("%w: a libvirt address holds a password: ssh takes none here, use a key or an agent", virt.ErrInvalid)
			}
			e.user = u.User.Username()
			if !word(e.user, "._-", 32) {
				return refuse("has a user that is no user's name")
			}
		}
	case "tcp":
		return endpoint{}, fmt.Errorf("%w: the libvirt address %.100q is for plain TCP, where anyone can read and write what passes: use qemu+tls:// or qemu+ssh://",
			virt.ErrUnsupported, text)
	default:
		return refuse("goes over %.20q: only unix, tls and ssh are known", over)
	}
	e.host, e.port = u.Hostname(), u.Port()
	if e.host == "" {
		return refuse("names no host")
	}
	if !hostname(e.host) {
		return refuse("has a host that is neither a host's name nor an IP address")
	}
	if strings.HasSuffix(u.Host, ":") {
		return refuse("has an empty port")
	}
	if e.port != "" {
		if n, err := strconv.Atoi(e.port); err != nil || n < 1 || n > 65535 || strconv.Itoa(n) != e.port {
			return refuse("has a port that is not one of 1 to 65535")
		}
	}
	return e, nil
}

// checkSocket keeps to characters that no shell on the far side of ssh takes
// for anything else.
func checkSocket(s string) error {
	switch {
	case !path.IsAbs(s):
		return fmt.Errorf("is not an absolute path")
	case len(s) > 107:
		return fmt.Errorf("is longer than the 107 bytes that a socket's path may have")
	case path.Clean(s) != s || s == "/":
		return fmt.Errorf("is not a plain path")
	case !word(s, "._-/", 107):
		return fmt.Errorf("has characters other than letters, digits and . _ - /")
	}
	return nil
}

// word reports whether s is made of letters, digits and the punctuation, and
// does not begin as an option does.
func word(s, punctuation string, limit int) bool {
	if s == "" || len(s) > limit || s[0] == '-' {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte(punctuation, c) >= 0) {
			return false
		}
	}
	return true
}

func hostname(s string) bool {
	if a, err := netip.ParseAddr(s); err == nil {
		return a.Zone() == ""
	}
	return word(s, ".-", 253) && s[0] != '.' && !strings.Contains(s, "..")
}

// joinPort is host:port, with the transport's own port if the address has none.
func (e endpoint) joinPort(standard string) string {
	if e.port != "" {
		standard = e.port
	}
	return net.JoinHostPort(e.host, standard)
}
