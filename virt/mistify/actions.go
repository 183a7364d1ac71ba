package mistify

import (
	"fmt"
	"strings"

	"github.com/vagoth/vagoth/virt"
)

// ActionType says how an action is answered.
type ActionType string

// The types of actions.
const (
	Info   ActionType = "info"   // at once, with what was asked for
	Async  ActionType = "async"  // with a job that does it
	Stream ActionType = "stream" // with bytes, as they come
	Upload ActionType = "upload" // at its end, to bytes as they come
)

// Subject is what an action is about, and so which requests its sub-agents get.
type Subject string

// The subjects of actions.
const (
	OnHost     Subject = "host"     // StatusRequest, StatusResponse
	OnGuest    Subject = "guest"    // GuestRequest, GuestResponse
	OnMetrics  Subject = "metrics"  // GuestMetricsRequest, GuestMetricsResponse
	OnImage    Subject = "image"    // ImageRequest, ImageResponse; an upload takes bytes
	OnSnapshot Subject = "snapshot" // SnapshotRequest, SnapshotResponse; a stream answers bytes
	OnConsole  Subject = "console"  // ConsoleRequest, ConsoleResponse; a stream answers bytes
	OnSave     Subject = "save"     // SaveRequest, ImageResponse
)

// Action is one of the things that an agent can be configured to do.
type Action struct {
	Name      string
	Base      string // Name without the prefix of containers
	Type      ActionType
	On        Subject
	Container bool // it is a container's
	Addition  bool // Mistify has none of this name
	Help      string
}

const containerPrefix = "container"

// Actions returns all actions.
func Actions() []Action {
	list := []Action{
		{Name: "create", Type: Async, On: OnGuest, Help: "makes a guest: its disks, its definition, and starts it"},
		{Name: "define", Type: Async, On: OnGuest, Addition: true, Help: "makes a guest known to the host without starting it"},
		{Name: "undefine", Type: Async, On: OnGuest, Addition: true, Help: "makes the host forget a guest and keeps its disks"},
		{Name: "provision", Type: Async, On: OnGuest, Addition: true, Help: "makes the disks of a guest that are not there yet"},
		{Name: "deprovision", Type: Async, On: OnGuest, Addition: true, Help: "wipes the disks that were made for a guest, which stays known if it is"},
		{Name: "delete", Type: Async, On: OnGuest, Help: "removes a guest and its disks"},
		{Name: "start", Type: Async, On: OnGuest, Addition: true, Help: "starts a guest"},
		{Name: "run", Type: Async, On: OnGuest, Help: "is done to a guest that runs, from time to time"},
		{Name: "reboot", Type: Async, On: OnGuest, Help: "asks a guest to restart"},
		{Name: "restart", Type: Async, On: OnGuest, Help: "stops a guest as if the plug were pulled, and starts it"},
		{Name: "poweroff", Type: Async, On: OnGuest, Help: "stops a guest as if the plug were pulled"},
		{Name: "shutdown", Type: Async, On: OnGuest, Help: "asks a guest to stop"},
		{Name: "suspend", Type: Async, On: OnGuest, Addition: true, Help: "holds a guest"},
		{Name: "resume", Type: Async, On: OnGuest, Addition: true, Help: "lets a held guest go on"},
		{Name: "migrate", Type: Async, On: OnGuest, Addition: true, Help: "moves a guest that runs to another host"},
		{Name: "listImages", Type: Info, On: OnImage, Help: "lists the images"},
		{Name: "getImage", Type: Info, On: OnImage, Help: "looks at one image"},
		{Name: "fetchImage", Type: Async, On: OnImage, Help: "gets an image onto the host"},
		{Name: "deleteImage", Type: Async, On: OnImage, Help: "removes an image"},
	}
	for _, a := range list[:len(list):len(list)] {
		a.Container = true
		a.Addition = a.Addition && a.Name != "start" || a.Name == "run"
		a.Base, a.Name, a.Help = a.Name, prefixed(a.Name), a.Help+" (containers)"
		list = append(list, a)
	}
	list = append(list,
		Action{Name: prefixed(ActionSave), Base: ActionSave, Type: Async, On: OnSave, Container: true, Addition: true, Help: "makes an image of what a container has written"},
		Action{Name: ActionPutImage, Type: Upload, On: OnImage, Addition: true, Help: "makes an image of bytes that are sent"},
		Action{Name: "status", Type: Info, On: OnHost, Addition: true, Help: "lists what is on the host now"},
		Action{Name: "cpuMetrics", Type: Info, On: OnMetrics, Help: "measures a guest's CPUs"},
		Action{Name: "diskMetrics", Type: Info, On: OnMetrics, Help: "measures a guest's disks"},
		Action{Name: "nicMetrics", Type: Info, On: OnMetrics, Help: "measures a guest's network interfaces"},
		Action{Name: "listSnapshots", Type: Info, On: OnSnapshot, Help: "lists the snapshots of a guest or disk"},
		Action{Name: "getSnapshot", Type: Info, On: OnSnapshot, Help: "looks at one snapshot"},
		Action{Name: "createSnapshot", Type: Async, On: OnSnapshot, Help: "makes a snapshot"},
		Action{Name: "deleteSnapshot", Type: Async, On: OnSnapshot, Help: "removes a snapshot"},
		Action{Name: "rollbackSnapshot", Type: Async, On: OnSnapshot, Help: "puts disks back to a snapshot"},
		Action{Name: "downloadSnapshot", Type: Stream, On: OnSnapshot, Help: "copies a snapshot out"},
		Action{Name: ActionConsole, Type: Stream, On: OnConsole, Addition: true, Help: "shows what a guest prints on its serial console"},
		Action{Name: ActionTypeConsole, Type: Info, On: OnConsole, Addition: true, Help: "types into a serial console that is attached"},
		Action{Name: prefixed(ActionConsole), Base: ActionConsole, Type: Stream, On: OnConsole, Container: true, Addition: true, Help: "shows what a container prints, on its terminal if it has one"},
		Action{Name: prefixed(ActionTypeConsole), Base: ActionTypeConsole, Type: Info, On: OnConsole, Container: true, Addition: true, Help: "types into a container's terminal that is attached"},
	)
	for i := range list {
		if list[i].Base == "" {
			list[i].Base = list[i].Name
		}
	}
	return list
}

