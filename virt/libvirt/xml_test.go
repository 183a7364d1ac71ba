package libvirt

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"libvirt.org/go/libvirtxml"

	"github.com/vagoth/vagoth/virt"
)

var update = flag.Bool("update", false, "write the golden files anew")

func guestOf(id string, d virt.Definition) virt.Guest {
	d = virt.Filled(id, d)
	return virt.Guest{ID: id, UUID: d.UUID, Name: id, Tenant: "shop", Definition: d}
}

// everything has every field set that a domain is made of.
func everything() virt.Guest {
	return guestOf("web1", virt.Definition{
		CPU: 2, Memory: 512, CDROM: "/srv/iso/debian.iso", CloudInit: virt.CloudInit{UserData: "hush", Disk: "/srv/iso/web1.iso"},
		Disks: []virt.Disk{{Size: 100}, {Size: 50, Bus: "scsi", Format: "raw"}, {Source: "/srv/given.img", Bus: "sata"}, {Size: 10, Bus: "ide", Volume: "own"}},
		NICs: []virt.NIC{
			{Type: "network", Network: "default", VLANs: []int{7}},
			{Type: "bridge", Network: "br0", Model: "e1000", Device: "tap0", VLANs: []int{7, 8}},
			{Type: "user"},
			{Type: "user", Model: "rtl8139", Forward: []virt.Forward{{Port: 2222, To: 22}, {Protocol: "udp", Address: "0.0.0.0", Port: 53, To: 53}}},
		},
		Boot: virt.Boot{
			Kernel: "/boot/vmlinuz & more", Initrd: "/boot/<initrd>", Cmdline: `console=ttyS0 x="a&b" </cmdline><disk`, Firmware: "uefi", Order: "cdrom",
		},
		Console:   virt.Console{Serial: "file", Log: "/var/log/web1.log", VNC: true},
		Placement: virt.Placement{Require: []string{"ssd"}},
	})
}

