package virt

import "time"

// State is a VM's state as it was seen last. "" is a VM that nobody has seen.
type State string

// The states of a VM. The first four are a driver's; the others are ours.
const (
	Running State = "running"
	Paused  State = "paused"
	Stopped State = "stopped"
	Crashed State = "crashed"
	New     State = "new"     // on no host
	Defined State = "defined" // on a host, not seen there yet
	Unknown State = "unknown" // its host cannot be asked
	Missing State = "missing" // its host, asked several times, does not have it
)

// HostState is a hypervisor's state as it was seen last. "" is one that was
// never polled.
type HostState string

// The states of a hypervisor.
const (
	Up          HostState = "up"
	Unreachable HostState = "unreachable" // it cannot be asked; nothing follows from that
	Down        HostState = "down"        // an operator confirmed it
)

// The members of a VM's metadata that this module writes.
const (
	MetaDisksOn  = "disks_on"  // the host that has its disks
	MetaEvidence = "evidence"  // Evidence: when its state was last seen
	MetaUUID     = "uuid"      // of an adopted VM whose UUID does not follow from its ID
	MetaAlarm    = "alarm"     // Alarm: something that an operator has to look at
	MetaMigrate  = "migrating" // the host that it moves to, while it does

	MetaLeft         = "disks_left"     // a host that has a copy of its disks, perhaps of a part, which is to be wiped
	MetaDetached     = "detached_disks" // []Detached: disks on that host that are not its any more
	MetaSnapshotting = "snapshot_begun" // SnapshotBegun: what a job made last, or began to
)

// The members of a hypervisor's metadata that this module writes.
const (
	MetaMaintenance = "maintenance" // Maintenance
	MetaConfirmed   = "confirmed_down"
	MetaStrangers   = "strangers" // names of the VMs found there that nobody knows
	MetaSeen        = "capacity_seen"
)

// Evidence is when something was last seen, and what said so.
type Evidence struct {
	At     time.Time `json:"at"`
	Host   string    `json:"host,omitempty"`
	Reason string    `json:"reason,omitempty"` // why there is none that is newer
}

// Maintenance keeps new VMs off a hypervisor.
type Maintenance struct {
	Since  time.Time `json:"since"`
	Reason string    `json:"reason,omitempty"`
	Source string    `json:"source,omitempty"`
}

// Alarm is a finding that no program may act on.
type Alarm struct {
	Since time.Time `json:"since"`
	Kind  string    `json:"kind"` // such as "seen-twice"
	Text  string    `json:"text"`
	Hosts []string  `json:"hosts,omitempty"`
}