// ActionFor returns the name of what base is to a guest or image of this type:
// "create" is "containerCreate" to a container. Metrics, snapshots, status and what is
// sent have one name for all.
func ActionFor(guestType, base string) string {
	if guestType != TypeContainer || !hasContainerForm(base) {
		return base
	}
	return prefixed(base)
}

func hasContainerForm(base string) bool {
	return base != "" && base != "status" && base != ActionPutImage && !strings.HasPrefix(base, containerPrefix) &&
		!strings.HasSuffix(base, "Metrics") && !strings.HasSuffix(base, "Snapshot") && !strings.HasSuffix(base, "Snapshots")
}

func prefixed(base string) string {
	return containerPrefix + strings.ToUpper(base[:1]) + base[1:]
}

// ParseAction looks an action up. Its error is a virt.ErrInvalid and names the
// action that was perhaps meant.
func ParseAction(name string) (Action, error) {
	best, distance := "", 4
	for _, a := range Actions() {
		if a.Name == name {
			return a, nil
		}
		if d := apart(strings.ToLower(name), strings.ToLower(a.Name)); d < distance {
			best, distance = a.Name, d
		}
	}
	if best != "" {
		return Action{}, fmt.Errorf("%w: there is no action %.64q (did you mean %q?)", virt.ErrInvalid, name, best)
	}
	return Action{}, fmt.Errorf("%w: there is no action %.64q", virt.ErrInvalid, name)
}

// apart is how many letters must be changed, put in or left out to make b of a.
func apart(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		before := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := before
			if a[i] != b[j] {
				change++
			}
			before = row[j+1]
			row[j+1] = min(change, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
