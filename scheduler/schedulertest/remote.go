package schedulertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vagoth/vagoth/scheduler"
)

// Endpoint is a scheduler behind HTTP.
type Endpoint struct {
	// Handler is what the server serves. In the place of credentials it takes a
	// worker's name from the header Authorization: Bearer NAME; who sends none is
	// somebody of this machine.
	Handler http.Handler
	// Client makes a worker's view of it. Whatever it asks goes through the
	// transport; the host's name does not matter.
	Client func(transport http.RoundTripper) scheduler.Broker
}

// Serve puts a scheduler behind HTTP.
type Serve func(t *testing.T, s scheduler.Scheduler) Endpoint

// Remote runs what Leased promises to workers through HTTP, with connections
// that break and answers that get lost. Server and client speak through pipes in
// the process, so that this too happens in fake time.
func Remote(t *testing.T, open Opener, serve Serve) {
	t.Helper()
	over := func(fn func(h *hands, w *wire)) func(h *hands) {
		return func(h *hands) {
			w := connect(h, serve)
			defer w.close()
			fn(h, w)
		}
	}
	for _, list := range [][]hand{leases(), waits(), prevented()} {
		for _, c := range list {
			t.Run(c.name, func(t *testing.T) { inHands(t, open, standard(), over(func(h *hands, _ *wire) { c.fn(h) })) })
		}
	}
	for _, c := range []struct {
		name string
		fn   func(h *hands, w *wire)
	}{
		{"http/answer-of-complete-lost", lostComplete},
		{"http/answer-of-next-lost", lostNext},
		{"http/worker-vanishes-while-it-waits", vanishesWaiting},
		{"http/worker-vanishes-with-a-job", vanishesWorking},
		{"http/request-cut-off", cutOff},
		{"http/many", manyAtOnce},
		{"http/odd-content", oddContent},
	} {
		t.Run(c.name, func(t *testing.T) { inHands(t, open, standard(), over(c.fn)) })
	}
}

// wire is what lies between a worker and the scheduler.
type wire struct {
	h         *hands
	server    *http.Server
	transport *http.Transport
	accept    chan net.Conn
	closed    chan struct{}
	once      sync.Once
	serving   sync.WaitGroup

	mu    sync.Mutex
	conns []net.Conn
	lose  string // answers to requests whose path ends so are lost
	cut   string // requests whose path ends so are cut off
	lost  int
}

func connect(h *hands, serve Serve) *wire {
	h.t.Helper()
	w := &wire{h: h, accept: make(chan net.Conn), closed: make(chan struct{})}
	end := serve(h.t, h.s)
	w.server = &http.Server{Handler: end.Handler, ReadHeaderTimeout: 5 * time.Second}
	w.transport = &http.Transport{DialContext: w.dial}
	w.serving.Go(func() { _ = w.server.Serve(w) }) // it ends with ErrServerClosed
	h.broker = end.Client(w)
	return w
}

func (w *wire) close() {
	w.transport.CloseIdleConnections()
	w.hangUp()
	_ = w.server.Close()
	w.serving.Wait()
}

// Accept, Close and Addr make w the server's listener.
func (w *wire) Accept() (net.Conn, error) {
	select {
	case c := <-w.accept:
		return c, nil
	case <-w.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (w *wire) Close() error {
	w.once.Do(func() { close(w.closed) })
	return nil
}

// Addr implements net.Listener.
func (w *wire) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

func (w *wire) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case w.accept <- theirs:
	case <-w.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.conns = append(w.conns, ours)
	return ours, nil
}

// hangUp breaks every connection.
func (w *wire) hangUp() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.conns {
		_ = c.Close()
	}
	w.conns = nil
}

var errLost = errors.New("the connection broke")

// RoundTrip implements http.RoundTripper.
func (w *wire) RoundTrip(r *http.Request) (*http.Response, error) {
	w.mu.Lock()
	lose, cut := w.lose != "" && strings.HasSuffix(r.URL.Path, w.lose), w.cut != "" && strings.HasSuffix(r.URL.Path, w.cut)
	w.mu.Unlock()
	r = r.Clone(r.Context())
	if w.h.identity != "" {
		r.Header.Set("Authorization", "Bearer "+w.h.identity)
	}
	if cut && r.Body != nil {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		r.Body = io.NopCloser(io.MultiReader(bytes.NewReader(body[:len(body)/2]), failing{}))
	}
	resp, err := w.transport.RoundTrip(r)
	if err != nil || !lose {
		return resp, err
	}
	_, _ = io.Copy(io.Discard, resp.Body)
	_ = resp.Body.Close()
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lost++
	return nil, errLost
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errLost }

func (w *wire) loses(path string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.lose = path
}

func lostComplete(h *hands, w *wire) {
	h.submit(retries(job("a", "r-q", "far"), 2, time.Minute))
	for i, failure := range []string{"it broke", ""} {
		l := h.get("a")
		w.loses("/complete")
		_, errs := h.broker.Complete(ctx(), scheduler.Completion{Hold: l.Hold, Error: failure})
		if w.lost == 0 || len(errs) != 1 || errs[0] == nil {
			h.t.Fatalf("%d answers were lost, and the worker is told %v", w.lost, errs)
		}
		w.loses("")
		h.pass(time.Second)
		want := []scheduler.State{scheduler.Waiting, scheduler.Succeeded}[i]
		if st := h.finish(l, failure); st.State != want || st.Failed != 1 {
			h.t.Errorf("said again: %+v", st)
		}
		h.pass(time.Minute)
	}
	h.none("a has ended")
}

