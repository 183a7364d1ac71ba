package mistify

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/vagoth/vagoth/virt"
)

// The bounds of what is read.
const (
	MaxBody   = 1 << 20  // bytes of a request
	MaxAnswer = 16 << 20 // bytes of an answer that is not a stream
	MaxGuest  = 1 << 20  // bytes of a guest
)

// ErrTooLarge is a body that is longer than its bound.
var ErrTooLarge = errors.New("too large")

// ReadBody reads all of r, at most limit bytes.
func ReadBody(r io.Reader, limit int64) ([]byte, error) {
	data, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%w: more than %d bytes", ErrTooLarge, limit)
	}
	return data, nil
}

// Decode reads one JSON value, and nothing after it, into out. Members that
// nobody knows are dropped. Its errors are a virt.ErrInvalid and say where.
func Decode(data []byte, out any) error {
	if json.Unmarshal(data, out) == nil {
		return nil
	}
	return decodeSlowly(data, out) // says better what is wrong
}

func decodeSlowly(data []byte, out any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	if err := dec.Decode(out); err != nil {
		return jsonError(data, err)
	}
	if rest := bytes.TrimLeft(data[dec.InputOffset():], " \t\r\n"); len(rest) > 0 {
		return fmt.Errorf("%w JSON: %q stands after its end, at byte %d", virt.ErrInvalid, clip(rest), len(data)-len(rest))
	}
	return nil
}

func jsonError(data []byte, err error) error {
	var kind *json.UnmarshalTypeError
	var syntax *json.SyntaxError
	switch {
	case errors.As(err, &kind):
		where := kind.Field
		if where == "" {
			where = "the whole"
		}
		return fmt.Errorf("%w JSON: %.100s cannot be a %s, at byte %d", virt.ErrInvalid, where, kind.Value, kind.Offset)
	case errors.As(err, &syntax):
		return fmt.Errorf("%w JSON: %w, at byte %d", virt.ErrInvalid, syntax, syntax.Offset)
	case len(bytes.TrimSpace(data)) == 0:
		return fmt.Errorf("%w JSON: there is nothing", virt.ErrInvalid)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("%w JSON: it breaks off after %d bytes", virt.ErrInvalid, len(data))
	}
	return fmt.Errorf("%w JSON: %w", virt.ErrInvalid, err)
}

// clip returns the beginning of what somebody sent, to show it.
func clip(data []byte) string {
	const most = 80
	if len(data) <= most {
		return string(data)
	}
	return string(data[:most]) + "..."
}

// The bounds of a guest.
const (
	MaxDisks = 64
	MaxNICs  = 64
	maxText  = 1024
	maxVLANs = 4094
	maxPorts = 256
)

// Validate checks a guest that a client or a sub-agent gave: its id and type,
// and that it is bounded. What its parts mean is for the sub-agents to check.
func (g *Guest) Validate() error {
	id, err := ParseGuestID(g.ID)
	if err != nil {
		return err
	}
	if err := CheckType(g.Type); err != nil {
		return err
	}
	v := checker{guest: id}
	v.count("disks", len(g.Disks), MaxDisks)
	v.count("nics", len(g.NICs), MaxNICs)
	v.text("name", g.Name)
	v.text("image", g.Image)
	v.text("state", g.State)
	v.text("cdrom", g.CDROM)
	v.text("boot", g.Boot.Kernel, g.Boot.Initrd, g.Boot.Firmware, g.Boot.Order)
	v.long("boot.cmdline", g.Boot.Cmdline)
	v.text("cloud_init.disk", g.CloudInit.Disk)
	v.size("cloud_init.user_data", g.CloudInit.UserData, 64<<10)
	v.size("cloud_init.meta_data", g.CloudInit.MetaData, 16<<10)
	v.size("cloud_init.network_config", g.CloudInit.NetworkConfig, 16<<10)
	v.text("console", g.Console.Serial, g.Console.Log)
	if g.VNC < -1 || g.VNC > 65535 {
		v.fail("vnc", fmt.Sprintf("%d is no port", g.VNC))
	}
	for i, d := range g.Disks {
		v.text(fmt.Sprintf("disks[%d]", i), d.Bus, d.Device, d.Volume, d.Image, d.Source, d.Format)
	}
	for i, n := range g.NICs {
		where := fmt.Sprintf("nics[%d]", i)
		v.text(where, n.Name, n.Network, n.Model, n.MAC, n.Address, n.Netmask, n.Gateway, n.Device, n.Type)
		v.count(where+".vlans", len(n.VLANs), maxVLANs)
		v.count(where+".forward", len(n.Forward), maxPorts)
		for _, f := range n.Forward {
			v.text(where+".forward", f.Protocol, f.Address)
		}
	}
	if v.err == nil {
		v.err = CheckMetadata(g.Metadata)
	}
	return v.err
}

// checker keeps the first thing that is wrong with a guest.
type checker struct {
	guest string
	err   error
}

func (v *checker) fail(field, reason string) {
	if v.err == nil {
		v.err = fmt.Errorf("%w guest %s: %s: %s", virt.ErrInvalid, v.guest, field, reason)
	}
}

func (v *checker) count(field string, n, most int) {
	if n > most {
		v.fail(field, fmt.Sprintf("%d are too many, at most %d are allowed", n, most))
	}
}

func (v *checker) text(field string, texts ...string) { v.bounded(field, maxText, texts) }

func (v *checker) long(field, text string) { v.bounded(field, 4*maxText, []string{text}) }

// size bounds a text of many lines, of which nothing is said.
func (v *checker) size(field, text string, most int) {
	if len(text) > most {
		v.fail(field, fmt.Sprintf("it has %d bytes, at most %d are allowed", len(text), most))
	}
}

func (v *checker) bounded(field string, most int, texts []string) {
	for _, t := range texts {
		switch {
		case len(t) > most:
			v.fail(field, fmt.Sprintf("a text of %d bytes is too long, at most %d are allowed", len(t), most))
		case !utf8.ValidString(t) || strings.ContainsFunc(t, unicode.IsControl):
			v.fail(field, fmt.Sprintf("%.80q has control characters or is not UTF-8", t))
		}
	}
}

// printable makes one line of a text that somebody sent.
func printable(text string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "?"))
}
