package mistify

// The types of metrics: the last part of the path that asks for them, and the
// Type of a GuestMetricsRequest.
const (
	MetricsCPU  = "cpu"
	MetricsDisk = "disk"
	MetricsNIC  = "nic"
)

// CPUMetrics are those of one of a guest's CPUs. Times are in seconds.
type CPUMetrics struct {
	CPUTime  float64 `json:"cpu_time"`
	VCPUTime float64 `json:"vcpu_time"`
}

// DiskMetrics are those of one of a guest's disks. Times are in seconds.
type DiskMetrics struct {
	Disk       string  `json:"disk"`
	ReadOps    int64   `json:"read_ops"`
	ReadBytes  int64   `json:"read_bytes"`
	ReadTime   float64 `json:"read_time"`
	WriteOps   int64   `json:"write_ops"`
	WriteBytes int64   `json:"write_bytes"`
	WriteTime  float64 `json:"write_time"`
	FlushOps   int64   `json:"flush_ops"`
	FlushTime  float64 `json:"flush_time"`
}

// NICMetrics are those of one of a guest's network interfaces.
type NICMetrics struct {
	Name      string `json:"name"`
	RxBytes   int64  `json:"rx_bytes"`
	RxPackets int64  `json:"rx_packets"`
	RxErrors  int64  `json:"rx_errors"`
	RxDrops   int64  `json:"rx_drops"`
	TxBytes   int64  `json:"tx_bytes"`
	TxPackets int64  `json:"tx_packets"`
	TxErrors  int64  `json:"tx_errors"`
	TxDrops   int64  `json:"tx_drops"`
}
