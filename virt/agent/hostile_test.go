package agent

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/auth"
	"github.com/vagoth/vagoth/virt/mistify"
)

type panics struct{ on bool }

func (p *panics) Authenticate(*http.Request) (auth.Identity, error) {
	if p.on {
		panic("in a handler")
	}
	return auth.Identity{Name: "x", Role: auth.Admin}, nil
}

// A panic costs one request.
func TestPanic(t *testing.T) {
	p := &panics{on: true}
	h := newHost(t, hostOptions{deps: Deps{Auth: p}})
	a := h.want(500, "GET", "/guests", "")
	if strings.Contains(a.body, "in a handler") || strings.Contains(a.body, "goroutine") {
		t.Errorf("it tells too much: %s", a.body)
	}
	p.on = false
	h.want(200, "GET", "/guests", "")
	if !strings.Contains(h.log.String(), "in a handler") {
		t.Error("the log does not have it")
	}
}

// hostile are services that answer badly.
func hostile(t *testing.T, stop chan struct{}) map[string]http.Handler {
	text := func(s string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(s)) })
	}
	return map[string]http.Handler{
		"hangs": http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-r.Context().Done():
			case <-stop:
			}
		}),
		"one byte at a time": http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			for i := 0; ; i++ {
				if _, err := w.Write([]byte(" ")); err != nil {
					return
				}
				http.NewResponseController(w).Flush()
				select {
				case <-tick.C:
				case <-r.Context().Done():
					return
				case <-stop:
					return
				}
			}
		}),
		"garbage":     text("\x00\xff<html>"),
		"null":        text("null"),
		"no result":   text(`{"result":null,"error":null,"id":1}`),
		"wrong types": text(`{"result":{"guest":7},"error":null,"id":1}`),
		"a list":      text(`[1,2,3]`),
		"deep":        text(strings.Repeat(`{"result":`, 100_000)),
		"odd error":   text(`{"result":null,"error":{"a":[1]},"id":1}`),
		"no id":       text(`{"result":{"guest":{}}}`),
		"bad guest":   text(`{"result":{"guest":{"id":"` + vm1 + `","type":"vm","metadata":{"\u0000":"x"}}}}`),
		"closes":      http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }),
		"500":         http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "\x1b[31mboom", 500) }),
		"redirect":    http.RedirectHandler("http://127.0.0.1:1/", http.StatusTemporaryRedirect),
		"huge": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			b := make([]byte, 1<<20)
			for range 20 {
				if _, err := w.Write(b); err != nil {
					return
				}
			}
		}),
		"breaks off": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte(`{"result"`))
		}),
		"many headers": http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for i := range 2000 {
				w.Header().Set(fmt.Sprint("X-", i), strings.Repeat("a", 100))
			}
			w.WriteHeader(200)
		}),
	}
}

// Whatever a service does, it fails in its deadline and holds up no other guest.
func TestHostileService(t *testing.T) {
	stop := make(chan struct{})
	defer close(stop)
	all := hostile(t, stop)
	cfg := testConfig()
	subs := map[string]http.Handler{}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := l.Addr().(*net.TCPAddr).Port
	l.Close()
	names := map[string]string{} // of the case, by action
	actions := []string{"start", "shutdown", "reboot", "restart", "poweroff", "suspend", "resume", "define", "undefine", "deprovision", "provision", "run", "containerStart", "containerShutdown", "containerReboot", "containerRestart", "containerPoweroff", "containerSuspend"}
	i := 0
	for name, handler := range all {
		service := fmt.Sprintf("bad%d", i)
		cfg.Services[service] = ServiceConfig{MaxPending: 1, Timeout: 300 * time.Millisecond}
		subs[service] = handler
		cfg.Actions[actions[i]] = ActionConfig{Stages: []Stage{{Service: service, Method: "Bad.Do"}}}
		names[actions[i]] = name
		i++
	}
	cfg.Services["dead"] = ServiceConfig{Port: dead}
	cfg.Actions[actions[i]] = ActionConfig{Stages: []Stage{{Service: "dead", Method: "Bad.Do"}}}
	names[actions[i]] = "dead port"
	h := newHost(t, hostOptions{cfg: &cfg, subs: subs})
	h.create(vm1)
	begin := time.Now()
	for action, name := range names {
		t.Run(name, func(t *testing.T) {
			p := h.agent.actions[action]
			at := p.stages[0]
			g := benchGuest(1)
			g.ID = vm1
			if err := at.service.acquire(t.Context()); err != nil {
				t.Fatal(err)
			}
			asked := time.Now()
			out, err := h.agent.callStage(t.Context(), p, at, &state{Job: mistify.Job{ID: "x", GuestID: vm1}, Guest: g})
			if err == nil {
				t.Errorf("it was taken for an answer: %+v", out.guest)
			} else if strings.ContainsAny(err.Error(), "\x00\x1b\n") {
				t.Errorf("its error goes raw into logs: %q", err)
			}
			if took := time.Since(asked); took > 2*time.Second {
				t.Errorf("it took %v", took)
			}
			if n := len(at.service.places); n != 0 {
				t.Errorf("%d places are still taken", n)
			}
		})
	}
	// All of them at once, as jobs of one guest each, and a guest that uses another service.
	for action := range names {
		if strings.HasPrefix(action, "container") || action == "run" || action == "undefine" {
			continue
		}
		h.want(202, "POST", "/guests/"+vm1+"/"+action, "")
	}
	h.create(uuidOf(5))
	h.until("all have failed", func() bool { n, _ := h.agent.store.lengths(vm1); return n == 0 })
	if took := time.Since(begin); took > 15*time.Second {
		t.Errorf("all together took %v", took)
	}
	for _, j := range h.agent.store.latest(vm1, 100) {
		if j.Action != "create" && j.Status != mistify.JobError {
			t.Errorf("%+v", j)
		}
	}
	h.create(uuidOf(6))
}
