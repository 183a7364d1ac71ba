package mistify

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const guestID = "0f8fad5b-d9cb-469f-a165-70867728950e"

func fullGuest() *Guest {
	return &Guest{
		ID: guestID, Type: "container", Image: "busybox", State: "running", Memory: 512, CPU: 2, VNC: 5900,
		NICs: []NIC{{Name: "net0", Network: "br0", Model: "virtio", MAC: "52:54:00:00:00:01", Address: "10.0.0.2", Netmask: "255.255.255.0",
			Gateway: "10.0.0.1", Device: "vnet0", VLANs: []int{1, 2}, Type: "user", Forward: []virt.Forward{{Port: 2222, To: 22}}}},
		Disks:    []Disk{{Bus: "virtio", Device: "vda", Size: 1024, Volume: "guests/x/disk-0", Image: "img", Source: "/dev/zvol/x", Format: "raw"}},
		Metadata: map[string]string{"foo": "bar"},
		Name:     "web1", Boot: virt.Boot{Kernel: "/k"}, CDROM: "/iso", Console: virt.Console{Serial: "pty"}, CloudInit: virt.CloudInit{UserData: "#!/bin/sh", Disk: "/seed.iso"},
	}
}

const fullGuestJSON = `{"id":"0f8fad5b-d9cb-469f-a165-70867728950e","type":"container","image":"busybox",` +
	`"nics":[{"name":"net0","network":"br0","model":"virtio","mac":"52:54:00:00:00:01","address":"10.0.0.2","netmask":"255.255.255.0","gateway":"10.0.0.1","device":"vnet0","vlans":[1,2],"type":"user","forward":[{"port":2222,"to":22}]}],` +
	`"disks":[{"bus":"virtio","device":"vda","size":1024,"volume":"guests/x/disk-0","image":"img","source":"/dev/zvol/x","format":"raw"}],` +
	`"state":"running","memory":512,"cpu":2,"vnc":5900,"metadata":{"foo":"bar"},"name":"web1","boot":{"kernel":"/k"},"cdrom":"/iso","console":{"serial":"pty"},"cloud_init":{"user_data":"#!/bin/sh","disk":"/seed.iso"}}`

