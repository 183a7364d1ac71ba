package libvirt

import (
	"strings"
	"testing"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/vagoth/vagoth/virt"
)

func TestMetricsOfARecord(t *testing.T) {
	number := func(field string, v uint64) golibvirt.TypedParam {
		return golibvirt.TypedParam{Field: field, Value: golibvirt.TypedParamValue{D: 4, I: v}}
	}
	text := func(field, v string) golibvirt.TypedParam {
		return golibvirt.TypedParam{Field: field, Value: golibvirt.TypedParamValue{D: 7, I: v}}
	}
	m := metricsOf(golibvirt.DomainStatsRecord{Params: []golibvirt.TypedParam{
		number("state.state", 1), number("vcpu.current", 2), number("vcpu.0.time", 5e9), number("vcpu.1.time", 1<<63),
		number("block.count", 1<<40), text("block.0.name", "vda"), number("block.0.backingIndex", 2), number("block.0.wr.reqs", 7), number("block.0.fl.times", 9),
		number("net.count", 3), text("net.0.name", "vnet0"), number("net.0.rx.pkts", 3), text("net.2.name", "vnet2"),
	}}, map[string]string{"vnet0": "front"})
	if m.State != virt.Running || len(m.CPUs) != 2 || m.CPUs[0].Time != 5*time.Second || m.CPUs[1].Time < 0 {
		t.Errorf("the state and CPUs: %+v", m)
	}
	if len(m.Disks) != 1 || m.Disks[0].Device != "vda" || m.Disks[0].WriteOps != 7 || m.Disks[0].FlushTime != 9 {
		t.Errorf("the disks: %+v", m.Disks)
	}
	if len(m.NICs) != 2 || m.NICs[0].Name != "front" || m.NICs[0].RxPackets != 3 || m.NICs[1].Name != "vnet2" {
		t.Errorf("the NICs: %+v", m.NICs)
	}
}

func TestFilteredNIC(t *testing.T) {
	g := guestOf("web1", virt.Definition{CPU: 1, Memory: 64, NICs: []virt.NIC{
		{Type: "bridge", Network: "br0", Address: "10.0.0.7"}, {Type: "network", Network: "n"}, {Type: "user"},
	}})
	xml, err := domainXML(g, "web1", host{hypervisor: "qemu", filter: "clean-traffic"})
	if err != nil {
		t.Fatal(err)
	}
	for want, times := range map[string]int{`<filterref filter="clean-traffic">`: 2, `<parameter name="IP" value="10.0.0.7">`: 1} {
		if n := strings.Count(xml, want); n != times {
			t.Errorf("%s stands %d times, want %d:\n%s", want, n, times, xml)
		}
	}
}
