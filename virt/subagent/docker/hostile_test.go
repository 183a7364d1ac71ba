package docker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/docker"
)

// calls are all that dockerd is asked for.
func (b *bench) calls() map[string]func(context.Context) error {
	g := guest()
	acts := map[string]act{
		"create": b.d.CreateContainer, "undefine": b.d.UndefineContainer, "provision": b.d.ProvisionContainer, "deprovision": b.d.DeprovisionContainer,
		"delete": b.d.DeleteContainer, "undo": b.d.UndoCreate, "start": b.d.StartContainer, "run": b.d.RunContainer, "stop": b.d.StopContainer,
		"power off": b.d.PoweroffContainer, "shut down": b.d.ShutdownContainer, "reboot": b.d.RebootContainer, "restart": b.d.RestartContainer,
		"pause": b.d.PauseContainer, "unpause": b.d.UnpauseContainer,
	}
	all := map[string]func(context.Context) error{
		"status": func(ctx context.Context) error { _, err := b.d.Status(ctx, &mistify.StatusRequest{}); return err },
		"look": func(ctx context.Context) error {
			_, err := b.d.Status(ctx, &mistify.StatusRequest{ID: g.ID})
			return err
		},
		"measure": func(ctx context.Context) error {
			_, err := b.d.CPUMetrics(ctx, &mistify.GuestMetricsRequest{Guest: g})
			return err
		},
		"disks": func(ctx context.Context) error {
			_, err := b.d.DiskMetrics(ctx, &mistify.GuestMetricsRequest{Guest: g})
			return err
		},
		"nics": func(ctx context.Context) error {
			_, err := b.d.NICMetrics(ctx, &mistify.GuestMetricsRequest{Guest: g})
			return err
		},
		"images": func(ctx context.Context) error { _, err := b.d.ListImages(ctx, &mistify.ImageRequest{}); return err },
		"image": func(ctx context.Context) error {
			_, err := b.d.GetImage(ctx, &mistify.ImageRequest{ID: "x"})
			return err
		},
		"pull": func(ctx context.Context) error {
			_, err := b.d.FetchImage(ctx, &mistify.ImageRequest{ID: "x"})
			return err
		},
		"image's end": func(ctx context.Context) error {
			_, err := b.d.DeleteImage(ctx, &mistify.ImageRequest{ID: "x"})
			return err
		},
		"attach": func(ctx context.Context) error {
			_, err := b.d.Console(ctx, &mistify.ConsoleRequest{Guest: g})
			return err
		},
		"save": func(ctx context.Context) error {
			_, err := b.d.SaveContainer(ctx, &docker.SaveRequest{ID: g.ID, Dest: "x"})
			return err
		},
	}
	for name, do := range acts {
		all[name] = func(ctx context.Context) error {
			out, err := do(ctx, &mistify.GuestRequest{Guest: g, Job: "j"})
			if err == nil && out.Retry > 0 {
				return errors.New("it asks to be tried again")
			}
			return err
		}
	}
	return all
}

