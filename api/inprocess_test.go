package api

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

// ask sends a request to h through the transport.
func ask(ctx context.Context, tr http.RoundTripper, method string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, "http://vagoth/x", body)
	if err != nil {
		return nil, err
	}
	return (&http.Client{Transport: tr}).Do(req)
}

func transport(t *testing.T, h http.HandlerFunc) *Transport {
	t.Helper()
	tr := InProcess(h)
	t.Cleanup(func() {
		if err := tr.Close(); err != nil {
			t.Error(err)
		}
		goleak.VerifyNone(t)
	})
	return tr
}

// An answer and a request are read while they are written.
func TestInProcessStreams(t *testing.T) {
	tr := transport(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-A", "b")
		w.WriteHeader(http.StatusTeapot)
		w.Header().Set("X-Late", "not sent")
		_, _ = io.Copy(w, r.Body)
	})
	in, feed := io.Pipe()
	resp, err := ask(t.Context(), tr, "POST", in)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusTeapot || resp.Status != "418 I'm a teapot" || resp.Header.Get("X-A") != "b" || resp.Header.Get("X-Late") != "" {
		t.Errorf("got %s, %v", resp.Status, resp.Header)
	}
	buf := make([]byte, 4)
	for _, word := range []string{"ping", "pong"} {
		if _, err := feed.Write([]byte(word)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(resp.Body, buf); err != nil || string(buf) != word {
			t.Fatalf("got %q, %v", buf, err)
		}
	}
	_ = feed.Close()
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
		t.Errorf("got %q, %v", rest, err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
}

// A handler that does not begin to answer, and does not look at its context,
// keeps nobody.
func TestInProcessEndsWithItsContext(t *testing.T) {
	release := make(chan struct{})
	tr := transport(t, func(http.ResponseWriter, *http.Request) { <-release })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := ask(ctx, tr, "GET", nil); !errors.Is(err, context.DeadlineExceeded) || CodeOf(err).Name != "timeout" {
		t.Error(err)
	}
	close(release)
}

// The same while the body is read, by a caller and by a handler that wait.
func TestInProcessEndsWithinTheBody(t *testing.T) {
	release := make(chan struct{})
	tr := transport(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte("begun"))
		_, _ = io.Copy(io.Discard, r.Body)
		<-release
	})
	in, feed := io.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	resp, err := ask(ctx, tr, "POST", in)
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 5)
	if _, err := io.ReadFull(resp.Body, buf); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := io.ReadAll(resp.Body); !errors.Is(err, context.Canceled) {
		t.Errorf("the rest was read with %v", err)
	}
	if _, err := feed.Write([]byte("x")); err == nil {
		for err == nil { // the body is closed beside us
			_, err = feed.Write([]byte("x"))
		}
	}
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
	close(release)
}

// Closing a body ends its handler, and waits for it.
func TestInProcessBodyCloseWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := false
		tr := InProcess(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = w.Write(make([]byte, 1))
			<-r.Context().Done()
			time.Sleep(time.Hour) // in the bubble's time
			ended = true
		}))
		resp, err := ask(t.Context(), tr, "GET", nil)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := resp.Body.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		if err := resp.Body.Close(); err != nil || !ended {
			t.Errorf("closed with %v, the handler has ended: %v", err, ended)
		}
	})
}

// A handler whose caller stops reading is told so by its next write.
func TestInProcessStoppedReader(t *testing.T) {
	wrote := make(chan error, 1)
	tr := transport(t, func(w http.ResponseWriter, _ *http.Request) {
		var err error
		for err == nil {
			_, err = w.Write(make([]byte, 1000))
		}
		wrote <- err
	})
	resp, err := ask(t.Context(), tr, "GET", nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Error(err)
	}
	if err := <-wrote; !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("the handler's write ended with %v", err)
	}
}

// A handler that gives up breaks its answer, which is not taken for a whole
// one.
func TestInProcessPanic(t *testing.T) {
	for name, c := range map[string]struct {
		h      http.HandlerFunc
		status int
	}{
		"abort at once": {func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 500},
		"abort half-way": {func(w http.ResponseWriter, _ *http.Request) {
			_, _ = w.Write([]byte("half"))
			panic(http.ErrAbortHandler)
		}, 200},
		"panic half-way": {func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("half")); panic("oh") }, 200},
		"panic at once":  {func(http.ResponseWriter, *http.Request) { panic("oh") }, 500},
	} {
		tr := transport(t, c.h)
		for range 200 { // the handler may have returned before the caller looks
			resp, err := ask(t.Context(), tr, "GET", nil)
			if err != nil {
				t.Fatal(name, err)
			}
			if _, err := io.ReadAll(resp.Body); !errors.Is(err, io.ErrUnexpectedEOF) || resp.StatusCode != c.status {
				t.Errorf("%s: status %d, read with %v", name, resp.StatusCode, err)
			}
			_ = resp.Body.Close()
		}
	}
}

// A caller whose context has ended is told that, and not what the handler makes of it.
func TestInProcessCancelled(t *testing.T) {
	entered := make(chan struct{})
	tr := transport(t, func(w http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-r.Context().Done()
		w.WriteHeader(http.StatusTeapot)
	})
	for range 200 {
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			<-entered
			cancel()
		}()
		if resp, err := ask(ctx, tr, "GET", nil); !errors.Is(err, context.Canceled) {
			t.Fatalf("%v, %+v", err, resp)
		}
	}
}

func TestInProcessHead(t *testing.T) {
	tr := transport(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "5")
		w.WriteHeader(http.StatusEarlyHints)
		_, _ = w.Write([]byte("hello"))
	})
	resp, err := ask(t.Context(), tr, "HEAD", nil)
	if err != nil {
		t.Fatal(err)
	}
	if data, err := io.ReadAll(resp.Body); err != nil || len(data) > 0 || resp.ContentLength != 5 || resp.StatusCode != 200 {
		t.Errorf("got %s with %d bytes %q, %v", resp.Status, resp.ContentLength, data, err)
	}
	_ = resp.Body.Close()
}

// Close ends what runs, waits for it and refuses what comes later.
func TestInProcessClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended := false
		tr := InProcess(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			<-r.Context().Done()
			time.Sleep(time.Hour)
			ended = true
		}))
		asked := make(chan error)
		go func() {
			_, err := ask(t.Context(), tr, "GET", nil)
			asked <- err
		}()
		synctest.Wait()
		go func() { _ = tr.Close() }()
		if err := <-asked; !errors.Is(err, ErrTransportClosed) {
			t.Error(err)
		}
		if err := tr.Close(); err != nil || !ended {
			t.Errorf("closed with %v, the handler has ended: %v", err, ended)
		}
		body := &closed{Reader: strings.NewReader("x")}
		if _, err := ask(t.Context(), tr, "POST", body); !errors.Is(err, ErrTransportClosed) || !body.done {
			t.Errorf("%v, the body was closed: %v", err, body.done)
		}
	})
}

type closed struct {
	io.Reader
	done bool
}

func (c *closed) Close() error { c.done = true; return nil }
