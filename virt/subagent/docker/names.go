package docker

import (
	"net/netip"
	"regexp"
	"strings"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// What the parts of names are made of. They are a part of dockerd's paths and
// queries.
var (
	hostWord    = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?(\.[a-zA-Z0-9]([a-zA-Z0-9-]*[a-zA-Z0-9])?)*(:[0-9]{1,5})?$`)
	pathWord    = regexp.MustCompile(`^[a-z0-9]+((\.|__?|-+)[a-z0-9]+)*$`)
	tagWord     = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}$`)
	sumWord     = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	idWord      = regexp.MustCompile(`^[0-9a-f]{64}$`)
	networkWord = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}$`)
	signalWord  = regexp.MustCompile(`^[A-Z0-9+-]{1,20}$`)
	hostnames   = regexp.MustCompile(`^[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$`)
)

// reference names an image as Docker does: HOST/PATH:TAG, where what is left out is
// docker.io, library and latest; with @sha256:… of that content only. An image can
// also be called by its own sum alone.
type reference struct {
	host, path, tag string
	sum             string
}

const (
	hub       = "docker.io"
	library   = "library/"
	latest    = "latest"
	maxRef    = 255
	untagged  = "<none>"
	sumPrefix = "sha256:"
)

// parseReference reads a name that somebody typed.
func parseReference(text string) (reference, error) {
	bad := &mistify.NameError{What: "container image's id", Given: text, Want: "HOST/PATH:TAG as Docker has it, such as busybox:1.36 or registry.example.org/team/web@sha256:..., the path in lower case"}
	if text == "" || len(text) > maxRef {
		return reference{}, bad
	}
	if sumWord.MatchString(text) {
		return reference{sum: text}, nil
	}
	var r reference
	rest := text
	if before, sum, ok := strings.Cut(rest, "@"); ok {
		if !sumWord.MatchString(sum) {
			return reference{}, bad
		}
		rest, r.sum = before, sum
	}
	if at := strings.LastIndexByte(rest, ':'); at >= 0 && !strings.Contains(rest[at:], "/") {
		rest, r.tag = rest[:at], rest[at+1:]
		if !tagWord.MatchString(r.tag) {
			return reference{}, bad
		}
	}
	r.host, r.path = hub, rest
	if first, others, ok := strings.Cut(rest, "/"); ok && (strings.ContainsAny(first, ".:") || first == "localhost" || first != strings.ToLower(first)) {
		r.host, r.path = first, others
	}
	if !hostWord.MatchString(r.host) {
		return reference{}, bad
	}
	for part := range strings.SplitSeq(r.path, "/") {
		if !pathWord.MatchString(part) {
			return reference{}, bad
		}
	}
	if r.host == "index.docker.io" {
		r.host = hub
	}
	if r.host == hub && !strings.Contains(r.path, "/") {
		if idWord.MatchString(r.path) {
			return reference{}, bad // Docker would take it for a sum
		}
		r.path = library + r.path
	}
	if r.tag == "" && r.sum == "" {
		r.tag = latest
	}
	return r, nil
}

// named reports whether r is more than a sum.
func (r reference) named() bool { return r.path != "" }

// String is the one way to write it, which dockerd understands.
func (r reference) String() string {
	if !r.named() {
		return r.sum
	}
	text := r.host + "/" + r.path
	if r.tag != "" {
		text += ":" + r.tag
	}
	if r.sum != "" {
		text += "@" + r.sum
	}
	return text
}

// checkNetwork checks the name of one of dockerd's networks. Those that are none
// would give a guest what is the host's, or another container's.
func checkNetwork(name string) error {
	switch {
	case !networkWord.MatchString(name):
		return &mistify.NameError{What: "network's name", Given: name, Want: "1 to 128 letters, digits, -, _ and dots, a letter or digit first"}
	case name == "host" || name == "none":
		return &mistify.NameError{What: "network's name", Given: name, Want: "one of `docker network ls` that is not the host's own"}
	}
	return nil
}

// address reads an address, the zero one if there is none.
func address(text string) (netip.Addr, error) {
	if text == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, &mistify.NameError{What: "address", Given: text, Want: "an IP address such as 10.0.0.7"}
	}
	return a, nil
}

// stateFrom is what a state of dockerd is in our words.
func stateFrom(state string) virt.State {
	switch state {
	case "running", "restarting":
		return virt.Running
	case "paused":
		return virt.Paused
	case "created", "exited":
		return virt.Stopped
	case "dead", "removing":
		return virt.Crashed
	}
	return virt.Unknown
}

// stateName is what a state is called on the wire.
func stateName(s virt.State) string {
	if s == virt.Stopped {
		return "shutoff"
	}
	return string(s)
}