// A dockerd that answers with anything costs an error of the call, soon, and no
// more: the next one is answered again.
func TestHostile(t *testing.T) {
	f := newFake(t)
	b := newBench(t, f.socket, func(o *docker.Options) {
		o.Timeout, o.TransferTimeout, o.Stall, o.MaxAnswer = 300*time.Millisecond, time.Second, 300*time.Millisecond, 64<<10
	})
	hijacked := func(do func(w http.ResponseWriter)) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) { do(w) }
	}
	long := strings.Repeat("x", 128<<10)
	for name, answer := range map[string]func(http.ResponseWriter, *http.Request){
		"hangs":  func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"closes": hijacked(func(w http.ResponseWriter) { c, _, _ := http.NewResponseController(w).Hijack(); _ = c.Close() }),
		"garbage": hijacked(func(w http.ResponseWriter) {
			c, _, _ := http.NewResponseController(w).Hijack()
			_, _ = c.Write([]byte("\x00\xff garbage\r\n\r\n"))
			_ = c.Close()
		}),
		"no JSON": hijacked(func(w http.ResponseWriter) { _, _ = w.Write([]byte("<html>")) }),
		"another": hijacked(func(w http.ResponseWriter) { _, _ = w.Write([]byte(`"a text"`)) }),
		"cut":     hijacked(func(w http.ResponseWriter) { _, _ = w.Write([]byte(`{"Id":"`)) }),
		"endless": func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte("["))
			for r.Context().Err() == nil {
				if _, err := w.Write([]byte(`{"Id":"` + long + `"},`)); err != nil {
					return
				}
			}
		},
		"an endless text": func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte(`{"stream":"`))
			for r.Context().Err() == nil {
				if _, err := w.Write([]byte(long)); err != nil {
					return
				}
			}
		},
		"500":       hijacked(func(w http.ResponseWriter) { wrong(w, 500, "boom\x1b[31m\n\u202e%s", long) }),
		"503":       hijacked(func(w http.ResponseWriter) { w.WriteHeader(503) }),
		"redirects": hijacked(func(w http.ResponseWriter) { w.Header().Set("Location", "http://127.0.0.1:1/x"); w.WriteHeader(307) }),
		"headers":   hijacked(func(w http.ResponseWriter) { w.Header().Set("X", long); w.WriteHeader(200) }),
		"no id": hijacked(func(w http.ResponseWriter) {
			say(w, 200, map[string]any{"Id": "../../x", "State": map[string]any{"Status": "running"}})
		}),
		"an error": hijacked(func(w http.ResponseWriter) { _, _ = w.Write([]byte(`{"errorDetail":{"message":"no"},"error":"no"}`)) }),
		"deep":     hijacked(func(w http.ResponseWriter) { _, _ = w.Write([]byte(strings.Repeat("[", 20_000))) }),
	} {
		f.put(func() {
			f.before = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == "/_ping" && name != "hangs" {
					return false
				}
				answer(w, r)
				return true
			}
		})
		var work sync.WaitGroup
		for what, call := range b.calls() {
			work.Go(func() {
				ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
				defer cancel()
				err := call(ctx)
				if err == nil || ctx.Err() != nil {
					t.Errorf("%s of a dockerd that answers %q: %v", what, name, err)
				}
				if err != nil && (len(err.Error()) > 4096 || strings.ContainsAny(err.Error(), "\x00\x1b\u202e\n")) {
					t.Errorf("%s of a dockerd that answers %q: the error is %.200q", what, name, err)
				}
				if name == "hangs" && !errors.Is(err, virt.ErrUnreachable) {
					t.Errorf("%s of a dockerd that hangs: %v", what, err)
				}
			})
		}
		work.Wait()
		f.put(func() { f.before = nil })
		if _, err := b.d.Status(t.Context(), &mistify.StatusRequest{}); err != nil {
			t.Errorf("after %q: %v", name, err)
		}
	}
	b.left("a hostile dockerd")
}

// What dockerd says of a container is checked.
func TestLies(t *testing.T) {
	f := newFake(t)
	b := newBench(t, f.socket, func(o *docker.Options) { o.MaxContainers = 3 })
	g := guest()
	good := map[string]any{
		"Id": sum("x"), "Name": "/" + g.ID, "State": map[string]any{"Status": "running"}, "Config": map[string]any{"Labels": map[string]string{"vagoth.guest": g.ID}},
		"HostConfig": map[string]any{}, "NetworkSettings": map[string]any{},
	}
	lie := func(what any) {
		f.put(func() {
			f.before = func(w http.ResponseWriter, r *http.Request) bool {
				if r.URL.Path == "/_ping" || strings.HasSuffix(r.URL.Path, "/info") {
					return false
				}
				say(w, 200, what)
				return true
			}
		})
	}
	for key, value := range map[string]any{"Id": "short", "Name": "/other", "State": nil, "Config": nil, "HostConfig": nil, "NetworkSettings": nil} {
		one := map[string]any{}
		for k, v := range good {
			one[k] = v
		}
		one[key] = value
		lie(one)
		b.fails(fmt.Sprint(key, " is ", value), b.d.StartContainer, g, virt.ErrUnreachable)
	}
	good["State"] = map[string]any{"Status": "flying"}
	lie(good)
	b.fails("a state that is none", b.d.StartContainer, g, virt.ErrUnreachable)
	listed := func(id, name, guest, state string) map[string]any {
		return map[string]any{"Id": id, "Names": []string{name}, "Labels": map[string]string{"vagoth.guest": guest}, "State": state}
	}
	for name, list := range map[string]any{
		"too many": []any{1, 2, 3, 4}, "an id": []any{listed("x", "/"+g.ID, g.ID, "running")}, "a state": []any{listed(sum("x"), "/"+g.ID, g.ID, "flying")},
		"twice": []any{listed(sum("x"), "/"+g.ID, g.ID, "running"), listed(sum("y"), "/"+g.ID, g.ID, "running")},
		"four":  []any{listed(sum("1"), "/a", "a", "running"), listed(sum("2"), "/b", "b", "running"), listed(sum("3"), "/c", "c", "running"), listed(sum("4"), "/d", "d", "running")},
	} {
		lie(list)
		_, err := b.d.Status(t.Context(), &mistify.StatusRequest{})
		b.refused("a listing with "+name, err, virt.ErrUnreachable)
	}
}

