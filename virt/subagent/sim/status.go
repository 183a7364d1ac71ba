package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// Status lists what is on the host now, or looks at one guest.
func (a *Agent) Status(ctx context.Context, r *mistify.StatusRequest) (*mistify.StatusResponse, error) {
	if r.ID != "" {
		return a.one(ctx, r.ID)
	}
	l, err := a.driver.Status(ctx, a.host)
	if err != nil {
		return nil, err
	}
	out := &mistify.StatusResponse{Complete: l.Complete, Guests: make([]mistify.Seen, len(l.Guests)), Capacity: l.Capacity}
	for i, s := range l.Guests {
		out.Guests[i] = a.seen(s)
	}
	return out, nil
}

func (a *Agent) one(ctx context.Context, id string) (*mistify.StatusResponse, error) {
	id, err := mistify.ParseGuestID(id)
	if err != nil {
		return nil, err
	}
	out := &mistify.StatusResponse{Complete: true, Guests: []mistify.Seen{}}
	info, err := a.driver.Info(ctx, a.host, virt.Guest{ID: id, UUID: id, Name: id})
	if errors.Is(err, virt.ErrNotFound) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	s := a.seen(info.Seen)
	s.CPUTime, s.VNC, s.Console, s.Addresses = info.CPUTime.Seconds(), info.VNC, info.Console, info.Addresses
	out.Guests = append(out.Guests, s)
	return out, nil
}

func (a *Agent) seen(s virt.Seen) mistify.Seen {
	return mistify.Seen{ID: s.UUID, Name: s.Name, State: s.State, CPU: s.CPU, Memory: s.Memory}
}

// ran is how long a guest has run, as far as its counters go.
func (a *Agent) ran(ctx context.Context, g *mistify.Guest) (virt.Guest, time.Duration, error) {
	v, err := a.read(g)
	if err != nil {
		return v, 0, err
	}
	info, err := a.driver.Info(ctx, a.host, v)
	return v, info.CPUTime, err
}

// CPUMetrics measures a guest's CPUs.
func (a *Agent) CPUMetrics(ctx context.Context, r *mistify.GuestMetricsRequest) (*mistify.GuestMetricsResponse, error) {
	v, ran, err := a.ran(ctx, r.Guest)
	if err != nil {
		return nil, err
	}
	out := &mistify.GuestMetricsResponse{Guest: r.Guest, Type: mistify.MetricsCPU, CPU: make([]mistify.CPUMetrics, max(1, v.Definition.CPU))}
	for i := range out.CPU {
		share := pace(v.UUID, mistify.MetricsCPU, i)
		out.CPU[i] = mistify.CPUMetrics{CPUTime: ran.Seconds() * share, VCPUTime: ran.Seconds() * share * 0.9}
	}
	return out, nil
}

// DiskMetrics measures a guest's disks.
func (a *Agent) DiskMetrics(ctx context.Context, r *mistify.GuestMetricsRequest) (*mistify.GuestMetricsResponse, error) {
	v, ran, err := a.ran(ctx, r.Guest)
	if err != nil {
		return nil, err
	}
	out := &mistify.GuestMetricsResponse{Guest: r.Guest, Type: mistify.MetricsDisk, Disk: map[string]mistify.DiskMetrics{}}
	for i, d := range v.Definition.Disks {
		ops := ran.Seconds() * 1000 * pace(v.UUID, mistify.MetricsDisk, i)
		out.Disk[d.Device] = mistify.DiskMetrics{
			Disk: d.Device, ReadOps: int64(ops), ReadBytes: int64(ops) * 4096, ReadTime: ops / 1e4,
			WriteOps: int64(ops / 2), WriteBytes: int64(ops/2) * 4096, WriteTime: ops / 1e4, FlushOps: int64(ops / 20), FlushTime: ops / 1e5,
		}
	}
	return out, nil
}

// NICMetrics measures a guest's network interfaces.
func (a *Agent) NICMetrics(ctx context.Context, r *mistify.GuestMetricsRequest) (*mistify.GuestMetricsResponse, error) {
	v, ran, err := a.ran(ctx, r.Guest)
	if err != nil {
		return nil, err
	}
	out := &mistify.GuestMetricsResponse{Guest: r.Guest, Type: mistify.MetricsNIC, NIC: map[string]mistify.NICMetrics{}}
	for i, n := range v.Definition.NICs {
		name := n.Name
		if name == "" {
			name = fmt.Sprintf("net%d", i)
		}
		packets := int64(ran.Seconds() * 5000 * pace(v.UUID, mistify.MetricsNIC, i))
		out.NIC[name] = mistify.NICMetrics{Name: name, RxPackets: packets, RxBytes: packets * 700, TxPackets: packets / 2, TxBytes: packets / 2 * 300, RxDrops: packets / 10_000}
	}
	return out, nil
}

// pace is how busy one part of a guest is, between a half and one and a half:
// made up, and the same for ever.
func pace(id, what string, i int) float64 {
	return 0.5 + float64(hash(fmt.Sprintf("%s %s %d", id, what, i))%1000)/1000
}
