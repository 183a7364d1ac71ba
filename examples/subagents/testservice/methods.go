package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

type (
	guestMethod    = func(context.Context, *mistify.GuestRequest) (*mistify.GuestResponse, error)
	imageMethod    = func(context.Context, *mistify.ImageRequest) (*mistify.ImageResponse, error)
	snapshotMethod = func(context.Context, *mistify.SnapshotRequest) (*mistify.SnapshotResponse, error)
)

// register names every method, by the names in the configs of Mistify.
func (h *host) register(s *mistify.Server) {
	for name, state := range map[string]virt.State{
		"Create": virt.Running, "Start": virt.Running, "Run": virt.Running, "Reboot": virt.Running, "Restart": virt.Running, "Resume": virt.Running,
		"Define": virt.Stopped, "Provision": asItIs, "Deprovision": asItIs, "Poweroff": virt.Stopped, "Shutdown": virt.Stopped, "Suspend": virt.Paused,
		"CreateContainer": virt.Running, "StartContainer": virt.Running, "RunContainer": virt.Running, "RebootContainer": virt.Running, "RestartContainer": virt.Running,
		"ResumeContainer": virt.Running, "DefineContainer": virt.Stopped, "ProvisionContainer": asItIs, "DeprovisionContainer": asItIs, "StopContainer": virt.Stopped, "SuspendContainer": virt.Paused,
	} {
		mistify.Register(s, "Test."+name, h.guest("Test."+name, state))
	}
	for _, name := range []string{"Delete", "Undefine", "Migrate", "DeleteContainer", "UndefineContainer", "MigrateContainer"} {
		mistify.Register(s, "Test."+name, h.guest("Test."+name, gone))
	}
	for name, kind := range map[string]string{
		"CpuMetrics": mistify.MetricsCPU, "CPUMetrics": mistify.MetricsCPU, "DiskMetrics": mistify.MetricsDisk, "NicMetrics": mistify.MetricsNIC,
	} {
		mistify.Register(s, "Test."+name, metrics(kind))
	}
	for suffix, kind := range map[string]string{"Image": "", "ContainerImage": mistify.TypeContainer} {
		images := &h.images
		mistify.Register(s, "Test.List"+suffix+"s", images.list(kind))
		mistify.Register(s, "Test.Get"+suffix, images.get(kind))
		mistify.Register(s, "Test.Delete"+suffix, images.remove(kind))
		for _, verb := range []string{"Fetch", "Request", "Pull"} {
			mistify.Register(s, "Test."+verb+suffix, images.fetch(kind))
		}
	}
	mistify.RegisterUpload(s, "Test.PutImage", func(ctx context.Context, r *mistify.ImageRequest, content io.ReadCloser) (*mistify.ImageResponse, error) {
		if _, err := io.Copy(io.Discard, content); err != nil {
			return nil, fmt.Errorf("what was sent as %s broke off: %w", r.ID, err)
		}
		return h.images.fetch("")(ctx, r)
	})
	mistify.Register(s, "Test.SaveContainer", func(ctx context.Context, r *mistify.SaveRequest) (*mistify.ImageResponse, error) {
		return h.images.fetch(mistify.TypeContainer)(ctx, &mistify.ImageRequest{ID: r.Dest})
	})
	mistify.Register(s, "Test.ListSnapshots", h.snapshots.do(list))
	mistify.Register(s, "Test.GetSnapshot", h.snapshots.do(get))
	mistify.Register(s, "Test.CreateSnapshot", h.snapshots.do(create))
	mistify.Register(s, "Test.DeleteSnapshot", h.snapshots.do(remove))
	mistify.Register(s, "Test.RollbackSnapshot", h.snapshots.do(rollback))
	mistify.RegisterStream(s, "Test.DownloadSnapshot", "/snapshots/download", h.download)
	mistify.Register(s, "Test.Status", h.status)
	mistify.RegisterConsole(s, "Test.Console", "Test.TypeConsole", h.console)
	mistify.RegisterConsole(s, "Test.ConsoleContainer", "Test.TypeConsoleContainer", h.console)
}

// What a method does to a guest beside giving it a state of virt.
const (
	gone   virt.State = "gone" // it is not on the host any more
	asItIs virt.State = ""
)

// guest returns a method that puts a guest into a state.
func (h *host) guest(method string, state virt.State) guestMethod {
	return func(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
		if r.Guest == nil {
			return nil, fmt.Errorf("%w request: it has no guest", virt.ErrInvalid)
		}
		if err := r.Guest.Validate(); err != nil {
			return nil, err
		}
		if err := h.note(ctx, method, r.Guest.ID); err != nil {
			return nil, err
		}
		if err := sleep(ctx, h.delay); err != nil {
			return nil, err
		}
		if response, err := h.misbehave(ctx, method, r); response != nil || err != nil {
			return response, err
		}
		if state == asItIs {
			return &mistify.GuestResponse{Guest: r.Guest, Message: "done by " + method}, nil
		}
		r.Guest.State = string(state)
		if err := h.put(r.Guest, state == gone); err != nil {
			return nil, err
		}
		return &mistify.GuestResponse{Guest: r.Guest, Message: "done by " + method}, nil
	}
}

