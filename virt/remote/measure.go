package remote

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// Metrics reads the counters of a guest. A kind that the agent is not configured
// to measure is left out, unless it measures none.
func (d *Driver) Metrics(ctx context.Context, h virt.Host, g virt.Guest) (m virt.Metrics, err error) {
	err = d.about(ctx, h, g, "measure", func(ctx context.Context, t *task) error {
		ctx, cancel := t.quick(ctx)
		defer cancel()
		info, err := t.look(ctx, t.c, g)
		if err != nil {
			return err
		}
		m = virt.Metrics{At: time.Now(), State: info.State, CPUs: []virt.CPUMetrics{}, Disks: []virt.DiskMetrics{}, NICs: []virt.NICMetrics{}}
		if info.State != virt.Running && info.State != virt.Paused {
			return nil
		}
		cpus, cpuErr := t.c[looks].CPUMetrics(ctx, g.UUID)
		disks, diskErr := t.c[looks].DiskMetrics(ctx, g.UUID)
		nics, nicErr := t.c[looks].NICMetrics(ctx, g.UUID)
		unsupported := 0
		for _, err := range []error{cpuErr, diskErr, nicErr} {
			switch {
			case errors.Is(err, virt.ErrUnsupported):
				if unsupported++; unsupported == 3 {
					return err
				}
			case err != nil:
				return err
			}
		}
		if n := max(len(cpus), len(disks), len(nics)); n > virt.MaxMeasured {
			return fmt.Errorf("%w: metrics of %d devices, where at most %d are allowed", virt.ErrUnreachable, n, virt.MaxMeasured)
		}
		for _, c := range cpus {
			m.CPUs = append(m.CPUs, virt.CPUMetrics{Time: seconds(c.CPUTime)})
		}
		for _, name := range slices.Sorted(maps.Keys(disks)) {
			m.Disks = append(m.Disks, diskOf(name, disks[name]))
		}
		for _, name := range slices.Sorted(maps.Keys(nics)) {
			n := nics[name]
			m.NICs = append(m.NICs, virt.NICMetrics{
				Name: clean(cmp.Or(n.Name, name), maxName), RxBytes: max(0, n.RxBytes), RxPackets: max(0, n.RxPackets), RxErrors: max(0, n.RxErrors), RxDrops: max(0, n.RxDrops),
				TxBytes: max(0, n.TxBytes), TxPackets: max(0, n.TxPackets), TxErrors: max(0, n.TxErrors), TxDrops: max(0, n.TxDrops),
			})
		}
		return nil
	})
	if err != nil {
		return virt.Metrics{}, err
	}
	return m, nil
}

func diskOf(name string, d mistify.DiskMetrics) virt.DiskMetrics {
	return virt.DiskMetrics{
		Device: clean(cmp.Or(d.Disk, name), maxName), ReadOps: max(0, d.ReadOps), ReadBytes: max(0, d.ReadBytes), ReadTime: seconds(d.ReadTime),
		WriteOps: max(0, d.WriteOps), WriteBytes: max(0, d.WriteBytes), WriteTime: seconds(d.WriteTime), FlushOps: max(0, d.FlushOps), FlushTime: seconds(d.FlushTime),
	}
}
