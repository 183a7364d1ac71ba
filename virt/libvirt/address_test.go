package libvirt

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/vagoth/vagoth/virt"
)

func TestParseAddress(t *testing.T) {
	for _, c := range []struct {
		text string
		want endpoint
	}{
		{"qemu:///system", endpoint{transport: overUnix, driver: "qemu:///system"}},
		{"qemu+unix:///system", endpoint{transport: overUnix, driver: "qemu:///system"}},
		{"test:///default", endpoint{transport: overUnix, driver: "test:///default"}},
		{"qemu:///system?socket=/run/a/libvirt-sock", endpoint{transport: overUnix, driver: "qemu:///system", socket: "/run/a/libvirt-sock"}},
		{"qemu+unix:///system?socket=/s", endpoint{transport: overUnix, driver: "qemu:///system", socket: "/s"}},
		{"qemu+tls://host1.example.org/system", endpoint{transport: overTLS, driver: "qemu:///system", host: "host1.example.org"}},
		{"qemu+tls://10.0.0.1:16515/system", endpoint{transport: overTLS, driver: "qemu:///system", host: "10.0.0.1", port: "16515"}},
		{"qemu+tls://[fd00::1]:16515/system", endpoint{transport: overTLS, driver: "qemu:///system", host: "fd00::1", port: "16515"}},
		{"qemu+ssh://host1/system", endpoint{transport: overSSH, driver: "qemu:///system", host: "host1"}},
		{"qemu+ssh://root@host1:2222/system?socket=/run/s", endpoint{transport: overSSH, driver: "qemu:///system", host: "host1", port: "2222", user: "root", socket: "/run/s"}},
	} {
		got, err := parseAddress(c.text)
		if err != nil || got != c.want {
			t.Errorf("%s: got %+v, %v, want %+v", c.text, got, err, c.want)
			continue
		}
		if again, err := parseAddress(got.String()); err != nil || again != got {
			t.Errorf("%s is written as %s, which reads as %+v (%v)", c.text, got, again, err)
		}
	}
}

func TestParseAddressRefuses(t *testing.T) {
	for text, want := range map[string]error{
		"":                                   virt.ErrInvalid,
		"qemu":                               virt.ErrInvalid,
		"qemu:":                              virt.ErrInvalid,
		"qemu:/system":                       virt.ErrInvalid,
		"qemu:///session":                    virt.ErrInvalid,
		"qemu:///system/../x":                virt.ErrInvalid,
		"xen:///system":                      virt.ErrInvalid,
		"http://host/system":                 virt.ErrInvalid,
		"qemu://host/system":                 virt.ErrInvalid,
		"qemu+tcp://host/system":             virt.ErrUnsupported,
		"qemu+libssh2://host/system":         virt.ErrInvalid,
		"qemu+ext:///system?command=/bin/sh": virt.ErrInvalid,
		"qemu:///system?command=/bin/sh":     virt.ErrInvalid,
		"qemu:///system?socket=/a&socket=/b": virt.ErrInvalid,
		"qemu:///system?socket=":             virt.ErrInvalid,
		"qemu:///system?socket=a":            virt.ErrInvalid,
		"qemu:///system?socket=/a/../b":      virt.ErrInvalid,
		"qemu:///system?socket=/a;reboot":    virt.ErrInvalid,
		"qemu:///system?socket=/a%20b":       virt.ErrInvalid,
		"qemu:///system?socket=/a%00b":       virt.ErrInvalid,
		"qemu:///system?socket=/" + strings.Repeat("a", 107): virt.ErrInvalid,
		"qemu:///system#x":                                    virt.ErrInvalid,
		"qemu+tls:///system":                                  virt.ErrInvalid,
		"qemu+tls://root@host/system":                         virt.ErrInvalid,
		"qemu+tls://host/system?socket=/s":                    virt.ErrInvalid,
		"qemu+tls://host:0/system":                            virt.ErrInvalid,
		"qemu+tls://host:65536/system":                        virt.ErrInvalid,
		"qemu+tls://host:/system":                             virt.ErrInvalid,
		"qemu+tls://host:016514/system":                       virt.ErrInvalid,
		"qemu+ssh://-oProxyCommand=x/system":                  virt.ErrInvalid,
		"qemu+ssh://-l@host/system":                           virt.ErrInvalid,
		"qemu+ssh://a:secret@host/system":                     virt.ErrInvalid,
		"qemu+ssh://a b@host/system":                          virt.ErrInvalid,
		"qemu+ssh://host..x/system":                           virt.ErrInvalid,
		"qemu+ssh://.host/system":                             virt.ErrInvalid,
		"qemu+ssh://ho%0ast/system":                           virt.ErrInvalid,
		"qemu+ssh://$(reboot)/system":                         virt.ErrInvalid,
		"qemu+ssh://host/system?socket=/$(reboot)":            virt.ErrInvalid,
		"qemu+ssh://[fe80::1%25eth0]/system":                  virt.ErrInvalid,
		"qemu+tls://" + strings.Repeat("a", 300) + "/system":  virt.ErrInvalid,
		"qemu+tls://" + strings.Repeat("a", 3000) + "/system": virt.ErrInvalid,
	} {
		e, err := parseAddress(text)
		if !errors.Is(err, want) {
			t.Errorf("%.60q: got %+v, %v, want %v", text, e, err, want)
		}
		if err != nil && (strings.Contains(err.Error(), "secret") || len(err.Error()) > 500) {
			t.Errorf("%.60q: the error says too much: %v", text, err)
		}
	}
}

func FuzzParseAddress(f *testing.F) {
	for _, s := range []string{"qemu:///system", "qemu+ssh://root@host1:2222/system?socket=/run/s", "qemu+tls://[fd00::1]:16515/system", "test:///default"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		e, err := parseAddress(text)
		if err != nil {
			return
		}
		again, err := parseAddress(e.String())
		if err != nil || again != e {
			t.Errorf("%q reads as %+v, is written as %q, and reads as %+v (%v)", text, e, e.String(), again, err)
		}
		for _, a := range sshArguments(e) {
			if e.transport == overSSH && strings.ContainsAny(a, " \t\n;|&$`'\"\\<>(){}*?#!~\x00") {
				t.Errorf("%q puts %q on ssh's command line", text, a)
			}
		}
	})
}

func TestSSHArguments(t *testing.T) {
	e, err := parseAddress("qemu+ssh://root@host1:2222/system")
	if err != nil {
		t.Fatal(err)
	}
	got := sshArguments(e)
	end := slices.Index(got, "--")
	if end < 0 || !slices.Equal(got[end:], []string{"--", "host1", "virt-ssh-helper", "qemu:///system"}) {
		t.Errorf("ssh is called with %q", got)
	}
	for _, want := range []string{"BatchMode=yes", "2222", "root"} {
		if i := slices.Index(got, want); i < 0 || i > end {
			t.Errorf("ssh is called without %s: %q", want, got)
		}
	}
}

func TestConfigRefuses(t *testing.T) {
	for want, change := range map[string]func(*Config){
		"uri":   func(c *Config) { c.URI = "qemu+tcp://host/system" },
		"disks": func(c *Config) { c.Disks = "../disks" },
		"pool":  func(c *Config) { c.Pool = "a/b" },
	} {
		cfg := Defaults()
		change(&cfg)
		if err := cfg.Validate(); err == nil || !strings.HasPrefix(err.Error(), want+":") {
			t.Errorf("a bad %s: %v", want, err)
		}
	}
	if err := Defaults().Validate(); err != nil {
		t.Errorf("the defaults are refused: %v", err)
	}
}
