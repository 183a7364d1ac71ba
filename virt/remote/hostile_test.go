package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

const patience = time.Second

// impatient is a driver that gives up soon and takes little.
func impatient(t testing.TB) *Driver { return waiting(t, patience, 300*time.Millisecond) }

func waiting(t testing.TB, answer, job time.Duration) *Driver {
	return open(t, func(c *Config) {
		c.Timeout, c.JobTimeout, c.MaxAnswer, c.Token = answer, job, 64<<10, component.NewSecret("geheim")
	})
}

// nonsense is what a bad agent does with a request. It ends when the test does
// or the client goes away.
func nonsense() map[string]func(w http.ResponseWriter, r *http.Request) {
	hold := func(r *http.Request) {
		select {
		case <-r.Context().Done():
		case <-time.After(10 * time.Second):
		}
	}
	body := func(text string) func(http.ResponseWriter, *http.Request) {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set(mistify.HeaderJob, uuid.NewString())
			_, _ = w.Write([]byte(text))
		}
	}
	return map[string]func(w http.ResponseWriter, r *http.Request){
		"hang": func(_ http.ResponseWriter, r *http.Request) { hold(r) },
		"trickle": func(w http.ResponseWriter, r *http.Request) {
			for range 1000 {
				if _, err := w.Write([]byte(" ")); err != nil || r.Context().Err() != nil {
					return
				}
				w.(http.Flusher).Flush()
				select {
				case <-r.Context().Done():
				case <-time.After(patience / 10):
				}
			}
		},
		"headers and no more": func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(200)
			w.(http.Flusher).Flush()
			hold(r)
		},
		"garbage":      body("<html>welcome to our network</html>"),
		"empty":        body(""),
		"null":         body("null"),
		"another type": body("[1,2,3]"),
		"two values":   body("{} {}"),
		"cut short": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write([]byte(`{"complete": true, "guests": [`))
		},
		"reset": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
		"huge": func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write([]byte(`{"problems": ["`))
			for chunk := bytes.Repeat([]byte("a"), 32<<10); r.Context().Err() == nil; {
				if _, err := w.Write(chunk); err != nil {
					return
				}
			}
		},
		"huge by its length": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1099511627776")
			_, _ = w.Write([]byte("{"))
		},
		"packed": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write([]byte{0x1f, 0x8b, 8, 0})
		},
		"huge header": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-More", strings.Repeat("a", 1<<20))
			_, _ = w.Write([]byte("{}"))
		},
		"a hundred headers said early": func(w http.ResponseWriter, _ *http.Request) {
			for range 100 {
				w.WriteHeader(http.StatusEarlyHints)
			}
			panic(http.ErrAbortHandler)
		},
	}
}

// A hostile agent costs one error in time, whatever it was asked.
func TestHostileAgent(t *testing.T) {
	for name, do := range nonsense() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // so that the server sees when the client goes away
				do(w, r)
			}))
			defer srv.Close()
			defer srv.CloseClientConnections()
			d, h, g := impatient(t), virt.Host{ID: "h1", Address: srv.URL}, vm("web")
			long := name == "huge" || name == "huge by its length"
			if long { // it is not the time that ends it
				d = waiting(t, time.Minute, time.Minute)
			}
			var calls sync.WaitGroup
			ask := func(what string, call func(context.Context, virt.Host, virt.Guest) error) {
				began := time.Now()
				err := call(t.Context(), h, g)
				if took := time.Since(began); took > 3*time.Second && !long {
					t.Errorf("%s took %v", what, took)
				}
				if name == "null" && what == "status" {
					return // no listing, not complete
				}
				if !errors.Is(err, virt.ErrUnreachable) {
					t.Errorf("%s: got error %v, want one that is ErrUnreachable", what, err)
				}
				if long && err != nil && !strings.Contains(err.Error(), errTooLong.Error()) {
					t.Errorf("%s: it was read to the end, or until the time was over: %v", what, err)
				}
				if err != nil && (len(err.Error()) > 2000 || strings.Contains(err.Error(), "geheim")) {
					t.Errorf("%s: the error has %d bytes, or the token: %.2000s", what, len(err.Error()), err)
				}
			}
			for what, call := range every(d) {
				calls.Go(func() { ask(what, call) })
			}
			calls.Wait()
			if l, err := d.Status(t.Context(), h); err == nil && l.Complete {
				t.Errorf("nonsense was taken for the complete listing %+v", l)
			}
		})
	}
}

// every is every call of the driver.
func every(d *Driver) map[string]func(context.Context, virt.Host, virt.Guest) error {
	power := func(op virt.PowerOp) func(context.Context, virt.Host, virt.Guest) error {
		return func(ctx context.Context, h virt.Host, g virt.Guest) error { return d.Power(ctx, h, g, op) }
	}
	return map[string]func(context.Context, virt.Host, virt.Guest) error{
		"status": func(ctx context.Context, h virt.Host, _ virt.Guest) error { _, err := d.Status(ctx, h); return err },
		"info":   func(ctx context.Context, h virt.Host, g virt.Guest) error { _, err := d.Info(ctx, h, g); return err },
		"define": d.Define, "undefine": d.Undefine, "provision": d.Provision, "deprovision": d.Deprovision, "suspend": d.Suspend, "resume": d.Resume,
		"start": power(virt.PowerStart), "stop": power(virt.PowerStop), "shutdown": power(virt.PowerShutdown), "reboot": power(virt.PowerReboot),
	}
}

