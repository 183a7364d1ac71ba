package mistify

// GuestRequest asks a sub-agent to do something to a guest.
type GuestRequest struct {
	Guest  *Guest            `json:"guest"`
	Action string            `json:"action"`
	Args   map[string]string `json:"args,omitempty"` // those of the stage, from the config

	// To is an addition: of a migrate, where the guest is to go.
	To string `json:"to,omitempty"`

	// Job is an addition: the agent's job, the same for every attempt of it. It is
	// given to stages that have an undo, and to their undo, which takes back what
	// was made for this job and nothing else.
	Job string `json:"job,omitempty"`
}

// GuestResponse is what a sub-agent did. Guest is the guest from now on.
type GuestResponse struct {
	Guest   *Guest `json:"guest"`
	Message string `json:"message,omitempty"`
	Retry   int    `json:"retry,omitempty"` // not done yet: ask again in so many seconds
}

// GuestMetricsRequest asks for a guest's metrics.
type GuestMetricsRequest struct {
	Guest *Guest            `json:"guest"`
	Type  string            `json:"type"` // MetricsCPU, MetricsDisk or MetricsNIC
	Args  map[string]string `json:"args,omitempty"`
}

// GuestMetricsResponse has the metrics of Type. Guest is not changed by asking.
type GuestMetricsResponse struct {
	Guest *Guest                 `json:"guest"`
	Type  string                 `json:"type"`
	Disk  map[string]DiskMetrics `json:"disk,omitempty"`
	NIC   map[string]NICMetrics  `json:"nic,omitempty"`
	CPU   []CPUMetrics           `json:"cpu,omitempty"`
}