// misbehave does what the args of the stage say:
//
//	delay    waits so long first, such as 2s
//	fail     fails with this text; kind is its kind, such as busy
//	panic    panics with this text
//	noguest  answers without a guest
//	retry    asks to be asked again in a second, this many times for each guest
func (h *host) misbehave(ctx context.Context, method string, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	if text := r.Args["delay"]; text != "" {
		d, err := time.ParseDuration(text)
		if err != nil {
			return nil, fmt.Errorf("%w args: delay: %w", virt.ErrInvalid, err)
		}
		if err := sleep(ctx, d); err != nil {
			return nil, err
		}
	}
	if text := r.Args["panic"]; text != "" {
		panic(text)
	}
	if text := r.Args["fail"]; text != "" {
		if err := mistify.ErrorKind(r.Args["kind"]).Err(); err != nil {
			return nil, fmt.Errorf("%s: %w", text, err)
		}
		return nil, errors.New(text)
	}
	if r.Args["noguest"] != "" {
		return &mistify.GuestResponse{Message: "no guest here"}, nil
	}
	if text := r.Args["retry"]; text != "" {
		times, err := strconv.Atoi(text)
		if err != nil {
			return nil, fmt.Errorf("%w args: retry: %w", virt.ErrInvalid, err)
		}
		if h.once(method+" "+r.Guest.ID) <= times {
			return &mistify.GuestResponse{Guest: r.Guest, Message: "not yet", Retry: 1}, nil
		}
	}
	return nil, nil
}

func sleep(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// note writes the call down.
func (h *host) note(ctx context.Context, method, guest string) error {
	if h.record == nil {
		return nil
	}
	t := trail.From(ctx)
	line, err := json.Marshal(struct {
		Method, Guest, Job, Transaction, Source, Reason, Token string
		Attempt                                                int
	}{method, guest, t.Job, t.Transaction, t.Source, t.Reason, t.Token.String(), t.Attempt})
	if err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err = h.record.Write(append(line, '\n'))
	return err
}

// metrics returns a method that measures a guest: all its counters are zero.
func metrics(kind string) func(context.Context, *mistify.GuestMetricsRequest) (*mistify.GuestMetricsResponse, error) {
	return func(_ context.Context, r *mistify.GuestMetricsRequest) (*mistify.GuestMetricsResponse, error) {
		if r.Guest == nil {
			return nil, fmt.Errorf("%w request: it has no guest", virt.ErrInvalid)
		}
		out := &mistify.GuestMetricsResponse{Guest: r.Guest, Type: kind}
		switch kind {
		case mistify.MetricsCPU:
			out.CPU = make([]mistify.CPUMetrics, min(max(1, r.Guest.CPU), 1024))
		case mistify.MetricsDisk:
			out.Disk = map[string]mistify.DiskMetrics{"vda": {Disk: "vda"}}
			for _, d := range r.Guest.Disks {
				if d.Device != "" {
					out.Disk[d.Device] = mistify.DiskMetrics{Disk: d.Device}
				}
			}
		case mistify.MetricsNIC:
			out.NIC = map[string]mistify.NICMetrics{"net0": {Name: "net0"}}
			for _, n := range r.Guest.NICs {
				if n.Name != "" {
					out.NIC[n.Name] = mistify.NICMetrics{Name: n.Name}
				}
			}
		}
		return out, nil
	}
}

// download gives a snapshot's bytes: foobar, or as many as were asked for.
func (h *host) download(_ context.Context, r *mistify.SnapshotRequest) (*mistify.Download, error) {
	if _, err := mistify.ParseSnapshotID(r.ID); err != nil {
		return nil, err
	}
	if !h.snapshots.has(r.ID) {
		return nil, fmt.Errorf("the snapshot %s: %w", r.ID, virt.ErrNotFound)
	}
	const text = "foobar"
	size := h.size
	if size <= 0 {
		size = int64(len(text))
	}
	return &mistify.Download{ReadCloser: io.NopCloser(io.LimitReader(&repeat{text: text}, size)), Length: size}, nil
}

// repeat gives a text again and again.
type repeat struct {
	text string
	at   int
}

func (r *repeat) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		k := copy(p[n:], r.text[r.at:])
		n, r.at = n+k, (r.at+k)%len(r.text)
	}
	return n, nil
}

func (h *host) status(_ context.Context, r *mistify.StatusRequest) (*mistify.StatusResponse, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := &mistify.StatusResponse{Complete: true, Guests: []mistify.Seen{}, Capacity: virt.Capacity{CPU: 8, Memory: 16384, Disk: 1 << 20}}
	for id, g := range h.guests {
		if r.ID == "" || r.ID == id {
			out.Guests = append(out.Guests, mistify.Seen{ID: id, Name: g.Name, Type: g.Type, State: virt.State(g.State), CPU: int(min(g.CPU, 1<<20)), Memory: int64(min(g.Memory, 1<<40))})
		}
	}
	return out, nil
}
