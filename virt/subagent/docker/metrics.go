package docker

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/container"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// measure reads the counters of a guest; nil if it is off. Of a guest that is no
// container dockerd is not asked: the metrics of all guests are one action.
func (d *Docker) measure(ctx context.Context, g *mistify.Guest) (m *container.StatsResponse, cpus int, err error) {
	if g != nil && !g.Container() {
		return nil, 0, fmt.Errorf("%w: guest %.64q is no container", virt.ErrNotFound, g.ID)
	}
	v, err := read(g)
	if err != nil {
		return nil, 0, err
	}
	f, err := d.find(ctx, v.UUID)
	if err != nil {
		return nil, 0, err
	}
	cpus = max(1, min(v.Definition.CPU, virt.MaxMeasured))
	if !f.active() {
		return &container.StatsResponse{}, cpus, nil
	}
	m, err = d.stats(ctx, v.UUID, f)
	return m, cpus, err
}

// CPUMetrics measures a guest's CPUs. A container has none of its own: what it has
// used is shared out evenly among as many as it may use.
func (d *Docker) CPUMetrics(ctx context.Context, r *mistify.GuestMetricsRequest) (*mistify.GuestMetricsResponse, error) {
	m, cpus, err := d.measure(ctx, r.Guest)
	if err != nil {
		return nil, err
	}
	out := &mistify.GuestMetricsResponse{Guest: r.Guest, Type: mistify.MetricsCPU, CPU: make([]mistify.CPUMetrics, cpus)}
	share := nanoseconds(m.CPUStats.CPUUsage.TotalUsage) / float64(cpus)
	for i := range out.CPU {
		out.CPU[i] = mistify.CPUMetrics{CPUTime: share, VCPUTime: share}
	}
	return out, nil
}

// count is a counter of the kernel as the wire has it.
func count(n uint64) int64 { return int64(min(n, math.MaxInt64)) }

// DiskMetrics measures what a guest read from the host's disks and wrote to them,
// called by the kernel's numbers, such as 259:0.
func (d *Docker) DiskMetrics(ctx context.Context, r *mistify.GuestMetricsRequest) (*mistify.GuestMetricsResponse, error) {
	m, _, err := d.measure(ctx, r.Guest)
	if err != nil {
		return nil, err
	}
	out := &mistify.GuestMetricsResponse{Guest: r.Guest, Type: mistify.MetricsDisk, Disk: map[string]mistify.DiskMetrics{}}
	add := func(all []container.BlkioStatEntry, read, write func(*mistify.DiskMetrics) *int64) {
		for _, e := range all {
			name := deviceName(e.Major, e.Minor)
			one := out.Disk[name]
			one.Disk = name
			switch strings.ToLower(e.Op) { // each version of the kernel has its own
			case "read":
				*read(&one) = count(e.Value)
			case "write":
				*write(&one) = count(e.Value)
			default:
				continue
			}
			out.Disk[name] = one
		}
	}
	add(m.BlkioStats.IoServiceBytesRecursive, func(o *mistify.DiskMetrics) *int64 { return &o.ReadBytes }, func(o *mistify.DiskMetrics) *int64 { return &o.WriteBytes })
	add(m.BlkioStats.IoServicedRecursive, func(o *mistify.DiskMetrics) *int64 { return &o.ReadOps }, func(o *mistify.DiskMetrics) *int64 { return &o.WriteOps })
	return out, nil
}

// NICMetrics measures a guest's network interfaces, as the guest sees and calls
// them.
func (d *Docker) NICMetrics(ctx context.Context, r *mistify.GuestMetricsRequest) (*mistify.GuestMetricsResponse, error) {
	m, _, err := d.measure(ctx, r.Guest)
	if err != nil {
		return nil, err
	}
	out := &mistify.GuestMetricsResponse{Guest: r.Guest, Type: mistify.MetricsNIC, NIC: map[string]mistify.NICMetrics{}}
	for name, n := range m.Networks {
		name = clean(name, 64)
		out.NIC[name] = mistify.NICMetrics{
			Name: name, RxBytes: count(n.RxBytes), RxPackets: count(n.RxPackets), RxErrors: count(n.RxErrors), RxDrops: count(n.RxDropped),
			TxBytes: count(n.TxBytes), TxPackets: count(n.TxPackets), TxErrors: count(n.TxErrors), TxDrops: count(n.TxDropped),
		}
	}
	return out, nil
}

// decode reads one document.
func decode(r io.Reader, into any) error {
	if err := json.NewDecoder(r).Decode(into); err != nil {
		if errors.Is(err, io.EOF) {
			return io.ErrUnexpectedEOF
		}
		return err
	}
	return nil
}

// sorted orders images by their names, each once.
func sorted(all []mistify.Image) []mistify.Image {
	slices.SortStableFunc(all, func(a, b mistify.Image) int { return strings.Compare(a.ID, b.ID) })
	return slices.CompactFunc(all, func(a, b mistify.Image) bool { return a.ID == b.ID })
}
