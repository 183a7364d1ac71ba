package virt

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/vagoth/vagoth/registry"
)

func doc(t testing.TB, text string) registry.Document {
	t.Helper()
	d, err := registry.ParseDocument([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return d
}

func TestParseDefinitionTakesAll(t *testing.T) {
	d, err := ParseDefinition(doc(t, `{
		"uuid":"6F2B3C4D-0000-4000-8000-000000000001","type":"vm","cpu":2,"memory":512,
		"disks":[{"size":1024},{"bus":"sata","device":"sdb","size":10,"volume":"data-1","format":"raw"},{"source":"/srv/a b & <c>.img"}],
		"nics":[{"type":"user","model":"rtl8139","forward":[{"port":2222,"to":22},{"protocol":"udp","port":2222,"to":53}]},
			{"type":"bridge","network":"br0","mac":"52-54-00-AA-BB-CC","address":"192.0.2.7","netmask":"255.255.255.0","gateway":"192.0.2.1","vlans":[1,2]},
			{"address":"2001:db8::7","netmask":"ffff:ffff:ffff:ffff::"}],
		"boot":{"kernel":"/boot/vmlinuz","initrd":"/boot/initrd","cmdline":"console=ttyS0","firmware":"uefi","order":"cdrom"},
		"cdrom":"/srv/x.iso","console":{"serial":"file","log":"/var/log/x.log","vnc":true},
		"cloud_init":{"user_data":"#cloud-config\n","meta_data":"a: b\n","network_config":"version: 2\n","disk":"/srv/seed.iso"},
		"placement":{"require":["ssd","zone=a"],"apart":["app=web"]}}`))
	if err != nil {
		t.Fatal(err)
	}
	if d.Disks[1].Volume != "data-1" || d.NICs[0].Forward[1].Protocol != "udp" || !d.Console.VNC || d.CloudInit.UserData != "#cloud-config\n" || d.CloudInit.Disk != "/srv/seed.iso" {
		t.Fatalf("decoded %+v", d)
	}
}

func TestParseDefinitionRefuses(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{`{}`, `"cpu" is missing`},
		{`{"memory":1}`, `"cpu" is missing`},
		{`{"cpu":0,"memory":1}`, "cpu: 0 is less than 1"},
		{`{"cpu":1025,"memory":1}`, "cpu: "},
		{`{"cpu":1,"memory":67108865}`, "memory: "},
		{`{"cpu":"1","memory":1}`, "cpu: it is a string and must be an integer"},
		{`{"cpu":1.5,"memory":1}`, "cpu: "},
		{`{"cpu":1,"memroy":1}`, `unknown field "memroy" (did you mean "memory"?)`},
		{`{"cpu":1,"memory":1,"disks":[{"sise":1}]}`, `disks[0]: unknown field "sise" (did you mean "size"?)`},
		{`{"cpu":1,"memory":1,"disks":[{"size":1,"bus":"scsy"}]}`, `disks[0].bus: "scsy" is not one of virtio, scsi`},
		{`{"cpu":1,"memory":1,"disks":[{}]}`, "disks[0].size"},
		{`{"cpu":1,"memory":1,"disks":[{"size":-1}]}`, "disks[0].size"},
		{`{"cpu":1,"memory":1,"disks":[{"size":1,"volume":"../x"}]}`, "disks[0].volume"},
		{`{"cpu":1,"memory":1,"disks":[{"size":1,"volume":"-o"}]}`, "disks[0].volume"},
		{`{"cpu":1,"memory":1,"disks":[{"size":1,"volume":"a"},{"size":1,"volume":"a"}]}`, "disks[1].volume: volume a is used by disks[0].volume too"},
		{`{"cpu":1,"memory":1,"disks":[{"size":1,"device":"vda"},{"size":1,"device":"vda"}]}`, "disks[1].device"},
		{`{"cpu":1,"memory":1,"disks":[{"size":1,"device":"sda"}]}`, "does not fit the bus"},
		{`{"cpu":1,"memory":1,"disks":[{"source":"x.img"}]}`, "not an absolute path"},
		{`{"cpu":1,"memory":1,"disks":[{"source":"/a/../b"}]}`, `write "/b"`},
		{`{"cpu":1,"memory":1,"disks":[{"source":"/a\nb"}]}`, "it holds U+000A"},
		{`{"cpu":1,"memory":1,"disks":[{"source":"/a\u202eb"}]}`, "it holds U+202E"},
		{`{"cpu":1,"memory":1,"disks":[{"source":"/a\u0000b"}]}`, "it holds U+0000"},
		{`{"cpu":1,"memory":1,"disks":[{"source":"/a","volume":"v"}]}`, "neither volume nor image"},
		{`{"cpu":1,"memory":1,"nics":[{"mac":"x"}]}`, "not a MAC address"},
		{`{"cpu":1,"memory":1,"nics":[{"mac":"01:00:00:00:00:01"}]}`, "multicast"},
		{`{"cpu":1,"memory":1,"nics":[{"mac":"52:54:00:00:00:0A"},{"mac":"52-54-00-00-00-0a"}]}`, "nics[1].mac: MAC address 52:54:00:00:00:0a is used by nics[0].mac too"},
		{`{"cpu":1,"memory":1,"nics":[{"address":"192.0.2.0/24"}]}`, "nics[0].address"},
		{`{"cpu":1,"memory":1,"nics":[{"address":"0.0.0.0"}]}`, "no address of a guest"},
		{`{"cpu":1,"memory":1,"nics":[{"address":"192.0.2.1","netmask":"255.0.255.0"}]}`, "nics[0].netmask"},
		{`{"cpu":1,"memory":1,"nics":[{"address":"192.0.2.1","gateway":"::1"}]}`, "nics[0].gateway"},
		{`{"cpu":1,"memory":1,"nics":[{"gateway":"192.0.2.1"}]}`, "without an address"},
		{`{"cpu":1,"memory":1,"nics":[{"forward":[{"port":1,"to":1}]}]}`, `"type": "user"`},
		{`{"cpu":1,"memory":1,"nics":[{"type":"user","model":"rtl8139","forward":[{"port":0,"to":1}]}]}`, "nics[0].forward[0].port"},
		{`{"cpu":1,"memory":1,"nics":[{"type":"user","model":"rtl8139","forward":[{"port":1,"to":1},{"protocol":"tcp","port":1,"to":2}]}]}`, "nics[0].forward[1]"},
		{`{"cpu":1,"memory":1,"nics":[{"type":"user","network":"x"}]}`, "no network"},
		{`{"cpu":1,"memory":1,"nics":[{"type":"bridge"}]}`, "name of the bridge"},
		{`{"cpu":1,"memory":1,"nics":[{"network":"\"/><disk"}]}`, "nics[0].network"},
		{`{"cpu":1,"memory":1,"nics":[{"vlans":[4095]}]}`, "nics[0].vlans[0]"},
		{`{"cpu":1,"memory":1,"boot":{"initrd":"/x"}}`, "boot.initrd: it needs a kernel"},
		{`{"cpu":1,"memory":1,"boot":{"cmdline":"x"}}`, "boot.cmdline: it needs a kernel"},
		{`{"cpu":1,"memory":1,"boot":{"kernel":"/k","cmdline":"a\u0007"}}`, "boot.cmdline"},
		{`{"cpu":1,"memory":1,"boot":{"order":"cdrom"}}`, "boot.order"},
		{`{"cpu":1,"memory":1,"console":{"serial":"file"}}`, "console.log"},
		{`{"cpu":1,"memory":1,"console":{"log":"/x"}}`, "console.log"},
		{`{"cpu":1,"memory":1,"console":{"terminal":true}}`, "console.terminal"},
		{`{"cpu":1,"memory":1,"cdrom":"x"}`, "cdrom"},
		{`{"cpu":1,"memory":1,"uuid":"x"}`, "uuid"},
		{`{"cpu":1,"memory":1,"cloud_init":{"disk":"x"}}`, "cloud_init.disk"},
		{`{"cpu":1,"memory":1,"cloud_init":{"userdata":"x"}}`, "user_data"},
		{`{"cpu":1,"memory":1,"type":"container","cloud_init":{"user_data":"x"}}`, "a container has none"},
		{`{"cpu":1,"memory":1,"placement":{"require":["="]}}`, "placement.require[0]"},
		{`{"cpu":1,"memory":1,"placement":{"require":["a=1","a=2"]}}`, "placement.require[1]"},
		{`{"cpu":1,"memory":1,"disks":[` + strings.Repeat(`{"size":1},`, 64) + `{"size":1}]}`, "disks: it has 65 entries, at most 64"},
	} {
		_, err := ParseDefinition(doc(t, c.in))
		if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.120s:\n got %v\nwant %s", c.in, err, c.want)
		}
	}
}