func lostNext(h *hands, w *wire) {
	h.submit(job("a", "r-q", "far"))
	w.loses("/next")
	if list, err := h.broker.Next(ctx(), scheduler.Want{}); err == nil {
		h.t.Fatalf("the answer %v was not lost", leased(list))
	}
	w.loses("")
	// Whoever was answered does not know it. Nobody else has it until the lease
	// is over, and then it comes again.
	begin := time.Now()
	h.pass(lease - time.Second)
	if st := h.status("a"); st.State == scheduler.Running {
		h.none("somebody may have it")
	}
	h.pass(2 * time.Second)
	if l := h.get("a"); time.Since(begin) > lease+2*time.Second {
		h.t.Errorf("it came after %s as attempt %d", time.Since(begin), l.Attempt)
	}
}

func vanishesWaiting(h *hands, w *wire) {
	var askers []*asker
	for range 3 {
		askers = append(askers, h.ask(ctx(), scheduler.Want{Wait: scheduler.Span(time.Minute)}))
	}
	synctest.Wait()
	w.hangUp()
	synctest.Wait()
	for i := 0; ; i++ { // a client may ask again by itself
		if st, err := h.queues.Stats(ctx()); err != nil {
			h.t.Fatal(err)
		} else if answered := askers[0].answered() && askers[1].answered() && askers[2].answered(); answered {
			if st.Workers != 0 {
				h.t.Errorf("all have gone, and %d workers wait", st.Workers)
			}
			break
		}
		if i == 100 {
			h.t.Fatal("workers whose connection broke still wait")
		}
		h.pass(time.Second)
		w.hangUp()
	}
	for _, a := range askers {
		if a.err == nil {
			h.t.Errorf("one whose connection broke is answered with %v and no error", leased(a.list))
		}
	}
	h.submit(job("a", "r-q", "far"))
	if l := h.get("a"); l.Attempt != 1 {
		h.t.Errorf("it was handed to one that is gone: attempt %d", l.Attempt)
	}
}

func vanishesWorking(h *hands, w *wire) {
	h.submit(job("a", "r-q", "far"))
	first := h.get("a")
	w.hangUp()
	h.pass(lease - time.Second)
	h.none("its lease is not over: the worker may come back")
	h.pass(2 * time.Second)
	if l := h.get("a"); l.Attempt != 2 {
		h.t.Errorf("attempt %d", l.Attempt)
	}
	h.stale("the one that comes back too late", first.Hold)
}

func cutOff(h *hands, w *wire) {
	h.submit(job("a", "r-q", "far"))
	l := h.get("a")
	w.mu.Lock()
	w.cut = "/complete"
	w.mu.Unlock()
	if _, errs := h.broker.Complete(ctx(), scheduler.Completion{Hold: l.Hold, Result: result(map[string]string{"text": strings.Repeat("x", 1000)})}); len(errs) != 1 || errs[0] == nil {
		h.t.Errorf("half a request: %v", errs)
	}
	w.mu.Lock()
	w.cut = ""
	w.mu.Unlock()
	h.want("a=running")
	h.finish(l, "")
}

func manyAtOnce(h *hands, _ *wire) {
	const n = 500
	var jobs []scheduler.Job
	for i := range n {
		jobs = append(jobs, job(fmt.Sprint("j", i), fmt.Sprint("r-", i), "far"))
	}
	h.submit(jobs...)
	list := h.take(scheduler.Want{Max: scheduler.MaxNext})
	if len(list) != n {
		h.t.Fatalf("%d of %d jobs are handed out", len(list), n)
	}
	var done []scheduler.Completion
	for _, l := range list {
		done = append(done, scheduler.Completion{Hold: l.Hold, Result: result(map[string]string{"of": l.Job})})
	}
	done[7].Token.Number += n * 10
	got, errs := h.broker.Complete(ctx(), done...)
	if len(got) != n || len(errs) != n {
		h.t.Fatalf("%d states and %d errors", len(got), len(errs))
	}
	for i := range got {
		if i == 7 {
			h.wantErr("the one with a wrong token", errs[i], scheduler.ErrStale)
		} else if errs[i] != nil || got[i].ID != done[i].Job || got[i].State != scheduler.Succeeded {
			h.t.Fatalf("completion %d: %+v, %v", i, got[i], errs[i])
		}
	}
}

func oddContent(h *hands, _ *wire) {
	odd := map[string]any{"text": "\x00\u2028<script>&\"'ß", "deep": []any{[]any{[]any{}}}, "big": 9007199254740993}
	h.submit(with(job("a", "r-q", "theirs"), odd))
	l := h.get("a")
	if want := result(odd); l.Params.String() != want.String() {
		h.t.Errorf("the parameters came as %s, not %s", l.Params, want)
	}
	if _, err := h.broker.Heartbeat(ctx(), scheduler.Beat{Hold: l.Hold, Percent: 50, Progress: "ß & <b>"}); err != nil {
		h.t.Error(err)
	}
	if st := h.status("a"); st.Progress != "ß & <b>" {
		h.t.Errorf("its progress came as %q", st.Progress)
	}
	st, err := h.complete(scheduler.Completion{Hold: l.Hold, Result: result(odd)})
	if err != nil || st.Result.String() != result(odd).String() || st.Attempt != 1 || st.Token != l.Token {
		h.t.Errorf("the answer is %+v, %v", st, err)
	}
}
