package libvirt

import (
	"context"
	"fmt"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// measure reads the counters of a guest. Of a container libvirtd is not asked: the
// metrics of all guests are one action.
func (a *Agent) measure(ctx context.Context, g *mistify.Guest) (virt.Metrics, error) {
	if g != nil && g.Container() {
		return virt.Metrics{}, fmt.Errorf("%w: guest %.64q is a container", virt.ErrNotFound, g.ID)
	}
	v, err := read(g)
	if err != nil {
		return virt.Metrics{}, err
	}
	m, ok := a.driver.(virt.Meter)
	if !ok {
		return virt.Metrics{}, fmt.Errorf("%w: the driver counts nothing", virt.ErrUnsupported)
	}
	return m.Metrics(ctx, a.host, v)
}

// CPUMetrics measures a guest's CPUs.
func (a *Agent) CPUMetrics(ctx context.Context, r *mistify.GuestMetricsRequest) (*mistify.GuestMetricsResponse, error) {
	m, err := a.measure(ctx, r.Guest)
	if err != nil {
		return nil, err
	}
	out := &mistify.GuestMetricsResponse{Guest: r.Guest, Type: mistify.MetricsCPU, CPU: make([]mistify.CPUMetrics, len(m.CPUs))}
	for i, c := range m.CPUs {
		out.CPU[i] = mistify.CPUMetrics{CPUTime: c.Time.Seconds(), VCPUTime: c.Time.Seconds()}
	}
	return out, nil
}

// DiskMetrics measures a guest's disks.
func (a *Agent) DiskMetrics(ctx context.Context, r *mistify.GuestMetricsRequest) (*mistify.GuestMetricsResponse, error) {
	m, err := a.measure(ctx, r.Guest)
	if err != nil {
		return nil, err
	}
	out := &mistify.GuestMetricsResponse{Guest: r.Guest, Type: mistify.MetricsDisk, Disk: map[string]mistify.DiskMetrics{}}
	for _, d := range m.Disks {
		out.Disk[d.Device] = mistify.DiskMetrics{
			Disk: d.Device, ReadOps: d.ReadOps, ReadBytes: d.ReadBytes, ReadTime: d.ReadTime.Seconds(),
			WriteOps: d.WriteOps, WriteBytes: d.WriteBytes, WriteTime: d.WriteTime.Seconds(), FlushOps: d.FlushOps, FlushTime: d.FlushTime.Seconds(),
		}
	}
	return out, nil
}

// NICMetrics measures a guest's network interfaces, as the guest sees them.
func (a *Agent) NICMetrics(ctx context.Context, r *mistify.GuestMetricsRequest) (*mistify.GuestMetricsResponse, error) {
	m, err := a.measure(ctx, r.Guest)
	if err != nil {
		return nil, err
	}
	out := &mistify.GuestMetricsResponse{Guest: r.Guest, Type: mistify.MetricsNIC, NIC: map[string]mistify.NICMetrics{}}
	for _, n := range m.NICs {
		out.NIC[n.Name] = mistify.NICMetrics{
			Name: n.Name, RxBytes: n.RxBytes, RxPackets: n.RxPackets, RxErrors: n.RxErrors, RxDrops: n.RxDrops,
			TxBytes: n.TxBytes, TxPackets: n.TxPackets, TxErrors: n.TxErrors, TxDrops: n.TxDrops,
		}
	}
	return out, nil
}
