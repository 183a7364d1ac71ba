package mistify

import "github.com/vagoth/vagoth/virt"

// StatusRequest asks a sub-agent what is on the host now. It is an addition, as
// is all of this file.
type StatusRequest struct {
	ID   string            `json:"id,omitempty"` // of the only guest to look at
	Args map[string]string `json:"args,omitempty"`
}

// StatusResponse is what a sub-agent saw.
type StatusResponse struct {
	Complete bool          `json:"complete"` // false: what is not listed may be there all the same
	Guests   []Seen        `json:"guests"`
	Capacity virt.Capacity `json:"capacity,omitzero"` // as far as it knows
}

// Seen is one guest that is on the host.
type Seen struct {
	ID     string     `json:"id"`
	Name   string     `json:"name,omitempty"` // as the host calls it
	Type   string     `json:"type,omitempty"`
	State  virt.State `json:"state"` // running, paused, stopped or crashed
	CPU    int        `json:"cpu,omitempty"`
	Memory int64      `json:"memory,omitempty"` // MB

	Stranger bool `json:"stranger,omitempty"` // the agent does not know it

	CPUTime   float64  `json:"cpu_time,omitempty"` // seconds
	VNC       string   `json:"vnc,omitempty"`      // host:port
	Console   string   `json:"console,omitempty"`
	Addresses []string `json:"addresses,omitempty"`
}

// Status is the answer of GET /v1/status: a live listing, from the sub-agents.
type Status struct {
	Complete bool          `json:"complete"`
	Guests   []Seen        `json:"guests"`
	Capacity virt.Capacity `json:"capacity,omitzero"`
	Problems []string      `json:"problems,omitempty"` // why it is not complete
	Actions  []string      `json:"actions,omitempty"`  // those that are configured
	Version  string        `json:"version,omitempty"`
}