func TestDomainXML(t *testing.T) {
	for name, c := range map[string]struct {
		guest virt.Guest
		host  host
	}{
		"everything": {everything(), host{hypervisor: "kvm", arch: "x86_64", cdromBus: "sata", pciBus: "pcie.0", disks: "/var/lib/vagoth/disks"}},
		"least":      {guestOf("least", virt.Definition{CPU: 1, Memory: 64}), host{hypervisor: "qemu", arch: "x86_64", cdromBus: "ide", pciBus: "pci.0"}},
	} {
		t.Run(name, func(t *testing.T) {
			if err := checkGuest(c.guest); err != nil {
				t.Fatal(err)
			}
			got, err := domainXML(c.guest, c.guest.Name, c.host)
			if err != nil {
				t.Fatal(err)
			}
			golden := filepath.Join("testdata", name+".xml")
			if *update {
				if err := os.WriteFile(golden, []byte(got+"\n"), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if got+"\n" != string(want) {
				t.Errorf("the domain is not what %s says (write it anew with -update):\n%s", golden, got)
			}
			roundTrip(t, c.guest, got)
		})
	}
}

// roundTrip reads a domain back and holds it against the guest: what was meant
// as text is text, and there is nothing in it that the guest does not have.
func roundTrip(t *testing.T, g virt.Guest, text string) {
	t.Helper()
	var dom libvirtxml.Domain
	if err := dom.Unmarshal(text); err != nil {
		t.Fatalf("the domain cannot be read: %v\n%s", err, text)
	}
	d := g.Definition
	disks := len(d.Disks)
	for _, file := range []string{d.CDROM, d.CloudInit.Disk} {
		if file != "" {
			disks++
		}
	}
	if strings.Contains(text, "hush") {
		t.Error("the domain tells what cloud-init is told")
	}
	nics := 0
	for _, n := range d.NICs {
		if !hasForward(n) {
			nics++
		}
	}
	switch {
	case dom.Name != g.Name, dom.UUID != g.UUID, dom.OS.Kernel != d.Boot.Kernel, dom.OS.Initrd != d.Boot.Initrd, dom.OS.Cmdline != d.Boot.Cmdline,
		len(dom.Devices.Disks) != disks, len(dom.Devices.Interfaces) != nics, dom.Memory.Value != uint(d.Memory), dom.VCPU.Value != uint(d.CPU),
		len(dom.Devices.Hostdevs)+len(dom.Devices.Filesystems)+len(dom.Devices.Channels)+len(dom.Devices.RedirDevs) != 0, dom.Devices.Emulator != "":
		t.Errorf("the domain is another than the guest %+v:\n%s", g, text)
	}
	forwards := 0
	if dom.QEMUCommandline != nil {
		forwards = len(dom.QEMUCommandline.Args)
	}
	if want := 4 * (len(d.NICs) - nics); forwards != want {
		t.Errorf("%d arguments for QEMU, want %d:\n%s", forwards, want, text)
	}
	is, err := parseDomain(text)
	if err != nil || is.Metadata.Mark == nil || is.Metadata.Mark.Node != g.ID {
		t.Errorf("the mark reads as %+v (%v)", is.Metadata.Mark, err)
	}
	again, err := dom.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	var twice libvirtxml.Domain
	if err := twice.Unmarshal(again); err != nil || !reflect.DeepEqual(dom, twice) {
		t.Errorf("written again it is another domain (%v):\n%s\n%s", err, text, again)
	}
}

// injections is what people try to get past a text field.
func injections() []string {
	return []string{
		`"/><disk type='block'><source dev='/dev/sda'/></disk><x a="`, `</name><devices><hostdev/></devices>`, "]]><disk/>", "<!--", "&lt;disk&gt;", "&#60;disk&#62;",
		"a\x00b", "a\nb", "a\rb", "\x1b[31m", "a\u202eb", "\xff", "\ufffe", "-netdev", "x,hostfwd=tcp::22-:22", "a,b=c", "../../etc/passwd", strings.Repeat("a", 10<<10),
		"]]>", "%s%n", "'", "`", "a b",
	}
}

// Every text of a guest, one after the other, is replaced by something hostile:
// either it is refused, or it is text and nothing but text.
func TestInjection(t *testing.T) {
	h := host{hypervisor: "qemu", arch: "x86_64", cdromBus: "ide", pciBus: "pci.0", disks: "/disks"}
	fields := texts(reflect.ValueOf(new(everything())).Elem(), "")
	if len(fields) < 40 {
		t.Fatalf("only %d fields are tried: %q", len(fields), fields)
	}
	refused := 0
	for i, field := range fields {
		for _, bad := range append(injections(), "/"+`"/><disk`) {
			g := everything()
			g.Definition.Disks, g.Definition.NICs = slices.Clone(g.Definition.Disks), slices.Clone(g.Definition.NICs)
			setText(reflect.ValueOf(&g).Elem(), i, bad)
			if err := checkGuest(g); err != nil {
				if !errors.Is(err, virt.ErrInvalid) && !errors.Is(err, virt.ErrUnsupported) || len(err.Error()) > 1000 {
					t.Errorf("%s = %.40q: got error %v", field, bad, err)
				}
				refused++
				continue
			}
			text, err := domainXML(g, g.Name, h)
			if err != nil {
				t.Errorf("%s = %.40q is neither refused nor written: %v", field, bad, err)
				continue
			}
			roundTrip(t, g, text)
		}
	}
	if refused < len(fields)*10 {
		t.Errorf("only %d of %d hostile texts are refused", refused, len(fields)*len(injections()))
	}
}

// texts lists the string fields of a value.
func texts(v reflect.Value, at string) []string {
	var all []string
	walk(v, at, func(path string, _ reflect.Value) { all = append(all, path) })
	return all
}

func setText(v reflect.Value, n int, s string) {
	walk(v, "", func(_ string, f reflect.Value) {
		if n == 0 {
			f.SetString(s)
		}
		n--
	})
}

func walk(v reflect.Value, at string, f func(string, reflect.Value)) {
	switch v.Kind() {
	case reflect.String:
		f(at, v)
	case reflect.Struct:
		for i := range v.NumField() {
			walk(v.Field(i), at+"."+v.Type().Field(i).Name, f)
		}
	case reflect.Slice:
		for i := range v.Len() {
			walk(v.Index(i), at+"[]", f)
		}
	}
}

func TestHashIsOfTheDefinition(t *testing.T) {
	sum := func(change func(*virt.Guest)) string {
		t.Helper()
		g := everything()
		change(&g)
		s, err := hash(g)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	same := sum(func(*virt.Guest) {})
	if sum(func(g *virt.Guest) { g.Definition.Placement = virt.Placement{}; g.Name = "other" }) != same {
		t.Error("where a guest is placed and what it is called changes its definition")
	}
	for name, change := range map[string]func(*virt.Guest){
		"cpu":     func(g *virt.Guest) { g.Definition.CPU++ },
		"disk":    func(g *virt.Guest) { g.Definition.Disks = g.Definition.Disks[1:] },
		"nic":     func(g *virt.Guest) { g.Definition.NICs = g.Definition.NICs[1:] },
		"console": func(g *virt.Guest) { g.Definition.Console.VNC = false },
		"boot":    func(g *virt.Guest) { g.Definition.Boot.Cmdline += "x" },
	} {
		if sum(change) == same {
			t.Errorf("another %s is the same definition", name)
		}
	}
}

// What is refused is refused with a reason that names it, before a host is
// asked.
func TestCheckGuest(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*virt.Guest)
		want   error
		says   string
	}{
		"container":    {func(g *virt.Guest) { g.Definition.Type = "container" }, virt.ErrUnsupported, "container"},
		"image":        {func(g *virt.Guest) { g.Definition.Image = "debian" }, virt.ErrUnsupported, "image"},
		"disk image":   {func(g *virt.Guest) { g.Definition.Disks[0].Image = "debian" }, virt.ErrUnsupported, "image"},
		"no CPU":       {func(g *virt.Guest) { g.Definition.CPU = 0 }, virt.ErrInvalid, "CPU"},
		"no memory":    {func(g *virt.Guest) { g.Definition.Memory = -1 }, virt.ErrInvalid, "memory"},
		"other UUID":   {func(g *virt.Guest) { g.Definition.UUID = "5b0f8a5e-1d0c-5c59-9a5e-8f2f3a6f4c11" }, virt.ErrInvalid, "UUID"},
		"twin devices": {func(g *virt.Guest) { g.Definition.Disks[1] = g.Definition.Disks[0] }, virt.ErrInvalid, "vda"},
		"device":       {func(g *virt.Guest) { g.Definition.Disks[0].Device = "sda" }, virt.ErrInvalid, "vda"},
		"no size":      {func(g *virt.Guest) { g.Definition.Disks[0].Size = 0 }, virt.ErrInvalid, "size"},
		"format":       {func(g *virt.Guest) { g.Definition.Disks[0].Format = "vmdk" }, virt.ErrInvalid, "vmdk"},
		"source":       {func(g *virt.Guest) { g.Definition.Disks[2].Source = "/srv/../etc/shadow" }, virt.ErrInvalid, "path"},
		"MAC":          {func(g *virt.Guest) { g.Definition.NICs[0].MAC = "01:00:5e:00:00:01" }, virt.ErrInvalid, "MAC"},
		"model":        {func(g *virt.Guest) { g.Definition.NICs[0].Model = "ne2k" }, virt.ErrInvalid, "ne2k"},
		"VLAN":         {func(g *virt.Guest) { g.Definition.NICs[0].VLANs = []int{4095} }, virt.ErrInvalid, "4095"},
		"VLAN of user": {func(g *virt.Guest) { g.Definition.NICs[2].VLANs = []int{1} }, virt.ErrUnsupported, "VLAN"},
		"bridge":       {func(g *virt.Guest) { g.Definition.NICs[1].Network = strings.Repeat("b", 16) }, virt.ErrInvalid, "bridge"},
		"forward":      {func(g *virt.Guest) { g.Definition.NICs[0].Forward = g.Definition.NICs[3].Forward }, virt.ErrInvalid, "user-mode"},
		"forward to IPv6": {func(g *virt.Guest) {
			g.Definition.NICs[3].Forward = []virt.Forward{{Protocol: "tcp", Address: "::1", Port: 1, To: 1}}
		}, virt.ErrUnsupported, "IPv4"},
		"forward to a name": {func(g *virt.Guest) {
			g.Definition.NICs[3].Forward = []virt.Forward{{Protocol: "tcp", Address: "localhost", Port: 1, To: 1}}
		}, virt.ErrInvalid, "localhost"},
		"forward port": {func(g *virt.Guest) {
			g.Definition.NICs[3].Forward = []virt.Forward{{Protocol: "tcp", Address: "127.0.0.1", Port: 65536, To: 1}}
		}, virt.ErrInvalid, "65536"},
		"serial":       {func(g *virt.Guest) { g.Definition.Console.Log = "" }, virt.ErrInvalid, "console"},
		"initrd alone": {func(g *virt.Guest) { g.Definition.Boot.Kernel = "" }, virt.ErrInvalid, "kernel"},
	} {
		g := everything()
		c.change(&g)
		if err := checkGuest(g); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) || !strings.Contains(err.Error(), `"web1"`) {
			t.Errorf("%s: got error %v, want %v that names %s", name, err, c.want, c.says)
		}
	}
}