// A dockerd that is gone is waited for by jobs, for a while, and by nobody else; one
// that comes back is asked again, whatever version it is.
func TestGone(t *testing.T) {
	f := newFake(t)
	now := time.Unix(1_000_000_000, 0)
	b := newBench(t, f.socket, func(o *docker.Options) { o.Patience, o.Now = 30*time.Second, func() time.Time { return now } })
	g := guest()
	b.must(b.d.CreateContainer, g, "shutoff")
	f.close()
	start := func() (*mistify.GuestResponse, error) {
		return b.d.StartContainer(t.Context(), &mistify.GuestRequest{Guest: g})
	}
	out, err := start()
	if err != nil || out.Retry < 1 || !strings.Contains(out.Message, "dockerd") || out.Guest.ID != g.ID {
		t.Errorf("it was just gone: %+v (%v)", out, err)
	}
	_, err = b.d.Status(t.Context(), &mistify.StatusRequest{})
	b.refused("a listing", err, virt.ErrUnreachable)
	now = now.Add(time.Minute)
	if _, err := start(); !errors.Is(err, virt.ErrUnreachable) || !strings.Contains(err.Error(), "is dockerd running?") {
		t.Errorf("it is gone for long: %v", err)
	}
	f.listen()
	if out, err := start(); err != nil || out.Guest.State != "running" {
		t.Errorf("it is back: %+v (%v)", out, err)
	}
	f.close()
	if out, err := start(); err != nil || out.Retry < 1 {
		t.Errorf("it is gone again: %+v (%v)", out, err)
	}
	f.listen()
}

// What dockerd is told of a container is within what the config says.
func TestBounds(t *testing.T) {
	f := newFake(t)
	b := newBench(t, f.socket, func(o *docker.Options) { o.MaxPIDs, o.MaxLog, o.Timeout = 77, 2<<20, 100*time.Millisecond })
	var told struct {
		Hostname   string
		HostConfig struct {
			PidsLimit, Memory, MemorySwap int64
			Privileged                    bool
			NetworkMode                   string
			LogConfig                     struct{ Config map[string]string }
			RestartPolicy                 struct{ Name string }
			PortBindings                  map[string][]struct{ HostIp, HostPort string }
		}
	}
	f.put(func() {
		f.before = func(w http.ResponseWriter, r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, "/containers/create") {
				_ = json.NewDecoder(r.Body).Decode(&told)
				wrong(w, 409, "enough")
				return true
			}
			return false
		}
	})
	g := guest()
	b.fails("create", b.d.CreateContainer, g, virt.ErrConflict)
	h := told.HostConfig
	if told.Hostname != g.Name || h.PidsLimit != 77 || h.Memory != 64<<20 || h.MemorySwap != 64<<20 || h.Privileged || h.NetworkMode != "none" || h.LogConfig.Config["max-size"] != "1048576" || h.RestartPolicy.Name != "no" {
		t.Errorf("dockerd is told %+v", told)
	}
	g.NICs = []mistify.NIC{{Type: "user", Forward: []virt.Forward{{Port: 8080, To: 80}}}}
	b.fails("create", b.d.CreateContainer, g, virt.ErrConflict)
	if at := told.HostConfig.PortBindings["80/tcp"]; told.HostConfig.NetworkMode != "bridge" || len(at) != 1 || at[0].HostIp != "127.0.0.1" || at[0].HostPort != "8080" {
		t.Errorf("dockerd is told %+v", told)
	}
}
