package agent

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// attach is a console that repeats lines until one is "exit".
func (s *sub) attach(_ context.Context, r *mistify.ConsoleRequest) (io.ReadWriteCloser, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.refusal != nil {
		return nil, s.refusal
	}
	s.consoles++
	typed, in := io.Pipe()
	out, shows := io.Pipe()
	e := &echoing{in: in, out: out}
	e.end = sync.OnceFunc(func() {
		_ = typed.CloseWithError(io.ErrClosedPipe)
		_ = shows.Close()
		s.set(func(s *sub) { s.consoles-- })
	})
	go func() {
		defer e.end()
		if _, err := io.WriteString(shows, "console of "+r.Guest.ID+"\n"); err != nil {
			return
		}
		for lines := bufio.NewScanner(typed); lines.Scan() && lines.Text() != "exit"; {
			if _, err := io.WriteString(shows, lines.Text()+"\n"); err != nil {
				return
			}
		}
	}()
	return e, nil
}

type echoing struct {
	in  io.WriteCloser
	out io.ReadCloser
	end func()
}

func (e *echoing) Read(p []byte) (int, error)  { return e.out.Read(p) }
func (e *echoing) Write(p []byte) (int, error) { return e.in.Write(p) }
func (e *echoing) Close() error                { e.end(); return e.out.Close() }

// attached waits until the sub-agent has so many consoles.
func (h *host) attached(n int) {
	h.t.Helper()
	h.until("consoles that are attached", func() bool {
		h.sub.mu.Lock()
		defer h.sub.mu.Unlock()
		return h.sub.consoles == n
	})
}

// console attaches, and reads the first line.
func (h *host) console() (io.ReadWriteCloser, *bufio.Reader) {
	h.t.Helper()
	rw, err := h.client.Console(context.Background(), vm1)
	if err != nil {
		h.t.Fatal(err)
	}
	lines := bufio.NewReader(rw)
	if got, err := lines.ReadString('\n'); err != nil || got != "console of "+vm1+"\n" {
		h.t.Fatalf("it begins with %q, %v", got, err)
	}
	return rw, lines
}

// A console is a line to the guest until either side ends it, and takes none of
// the places of other questions meanwhile.
func TestConsole(t *testing.T) {
	cfg := testConfig()
	cfg.Services["test"] = ServiceConfig{MaxPending: 1}
	cfg.MaxStreams = 2
	h := newHost(t, hostOptions{cfg: &cfg})
	h.create(vm1)

	rw, lines := h.console()
	for _, text := range []string{"hello\n", strings.Repeat("x", 3*mistify.MaxTyped) + "\n"} {
		if _, err := io.WriteString(rw, text); err != nil {
			t.Fatal(err)
		}
		if got, err := lines.ReadString('\n'); err != nil || got != text {
			t.Fatalf("%.20q is answered %.20q, %v", text, got, err)
		}
	}
	second, _ := h.console()
	h.want(200, "GET", "/guests/"+vm1+"/metrics/cpu", "") // though there is one place only
	if _, err := h.client.Console(t.Context(), vm1); !errors.Is(err, mistify.KindTooMany.Err()) {
		t.Errorf("a third: %v", err)
	}

	if _, err := io.WriteString(rw, "exit\n"); err != nil {
		t.Fatal(err)
	}
	if rest, err := io.ReadAll(lines); err != nil || len(rest) > 0 {
		t.Errorf("the guest's end reads as %q, %v", rest, err)
	}
	_ = rw.Close()
	h.attached(1)
	if err := second.Close(); err != nil { // what the client gives up, the sub-agent does
		t.Error(err)
	}
	h.attached(0)
	h.until("its places are free", func() bool { return h.agent.typists.len() == 0 && len(h.agent.services["test"].places) == 0 })
}

// A sub-agent that refuses, or does not attach in time, is an error, and no console
// is left.
func TestConsoleRefused(t *testing.T) {
	cfg := testConfig()
	cfg.InfoTimeout = 200 * time.Millisecond
	cfg.Services["hangs"], cfg.Services["down"] = ServiceConfig{}, ServiceConfig{Port: 1}
	h := newHost(t, hostOptions{cfg: &cfg, subs: map[string]http.Handler{"hangs": http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	})}})
	h.create(vm1)
	h.sub.set(func(s *sub) { s.refusal = virt.ErrConflict })
	if _, err := h.client.Console(t.Context(), vm1); !errors.Is(err, virt.ErrConflict) {
		t.Errorf("of one that is off: %v", err)
	}
	if _, err := h.client.Console(t.Context(), none); !errors.Is(err, virt.ErrNotFound) {
		t.Errorf("of one that is not there: %v", err)
	}
	for service, want := range map[string]error{"hangs": mistify.KindTimeout.Err(), "down": virt.ErrUnreachable} {
		h.agent.actions[mistify.ActionConsole].stages[0].service = h.agent.services[service]
		if _, err := h.client.Console(t.Context(), vm1); !errors.Is(err, want) {
			t.Errorf("of a sub-agent that %s: %v", service, err)
		}
	}
	h.attached(0)
}

// Who may not is told so, though the body of the request has not ended.
func TestConsoleOfStrangers(t *testing.T) {
	store, _ := someTokens(t)
	h := newHost(t, hostOptions{deps: Deps{Auth: store}})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if _, err := h.client.Console(ctx, vm1); !errors.Is(err, mistify.KindDenied.Err()) {
		t.Errorf("nobody: %v", err)
	}
}

// A server that stops ends its consoles.
func TestConsoleEnds(t *testing.T) {
	draining := make(chan struct{})
	h := newHost(t, hostOptions{deps: Deps{Draining: draining}})
	h.create(vm1)
	rw, lines := h.console()
	defer func() { _ = rw.Close() }()
	close(draining)
	if rest, err := io.ReadAll(lines); err != nil || len(rest) > 0 {
		t.Errorf("the server's end reads as %q, %v", rest, err)
	}
	h.attached(0)
}
