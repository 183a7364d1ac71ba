package sim

import (
	"context"
	"time"

	"github.com/vagoth/vagoth/virt"
)

// Metrics says what a guest could have done since it was started.
func (d *Driver) Metrics(ctx context.Context, h virt.Host, vg virt.Guest) (m virt.Metrics, err error) {
	err = d.onGuest(ctx, h, vg, "metrics", func(_ *state, g *guest, now time.Time) (bool, error) {
		m = virt.Metrics{At: now, State: g.State, CPUs: []virt.CPUMetrics{}, Disks: []virt.DiskMetrics{}, NICs: []virt.NICMetrics{}}
		if !g.active() {
			return false, nil
		}
		ran := time.Duration(0)
		if !g.Since.IsZero() {
			ran = max(0, now.Sub(g.Since))
		}
		n := ran.Milliseconds()
		for range g.CPU {
			m.CPUs = append(m.CPUs, virt.CPUMetrics{Time: ran / 10})
		}
		for _, disk := range vg.Definition.Disks {
			m.Disks = append(m.Disks, virt.DiskMetrics{
				Device: disk.Device, ReadOps: n / 10, ReadBytes: n / 10 * 4096, ReadTime: ran / 1000,
				WriteOps: n / 20, WriteBytes: n / 20 * 4096, WriteTime: ran / 500, FlushOps: n / 1000, FlushTime: ran / 1000,
			})
		}
		for i, nic := range vg.Definition.NICs {
			name := nic.Name
			if name == "" {
				name = nic.Device
			}
			if name == "" {
				name = "net" + string(rune('0'+i%10))
			}
			m.NICs = append(m.NICs, virt.NICMetrics{Name: name, RxBytes: n * 100, RxPackets: n, TxBytes: n * 50, TxPackets: n / 2})
		}
		return false, nil
	})
	return m, err
}