// Every type is written exactly as Mistify's is, member for member in its
// order, and read back the same.
func TestGolden(t *testing.T) {
	small := &Guest{ID: guestID}
	const smallJSON = `{"id":"0f8fad5b-d9cb-469f-a165-70867728950e"}`
	at := time.Date(2015, 2, 3, 4, 5, 6, 0, time.UTC)
	for _, x := range []struct {
		name  string
		value any
		want  string
	}{
		{"guest", fullGuest(), fullGuestJSON},
		{"guest/least", small, smallJSON},
		{"nic/least", &NIC{}, `{"network":"","model":"","address":"","netmask":"","gateway":""}`},
		{"disk/least", &Disk{}, `{"bus":"","device":"","size":0,"volume":"","image":"","source":""}`},
		{"cpu", &CPUMetrics{1.5, 2.5}, `{"cpu_time":1.5,"vcpu_time":2.5}`},
		{"diskMetrics", &DiskMetrics{"vda", 1, 2, 3.5, 4, 5, 6.5, 7, 8.5},
			`{"disk":"vda","read_ops":1,"read_bytes":2,"read_time":3.5,"write_ops":4,"write_bytes":5,"write_time":6.5,"flush_ops":7,"flush_time":8.5}`},
		{"nicMetrics", &NICMetrics{"net0", 1, 2, 3, 4, 5, 6, 7, 8},
			`{"name":"net0","rx_bytes":1,"rx_packets":2,"rx_errors":3,"rx_drops":4,"tx_bytes":5,"tx_packets":6,"tx_errors":7,"tx_drops":8}`},
		{"job", &Job{ID: "j", GuestID: "g", Action: "create", QueuedAt: at, Status: JobQueued},
			`{"ID":"j","GuestID":"g","Action":"create","QueuedAt":"2015-02-03T04:05:06Z","StartedAt":"0001-01-01T00:00:00Z","UpdatedAt":"0001-01-01T00:00:00Z","Status":"Queued","Message":""}`},
		{"job/additions", &Job{Status: JobError, Message: "m", Attempt: 2, Stage: "1/2 A.B of c", Kind: KindBusy, Trail: trail.Trail{Source: "s"}},
			`{"ID":"","GuestID":"","Action":"","QueuedAt":"0001-01-01T00:00:00Z","StartedAt":"0001-01-01T00:00:00Z","UpdatedAt":"0001-01-01T00:00:00Z","Status":"Error","Message":"m","Attempt":2,"Stage":"1/2 A.B of c","Kind":"busy","Trail":{"source":"s"}}`},
		{"error", &ErrorBody{Message: "not found", Code: 404}, `{"message":"not found","code":404}`},
		{"error/debug", &ErrorBody{Message: "m", Code: 500, Stack: []string{"a:1"}, Kind: KindBusy}, `{"message":"m","code":500,"stack":["a:1"],"kind":"busy"}`},
		{"guestRequest", &GuestRequest{Guest: small, Action: "create", Args: map[string]string{"a": "b"}}, `{"guest":` + smallJSON + `,"action":"create","args":{"a":"b"}}`},
		{"guestRequest/least", &GuestRequest{}, `{"guest":null,"action":""}`},
		{"guestResponse", &GuestResponse{Guest: small, Message: "m", Retry: 5}, `{"guest":` + smallJSON + `,"message":"m","retry":5}`},
		{"guestResponse/least", &GuestResponse{}, `{"guest":null}`},
		{"metricsRequest", &GuestMetricsRequest{Guest: small, Type: "cpu", Args: map[string]string{"a": "b"}}, `{"guest":` + smallJSON + `,"type":"cpu","args":{"a":"b"}}`},
		{"metricsResponse", &GuestMetricsResponse{Guest: small, Type: "cpu", Disk: map[string]DiskMetrics{}, CPU: []CPUMetrics{{}}}, ``},
		{"image", &Image{ID: "i", Type: "container", Volume: "v", Snapshot: "s", Size: 7, Status: "complete"},
			`{"id":"i","type":"container","volume":"v","snapshot":"s","size":7,"status":"complete"}`},
		{"imageRequest", &ImageRequest{ID: "i", Type: "t", Dest: "d", Source: "http://x"}, `{"id":"i","type":"t","dest":"d","source":"http://x"}`},
		{"imageRequest/additions", &ImageRequest{Size: 1, SHA256: "ab"}, `{"id":"","type":"","dest":"","source":"","size":1,"sha256":"ab"}`},
		{"imageResponse", &ImageResponse{Images: []Image{{ID: "i"}}}, `{"images":[{"id":"i","type":"","volume":"","snapshot":"","size":0,"status":""}]}`},
		{"imageResponse/none", &ImageResponse{}, `{"images":null}`},
		{"volume", &VolumeResponse{Volumes: []Volume{{ID: "v", Size: 1, Device: "/dev/x"}}}, `{"volumes":[{"id":"v","size":1,"device":"/dev/x"}]}`},
		{"volumeRequest", &VolumeRequest{ID: "v", Size: 1}, `{"id":"v","size":1}`},
		{"snapshotRequest", &SnapshotRequest{ID: "guests/x/disk-0@a", Dest: "d", Recursive: true, DestroyMoreRecent: true},
			`{"id":"guests/x/disk-0@a","dest":"d","recursive":true,"destroyMoreRecent":true}`},
		{"snapshotResponse", &SnapshotResponse{Snapshots: []Snapshot{{ID: "s", Size: 3}}}, `{"snapshots":[{"id":"s","size":3}]}`},
		{"statusRequest", &StatusRequest{}, `{}`},
		{"statusResponse", &StatusResponse{Complete: true, Guests: []Seen{{ID: "x", State: virt.Running}}, Capacity: virt.Capacity{CPU: 4}},
			`{"complete":true,"guests":[{"id":"x","state":"running"}],"capacity":{"cpu":4}}`},
		{"status", &Status{Guests: []Seen{}, Problems: []string{"p"}, Actions: []string{"create"}, Version: "1"},
			`{"complete":false,"guests":[],"problems":["p"],"actions":["create"],"version":"1"}`},
	} {
		t.Run(x.name, func(t *testing.T) {
			data, err := json.Marshal(x.value)
			if err != nil {
				t.Fatal(err)
			}
			if x.want != "" && string(data) != x.want {
				t.Errorf("it is written as\n%s\nwant\n%s", data, x.want)
			}
			back := reflect.New(reflect.TypeOf(x.value).Elem())
			if err := Decode(data, back.Interface()); err != nil {
				t.Fatal(err)
			}
			if again, _ := json.Marshal(back.Interface()); string(again) != string(data) {
				t.Errorf("it is read back as %s, it was %s", again, data)
			}
			if x.want == "" {
				return
			}
			if !reflect.DeepEqual(x.value, back.Interface()) {
				t.Errorf("it is read back as %+v, it was %+v", back.Interface(), x.value)
			}
		})
	}
}

func TestDecode(t *testing.T) {
	for _, x := range []struct{ name, text, want string }{
		{"unknown members are dropped", `{"id":"a","zone":{"b":[1]}}`, ""},
		{"a null in a list", `{"id":"a","disks":[null]}`, ""},
		{"nothing", ` `, "there is nothing"},
		{"cut", `{"id":"a`, "breaks off"},
		{"no JSON", `<html>`, "invalid character '<'"},
		{"two values", `{"id":"a"} {"id":"b"}`, `"{\"id\":\"b\"}" stands after its end`},
		{"a wrong kind", `{"id":"a","cpu":"two"}`, "cpu cannot be a string"},
		{"a negative", `{"id":"a","memory":-1}`, "memory cannot be a number -1"},
		{"too great", `{"id":"a","disks":[{"size":99999999999999999999}]}`, "cannot be a number 9999"},
		{"a list", `[]`, "the whole cannot be a array"},
		{"deep", strings.Repeat("[", 20_000), "exceeded max depth"},
	} {
		t.Run(x.name, func(t *testing.T) {
			var g Guest
			err := Decode([]byte(x.text), &g)
			if (x.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), x.want) {
				t.Errorf("error %v, want one with %q", err, x.want)
			}
		})
	}
}