func TestParseListsEveryProblem(t *testing.T) {
	_, err := ParseDefinition(doc(t, `{"cpu":0,"colour":1,"disks":[{"size":1,"volume":"../x"}],"nics":[{"mac":"y"}],"boot":{"initrd":"z"}}`))
	var de *DefinitionError
	if !errors.As(err, &de) {
		t.Fatal(err)
	}
	for _, want := range []string{"cpu:", `"memory" is missing`, "colour", "disks[0].volume", "nics[0].mac", "boot.initrd"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not among\n%v", want, err)
		}
	}
}

func TestParseHost(t *testing.T) {
	d, err := ParseHost(doc(t, `{"driver":"local","address":"qemu:///system","cpu":8,"memory":16384,"types":["vm"],"cpu_overcommit":4}`))
	if err != nil || d.CPUOvercommit != 4 {
		t.Fatal(d, err)
	}
	for _, c := range []struct{ in, want string }{
		{`{}`, `"driver" is missing`},
		{`{"driver":""}`, "driver"},
		{`{"driver":"a b"}`, "driver"},
		{`{"driver":"a","memory":-1}`, "memory"},
		{`{"driver":"a","cpu_overcommit":-1}`, "cpu_overcommit"},
		{`{"driver":"a","adress":"x"}`, `did you mean "address"?`},
		{`{"driver":"a","address":"x\u0000"}`, "address"},
		{`{"driver":"a","types":["vm","vm"]}`, "types[1]"},
	} {
		if _, err := ParseHost(doc(t, c.in)); !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.in, err, c.want)
		}
	}
}

