package spin

import (
	"net"
	"net/http"
	"net/netip"
	"strings"
)

// fromHere refuses what a page in somebody's browser could make it send: its
// Host is a name that was bent to this address, or it says where it comes from.
// GET is no exception, since "next" hands out work.
func fromHere(r *http.Request) error {
	if !loopback(r.Host) {
		return failure{status: http.StatusForbidden, name: "forbidden",
			message: "the request is for a host that is not the loopback: ask 127.0.0.1 or localhost"}
	}
	site := r.Header.Get("Sec-Fetch-Site")
	if r.Header.Get("Origin") != "" || site != "" && site != "none" || r.Header.Get("Sec-Purpose") != "" {
		return failure{status: http.StatusForbidden, name: "forbidden", message: "pages in browsers are not served here: use an agent or curl"}
	}
	return nil
}

// loopback reports whether host, with or without a port, is this machine.
func loopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	} else {
		host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && addr.Unmap().IsLoopback()
}