// What the host's capabilities do not have is refused at define.
func TestFits(t *testing.T) {
	caps := func(text string) (c libvirtxml.DomainCaps) {
		if err := xml.Unmarshal([]byte("<domainCapabilities>"+text+"</domainCapabilities>"), &c); err != nil {
			t.Fatal(err)
		}
		return c
	}
	plain := `<vcpu max='255'/><os><enum name='firmware'/></os><devices><disk supported='yes'><enum name='bus'><value>virtio</value><value>scsi</value>
		<value>sata</value></enum></disk><graphics supported='yes'><enum name='type'><value>sdl</value></enum></graphics></devices>`
	for name, c := range map[string]struct {
		d    virt.Definition
		says string
	}{
		"cpus":     {virt.Definition{CPU: 256, Memory: 1}, "256 CPUs"},
		"ide":      {virt.Definition{CPU: 1, Memory: 1, Disks: []virt.Disk{{Bus: "ide", Size: 1}}}, "ide"},
		"vnc":      {virt.Definition{CPU: 1, Memory: 1, Console: virt.Console{VNC: true}}, "VNC"},
		"uefi":     {virt.Definition{CPU: 1, Memory: 1, Boot: virt.Boot{Firmware: "uefi"}}, "UEFI"},
		"forwards": {virt.Definition{CPU: 1, Memory: 1, Disks: make([]virt.Disk, maxDisks+1), NICs: []virt.NIC{{Forward: make([]virt.Forward, 1)}}}, "port forwards"},
	} {
		h := host{}
		err := h.fits(caps(plain), guestOf(name, c.d))
		if !errors.Is(err, virt.ErrUnsupported) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: got error %v, want it unsupported and named %q", name, err, c.says)
		}
	}
	h := host{}
	if err := h.fits(caps(plain), guestOf("ok", virt.Definition{CPU: 255, Memory: 1, Disks: []virt.Disk{{Size: 1}}})); err != nil || h.cdromBus != "sata" {
		t.Errorf("a guest that fits: %v, its cdrom is on %s", err, h.cdromBus)
	}
	if err := (&host{}).fits(libvirtxml.DomainCaps{}, guestOf("ok", virt.Definition{CPU: 1, Memory: 1, Console: virt.Console{VNC: true}})); err != nil {
		t.Errorf("a host that says nothing of itself: %v", err)
	}
	model := func(name, usable string) string {
		return "<cpu><mode name='custom' supported='yes'><model usable='" + usable + "'>" + name + "</model></mode></cpu>"
	}
	if runsPlainCPU(caps(model("qemu64", "no"))) || !runsPlainCPU(caps(model("qemu64", "yes"))) || !runsPlainCPU(caps(model("cortex-a57", "no"))) || !runsPlainCPU(caps("")) {
		t.Error("a KVM that runs no plain CPU is taken for one that does, or the other way around")
	}
}