// TestSchemaAgreesWithTheStruct compares names and JSON types, field by field.
func TestSchemaAgreesWithTheStruct(t *testing.T) {
	for _, c := range []struct {
		schema []byte
		typ    reflect.Type
	}{{Schema(), reflect.TypeFor[Definition]()}, {HostSchema(), reflect.TypeFor[HostDefinition]()}} {
		var root map[string]any
		if err := json.Unmarshal(c.schema, &root); err != nil {
			t.Fatal(err)
		}
		agree(t, root, root, c.typ, c.typ.Name())
	}
}

func agree(t *testing.T, root, s map[string]any, typ reflect.Type, at string) {
	t.Helper()
	if ref, ok := s["$ref"].(string); ok {
		s = root["$defs"].(map[string]any)[strings.TrimPrefix(ref, "#/$defs/")].(map[string]any)
	}
	want := map[reflect.Kind]string{
		reflect.Struct: "object", reflect.Slice: "array", reflect.String: "string", reflect.Bool: "boolean",
		reflect.Int: "integer", reflect.Int64: "integer", reflect.Float64: "number",
	}[typ.Kind()]
	if got := s["type"]; got != want && (s["enum"] == nil || want != "string") {
		t.Errorf("%s: the schema says %v, the struct %s", at, got, want)
	}
	switch typ.Kind() {
	case reflect.Slice:
		if s["maxItems"] == nil {
			t.Errorf("%s: the list has no bound", at)
		}
		agree(t, root, s["items"].(map[string]any), typ.Elem(), at+"[]")
	case reflect.String:
		if s["maxLength"] == nil && s["enum"] == nil && s["pattern"] == nil {
			t.Errorf("%s: the text has no bound", at)
		}
	case reflect.Struct:
		if s["additionalProperties"] != false {
			t.Errorf("%s: the schema takes unknown fields", at)
		}
		props := s["properties"].(map[string]any)
		var names []string
		for f := range fields(typ) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			names = append(names, name)
			if p, ok := props[name].(map[string]any); ok {
				agree(t, root, p, f.Type, at+"."+name)
			}
		}
		slices.Sort(names)
		if known := slices.Sorted(maps.Keys(props)); !slices.Equal(names, known) {
			t.Errorf("%s: the struct has %v, the schema %v", at, names, known)
		}
	}
}

func fields(typ reflect.Type) func(func(reflect.StructField) bool) {
	return func(yield func(reflect.StructField) bool) {
		for i := range typ.NumField() {
			if !yield(typ.Field(i)) {
				return
			}
		}
	}
}

// FuzzParseDefinition: whatever is accepted fills in to something that is
// accepted too, and filling it in again changes nothing.
func FuzzParseDefinition(f *testing.F) {
	f.Add(`{"cpu":1,"memory":1}`)
	f.Add(`{"cpu":1,"memory":1,"disks":[{"size":1},{"source":"/x"}],"nics":[{},{"type":"user","forward":[{"port":1,"to":2}]}]}`)
	f.Add(`{"cpu":1e2,"memory":1,"nics":[{"mac":"52-54-00-00-00-01","address":"::ffff:1.2.3.4"}]}`)
	f.Fuzz(func(t *testing.T, text string) {
		raw, err := registry.ParseDocument([]byte(text))
		if err != nil {
			return
		}
		d, err := ParseDefinition(raw)
		if err != nil {
			if !errors.Is(err, ErrInvalid) || len(err.Error()) > 1<<20 {
				t.Fatalf("refused with %v", err)
			}
			return
		}
		once := Filled("web1", d)
		again, err := registry.NewDocument(once)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseDefinition(again); err != nil {
			t.Fatalf("%s is accepted, filled in as %s it is not: %v", text, again, err)
		}
		if twice := Filled("web1", once); fmt.Sprint(twice) != fmt.Sprint(once) {
			t.Fatalf("filled in %+v, and again %+v", once, twice)
		}
	})
}