func TestNobodyListens(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	h := virt.Host{ID: "h1", Address: "http://" + ln.Addr().String()}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	d := impatient(t)
	for what, call := range every(d) {
		if err := call(t.Context(), h, vm("web")); !errors.Is(err, virt.ErrUnreachable) {
			t.Errorf("%s: got error %v, want one that is ErrUnreachable", what, err)
		}
	}
}

// A redirect is not followed: where it leads gets neither the request nor the
// token.
func TestRedirect(t *testing.T) {
	var led atomic.Int64
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		led.Add(1)
		_, _ = w.Write([]byte(`{"complete": true}`))
	}))
	defer elsewhere.Close()
	for _, status := range []int{301, 302, 303, 307, 308} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, elsewhere.URL+r.URL.Path, status)
		}))
		d := impatient(t)
		for what, call := range every(d) {
			if err := call(t.Context(), virt.Host{ID: "h1", Address: srv.URL}, vm("web")); err == nil {
				t.Errorf("%s: a redirect with %d was taken for an answer", what, status)
			}
		}
		srv.Close()
	}
	if n := led.Load(); n > 0 {
		t.Errorf("%d requests went elsewhere", n)
	}
}

// What a listing says is checked guest by guest.
func TestHostileListing(t *testing.T) {
	good, other := uuid.NewString(), uuid.NewString()
	guest := func(id string) string { return fmt.Sprintf(`{"id": %q, "name": "web", "state": "running"}`, id) }
	many := make([]string, 20)
	for i := range many {
		many[i] = guest(uuid.NewString())
	}
	for name, c := range map[string]struct {
		guests   string
		complete bool
		want     int
	}{
		"good":           {guest(good) + "," + guest(other), true, 2},
		"twice":          {guest(good) + "," + guest(good), false, 1},
		"twice, once up": {guest(good) + "," + guest(strings.ToUpper(good)), false, 1},
		"no id":          {`{"name": "x"},` + guest(good), false, 1},
		"a path":         {guest("../../etc/passwd"), false, 0},
		"null":           {"null", false, 0},
		"odd values": {`{"id": "` + good + `", "name": "a\u001b[31m\u202e\u0000", "state": "dancing", "cpu": -5, "memory": 9223372036854775807, "cpu_time": -1e308,
			"vnc": "a\nb", "addresses": ["\u0000"]}`, true, 1},
		"too many": {strings.Join(many, ","), false, -1},
	} {
		t.Run(name, func(t *testing.T) {
			srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				_, _ = fmt.Fprintf(w, `{"complete": true, "guests": [%s], "capacity": {"cpu": -1, "memory": 9223372036854775807}}`, c.guests)
			}))
			defer srv.Close()
			d := open(t, func(c *Config) { c.MaxGuests = 10 })
			h := virt.Host{ID: "h1", Address: srv.URL}
			l, err := d.Status(t.Context(), h)
			if c.want < 0 {
				if !errors.Is(err, virt.ErrUnreachable) {
					t.Errorf("got %d guests, error %v, want one that is ErrUnreachable", len(l.Guests), err)
				}
				return
			}
			if err != nil || l.Complete != c.complete || len(l.Guests) != c.want {
				t.Fatalf("the listing is %+v (%v), want %d guests, complete: %v", l, err, c.want, c.complete)
			}
			if l.Capacity.CPU != 0 || l.Capacity.Memory != 1<<40 {
				t.Errorf("the capacity is %+v", l.Capacity)
			}
			if name != "odd values" {
				return
			}
			info, err := d.Info(t.Context(), h, virt.Guest{ID: "web", UUID: good})
			if err != nil || info.State != virt.Unknown || info.CPU != 0 || info.Memory != 1<<40 || info.CPUTime != 0 {
				t.Errorf("of odd values it makes %+v (%v)", info, err)
			}
			for _, text := range append(info.Addresses, info.Name, info.VNC) {
				if strings.ContainsAny(text, "\x00\x1b\n\u202e") {
					t.Errorf("it passes on %q", text)
				}
			}
		})
	}
}

// An agent that ends answers at once that something is under way, and is asked again no
// faster for it.
func TestSettleTakesItsTime(t *testing.T) {
	var asked atomic.Int32
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		_, _ = io.WriteString(w, `{"jobs": 3}`)
	}))
	defer srv.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	err := impatient(t).Settle(ctx, virt.Host{ID: "h1", Address: srv.URL}, vm("web"))
	if err == nil || asked.Load() == 0 || asked.Load() > 40 {
		t.Errorf("asked %d times in a second: %v", asked.Load(), err)
	}
}
