package libvirt_test

import (
	"os"
	"strings"
	"testing"

	"github.com/vagoth/vagoth/test/testbed"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/cloudinit"
)

// A guest finds what cloud-init is told on a disk with the label cidata, and reads
// every line of it.
func TestRealCloudInit(t *testing.T) {
	r := openReal(t)
	seed := r.daemon.File("web1.iso")
	g := r.guest("web1", func(d *virt.Definition) {
		d.NICs = []virt.NIC{{Type: "user", MAC: "52:54:00:12:34:56", Address: "10.0.2.15", Netmask: "255.255.255.0", Gateway: "10.0.2.2"}}
		d.CloudInit = virt.CloudInit{UserData: "#cloud-config\nhostname: told\n", Disk: seed}
		d.Boot.Cmdline += " vagoth.cidata=1"
	})
	unmade := g
	unmade.Definition.CloudInit.Disk = ""
	iso, err := cloudinit.Disk(unmade)
	r.must("make the disk", err)
	r.must("write it", os.WriteFile(seed, iso, 0o644)) // any user of QEMU's
	if err := r.driver.Define(t.Context(), r.host, unmade); err == nil || strings.Contains(err.Error(), "told") {
		t.Errorf("a disk that nobody makes: %v", err)
	}
	r.must("define", r.driver.Define(t.Context(), r.host, g))
	r.power(g, virt.PowerStart)
	text := testbed.WaitForText(t, r.log("web1"), testbed.GuestUp, patience)
	for _, want := range []string{
		"cidata label cidata ", "cidata user-data: #cloud-config", "cidata user-data: hostname: told",
		`cidata meta-data: "instance-id": "` + g.UUID + `",`, `cidata meta-data: "local-hostname": "web1"`, `cidata network-config: "10.0.2.15/24"`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the guest did not say %q", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
	r.power(g, virt.PowerStop)
	r.must("undefine", r.driver.Undefine(t.Context(), r.host, g))
}
