package virt

import (
	"context"
	"time"
)

// Meter is a Driver that can count what a guest does.
type Meter interface {
	// Metrics reads the counters of a guest. They grow while it runs and begin at
	// nothing when it starts; of one that is off there may be none.
	Metrics(ctx context.Context, h Host, g Guest) (Metrics, error)
}

// MaxMeasured bounds each list of Metrics.
const MaxMeasured = 4096

// Metrics are the counters of a guest. What a host does not count is 0.
type Metrics struct {
	At    time.Time     `json:"at"` // when they were read, by the clock of the driver
	State State         `json:"state,omitempty"`
	CPUs  []CPUMetrics  `json:"cpus"`
	Disks []DiskMetrics `json:"disks"`
	NICs  []NICMetrics  `json:"nics"`
}

// CPUMetrics are those of one virtual CPU.
type CPUMetrics struct {
	Time time.Duration `json:"time"` // it was busy, in nanoseconds
}

// DiskMetrics are those of one disk.
type DiskMetrics struct {
	Device     string        `json:"device"` // such as "vda"
	ReadOps    int64         `json:"read_ops"`
	ReadBytes  int64         `json:"read_bytes"`
	ReadTime   time.Duration `json:"read_time"`
	WriteOps   int64         `json:"write_ops"`
	WriteBytes int64         `json:"write_bytes"`
	WriteTime  time.Duration `json:"write_time"`
	FlushOps   int64         `json:"flush_ops"`
	FlushTime  time.Duration `json:"flush_time"`
}

// NICMetrics are those of one network interface, as its guest sees it.
type NICMetrics struct {
	Name      string `json:"name"` // of the definition, or of the host's device
	RxBytes   int64  `json:"rx_bytes"`
	RxPackets int64  `json:"rx_packets"`
	RxErrors  int64  `json:"rx_errors"`
	RxDrops   int64  `json:"rx_drops"`
	TxBytes   int64  `json:"tx_bytes"`
	TxPackets int64  `json:"tx_packets"`
	TxErrors  int64  `json:"tx_errors"`
	TxDrops   int64  `json:"tx_drops"`
}
