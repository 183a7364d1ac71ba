package libvirt

import (
	"context"
	"fmt"
	"strings"
	"time"

	golibvirt "github.com/digitalocean/go-libvirt"

	"github.com/vagoth/vagoth/virt"
)

const metricsAsked = uint32(golibvirt.DomainStatsState | golibvirt.DomainStatsVCPU | golibvirt.DomainStatsBlock | golibvirt.DomainStatsInterface)

// Metrics reads the counters of a guest. NICs in user mode have none: QEMU does
// not count what it carries itself.
func (d *Driver) Metrics(ctx context.Context, h virt.Host, g virt.Guest) (virt.Metrics, error) {
	p, err := d.pool(h)
	if err != nil {
		return virt.Metrics{}, err
	}
	if p.endpoint.isTest() {
		return virt.Metrics{}, fmt.Errorf("%w: libvirt's test hypervisor counts nothing", virt.ErrUnsupported)
	}
	m := virt.Metrics{}
	err = d.withDomain(ctx, h, g, looks, "measure", func(_ context.Context, c *conn, dom golibvirt.Domain) error {
		records, err := c.ConnectGetAllDomainStats([]golibvirt.Domain{dom}, metricsAsked, uint32(golibvirt.ConnectGetAllDomainsStatsNowait))
		if err != nil {
			return translate(err)
		}
		if len(records) != 1 || records[0].Dom.UUID != dom.UUID {
			return unreachable(malformed("%d records of one domain", len(records)))
		}
		text, err := c.DomainGetXMLDesc(dom, 0)
		if err != nil {
			return translate(err)
		}
		is, err := parseDomain(text)
		if err != nil {
			return err
		}
		m = metricsOf(records[0], is.nicNames(g))
		m.At = d.now()
		return nil
	})
	return m, err
}

// nicNames are what the guest's definition calls the devices of the host.
func (d described) nicNames(g virt.Guest) map[string]string {
	names := map[string]string{}
	for _, is := range d.NICs {
		for i, n := range g.Definition.NICs {
			if is.Target.Dev != "" && strings.EqualFold(n.MAC, is.MAC.Address) {
				names[is.Target.Dev] = n.Name
				if n.Name == "" {
					names[is.Target.Dev] = fmt.Sprintf("net%d", i)
				}
			}
		}
	}
	return names
}

// metricsOf reads a record. What the record counts by its own words is believed
// as far as the lists of virt.Metrics go.
func metricsOf(r golibvirt.DomainStatsRecord, nics map[string]string) virt.Metrics {
	n, texts := numbersOf(r), map[string]string{}
	for _, p := range r.Params {
		if v, ok := p.Value.I.(string); ok {
			texts[p.Field] = clean(v, 128)
		}
	}
	count := func(field string) int { return int(max(0, min(n[field], virt.MaxMeasured))) }
	m := virt.Metrics{State: stateFrom(n["state.state"], n["state.reason"]), CPUs: []virt.CPUMetrics{}, Disks: []virt.DiskMetrics{}, NICs: []virt.NICMetrics{}}
	for i := range max(count("vcpu.current"), count("vcpu.maximum")) {
		if ns, ok := n[fmt.Sprintf("vcpu.%d.time", i)]; ok {
			m.CPUs = append(m.CPUs, virt.CPUMetrics{Time: time.Duration(max(0, ns))})
		}
	}
	for i := range count("block.count") {
		at := fmt.Sprintf("block.%d.", i)
		of := func(field string) int64 { return max(0, n[at+field]) }
		if texts[at+"name"] == "" {
			continue
		}
		m.Disks = append(m.Disks, virt.DiskMetrics{
			Device: texts[at+"name"], ReadOps: of("rd.reqs"), ReadBytes: of("rd.bytes"), ReadTime: time.Duration(of("rd.times")),
			WriteOps: of("wr.reqs"), WriteBytes: of("wr.bytes"), WriteTime: time.Duration(of("wr.times")),
			FlushOps: of("fl.reqs"), FlushTime: time.Duration(of("fl.times")),
		})
	}
	for i := range count("net.count") {
		at := fmt.Sprintf("net.%d.", i)
		of := func(field string) int64 { return max(0, n[at+field]) }
		name := texts[at+"name"]
		if name == "" {
			continue
		}
		if known := nics[name]; known != "" {
			name = known
		}
		m.NICs = append(m.NICs, virt.NICMetrics{
			Name: name, RxBytes: of("rx.bytes"), RxPackets: of("rx.pkts"), RxErrors: of("rx.errs"), RxDrops: of("rx.drop"),
			TxBytes: of("tx.bytes"), TxPackets: of("tx.pkts"), TxErrors: of("tx.errs"), TxDrops: of("tx.drop"),
		})
	}
	return m
}
