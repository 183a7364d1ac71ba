package cloudinit_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vagoth/vagoth/internal/testlong"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/cloudinit"
)

func guest(c virt.CloudInit, nics ...virt.NIC) virt.Guest {
	d := virt.Filled("web1", virt.Definition{CPU: 1, Memory: 64, NICs: nics, CloudInit: c})
	return virt.Guest{ID: "web1", Name: "web1", UUID: d.UUID, Definition: d}
}

// isoinfo reads a disk back with the real program.
func isoinfo(t *testing.T, iso []byte, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath("isoinfo"); err != nil {
		testlong.Missing(t, "isoinfo is not installed: apt-get install genisoimage")
	}
	name := filepath.Join(t.TempDir(), "x.iso")
	if err := os.WriteFile(name, iso, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command("isoinfo", append([]string{"-i", name}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%q: %v: %s", args, err, out)
	}
	return string(out)
}

func disk(t *testing.T, g virt.Guest) []byte {
	t.Helper()
	iso, err := cloudinit.Disk(g)
	if err != nil || len(iso) == 0 {
		t.Fatalf("%d bytes, %v", len(iso), err)
	}
	return iso
}

func TestDisk(t *testing.T) {
	user := "#cloud-config\nssh_pwauth: false\n" + strings.Repeat("# long\n", 5000)
	g := guest(virt.CloudInit{UserData: user},
		virt.NIC{Network: "lan", MAC: "52:54:00:00:00:01", Address: "10.0.0.5", Netmask: "255.255.255.0", Gateway: "10.0.0.1"},
		virt.NIC{Network: "lan", MAC: "52:54:00:00:00:02"},
		virt.NIC{Network: "lan", MAC: "52:54:00:00:00:03", Address: "2001:db8::5", Netmask: "ffff:ffff:ffff:ffff::", Gateway: "2001:db8::1"},
		virt.NIC{Network: "lan", MAC: "52:54:00:00:00:04", Address: "192.0.2.7", Gateway: "198.51.100.1"},
	)
	iso := disk(t, g)
	if !bytes.Equal(iso, disk(t, g)) {
		t.Error("the same guest gives another disk")
	}
	if d := isoinfo(t, iso, "-d"); !strings.Contains(d, "Volume id: cidata\n") || !strings.Contains(d, "Rock Ridge signatures version 1 found") || !strings.Contains(d, "Joliet with UCS level 3 found") {
		t.Errorf("isoinfo says %s", d)
	}
	for _, names := range []string{"-R", "-J"} {
		if got := strings.Fields(isoinfo(t, iso, names, "-f")); strings.Join(got, " ") != "/meta-data /network-config /user-data" {
			t.Errorf("%s: the files are %q", names, got)
		}
		if got := isoinfo(t, iso, names, "-x", "/user-data"); got != user {
			t.Errorf("%s: user-data has %d bytes, want %d", names, len(got), len(user))
		}
		want := map[string]any{"instance-id": g.UUID, "local-hostname": "web1"}
		same(t, isoinfo(t, iso, names, "-x", "/meta-data"), want)
	}
	same(t, isoinfo(t, iso, "-R", "-x", "/network-config"), map[string]any{"version": 2, "ethernets": map[string]any{
		"nic0": map[string]any{
			"match": map[string]any{"macaddress": "52:54:00:00:00:01"}, "addresses": []any{"10.0.0.5/24"},
			"routes": []any{map[string]any{"to": "0.0.0.0/0", "via": "10.0.0.1"}},
		},
		"nic1": map[string]any{"match": map[string]any{"macaddress": "52:54:00:00:00:02"}, "dhcp4": true},
		"nic2": map[string]any{
			"match": map[string]any{"macaddress": "52:54:00:00:00:03"}, "addresses": []any{"2001:db8::5/64"},
			"routes": []any{map[string]any{"to": "::/0", "via": "2001:db8::1"}},
		},
		"nic3": map[string]any{
			"match": map[string]any{"macaddress": "52:54:00:00:00:04"}, "addresses": []any{"192.0.2.7/32"},
			"routes": []any{map[string]any{"to": "0.0.0.0/0", "via": "198.51.100.1", "on-link": true}},
		},
	}})
}

// same compares a file, which is JSON and so YAML, with what it should say.
func same(t *testing.T, text string, want map[string]any) {
	t.Helper()
	wanted, err := json.Marshal(want)
	if err != nil {
		t.Fatal(err)
	}
	var a, b any
	if err := errors.Join(json.Unmarshal([]byte(text), &a), json.Unmarshal(wanted, &b)); err != nil {
		t.Fatal(err)
	}
	x, _ := json.Marshal(a)
	y, _ := json.Marshal(b)
	if !bytes.Equal(x, y) {
		t.Errorf("it says %s, want %s", x, y)
	}
}

func TestGivenAndNone(t *testing.T) {
	for name, d := range map[string]virt.CloudInit{"none": {}, "one of its own": {Disk: "/x.iso"}} {
		if iso, err := cloudinit.Disk(guest(d)); iso != nil || err != nil {
			t.Errorf("%s: %d bytes, %v", name, len(iso), err)
		}
	}
	iso := disk(t, guest(virt.CloudInit{MetaData: "instance-id: mine\n", NetworkConfig: "version: 1\n"}, virt.NIC{Address: "10.0.0.5"}))
	for file, want := range map[string]string{"/meta-data": "instance-id: mine\n", "/network-config": "version: 1\n", "/user-data": ""} {
		if got := isoinfo(t, iso, "-R", "-x", file); got != want {
			t.Errorf("%s is %q", file, got)
		}
	}
	if got := isoinfo(t, disk(t, guest(virt.CloudInit{UserData: "x"}, virt.NIC{})), "-R", "-f"); strings.Contains(got, "network") {
		t.Errorf("there is a network configuration where no NIC has an address: %s", got)
	}
}

// What is too large or no network is refused, and no error tells what is in it.
func TestRefused(t *testing.T) {
	for name, g := range map[string]virt.Guest{
		"large":   guest(virt.CloudInit{UserData: strings.Repeat("hush", 1<<17)}),
		"address": guest(virt.CloudInit{UserData: "hush"}, virt.NIC{Address: "10.0.0"}),
		"mask":    guest(virt.CloudInit{UserData: "hush"}, virt.NIC{Address: "10.0.0.1", Netmask: "255.0.255.0"}),
		"gateway": guest(virt.CloudInit{UserData: "hush"}, virt.NIC{Address: "10.0.0.1", Gateway: "::1"}),
	} {
		_, err := cloudinit.Disk(g)
		if !errors.Is(err, virt.ErrInvalid) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v", name, err)
		}
	}
}