// Any definition that is accepted gives a domain that says the same.
func FuzzDomainXML(f *testing.F) {
	for _, g := range []virt.Guest{everything(), guestOf("least", virt.Definition{CPU: 1, Memory: 64})} {
		text, err := json.Marshal(g.Definition)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(g.ID, text)
	}
	f.Add("-o", []byte(`{"cpu":1,"memory":1,"boot":{"kernel":"/k","cmdline":"\u0000\ud800"}}`))
	f.Fuzz(func(t *testing.T, id string, definition []byte) {
		var d virt.Definition
		if json.Unmarshal(definition, &d) != nil {
			return
		}
		g := guestOf(id, d)
		if checkGuest(g) != nil {
			return
		}
		text, err := domainXML(g, g.Name, host{hypervisor: "qemu", arch: "x86_64", cdromBus: "ide", pciBus: "pci.0", disks: "/disks"})
		if err != nil {
			t.Fatal(err)
		}
		roundTrip(t, g, text)
	})
}

// Whatever a host sends for a domain, reading it ends.
func FuzzParseDomain(f *testing.F) {
	text, err := domainXML(everything(), "web1", host{hypervisor: "qemu", disks: "/disks"})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add(strings.Repeat("<domain>", 1000))
	f.Fuzz(func(_ *testing.T, text string) {
		if is, err := parseDomain(text); err == nil {
			var info virt.Info
			describe(&info, is)
		}
	})
}

// Whatever a peer sends, a reply that passes is one that go-libvirt can decode.
func FuzzReply(f *testing.F) {
	f.Add(uint32(procConnectGetAllDomainStats), append(words(1), domainRecord(1)...))
	f.Add(uint32(procDomainGetXMLDesc), text("<domain/>"))
	f.Add(uint32(procDomainGetJobStats), append(words(2, 1), append(text("operation"), words(1, 5)...)...))
	f.Add(uint32(procAuthList), words(1, 0))
	f.Fuzz(func(t *testing.T, procedure uint32, payload []byte) {
		l := limits{domains: 100}
		want, known := l.reply(procedure % 400)
		if !known {
			return
		}
		r := &reader{b: payload, limits: l}
		want.check(r)
		_ = r.end()
		if len(r.b) > len(payload) {
			t.Error("it reads more than there is")
		}
		if clean, err := cleanError(payload); err == nil && len(clean) > maxMessage+24 {
			t.Errorf("an error of %d bytes", len(clean))
		}
	})
}
