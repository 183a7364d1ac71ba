package duplex_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/vagoth/vagoth/internal/duplex"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo answers each line of the body with itself, until "bye".
func echo(w http.ResponseWriter, r *http.Request) {
	if err := duplex.Accept(w, r); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	if r.Header.Get("Authorization") == "" {
		http.Error(w, "who are you?", http.StatusUnauthorized)
		return
	}
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	said, typed := io.Pipe()
	stop := context.AfterFunc(ctx, func() { _ = said.CloseWithError(context.Canceled) })
	defer stop()
	defer duplex.Join(w, r.Body, typed, cancel)()
	w.WriteHeader(http.StatusOK)
	flush := http.NewResponseController(w)
	if flush.Flush() != nil {
		return
	}
	for lines := bufio.NewScanner(said); lines.Scan() && lines.Text() != "bye"; {
		if _, err := io.WriteString(w, lines.Text()+"\n"); err != nil || flush.Flush() != nil {
			return
		}
	}
}

// open asks server; who may be nobody.
func open(ctx context.Context, server *httptest.Server, who string) (io.ReadWriteCloser, int, error) {
	status := 0
	rw, err := duplex.Open(ctx, func(ctx context.Context, body io.Reader) (*http.Response, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL, body)
		if err != nil {
			return nil, err
		}
		if who != "" {
			req.Header.Set("Authorization", who)
		}
		resp, err := server.Client().Do(req)
		if err != nil {
			return nil, err
		}
		if status = resp.StatusCode; status != http.StatusOK {
			return nil, errors.Join(errors.New(resp.Status), resp.Body.Close())
		}
		return resp, nil
	})
	return rw, status, err
}

// What is said comes while more is said; the end of either side is that of both;
// and who is refused is told so though the body has not ended.
func TestLine(t *testing.T) {
	for name, start := range map[string]func(http.Handler) *httptest.Server{
		"HTTP/1.1": httptest.NewServer,
		"HTTP/2": func(h http.Handler) *httptest.Server {
			s := httptest.NewUnstartedServer(h)
			s.EnableHTTP2 = true
			s.StartTLS()
			return s
		},
	} {
		t.Run(name, func(t *testing.T) {
			ended := make(chan struct{}, 8)
			server := start(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				defer func() { ended <- struct{}{} }()
				echo(w, r)
			}))
			defer server.Close()
			defer server.Client().CloseIdleConnections()
			for range 3 {
				if _, status, err := open(t.Context(), server, ""); status != http.StatusUnauthorized {
					t.Fatalf("nobody is answered %d, %v", status, err)
				}
				<-ended
			}

			for i := range 20 { // a body that has ended, and is not read either
				resp, err := server.Client().Post(server.URL, "text/plain", strings.NewReader("hello"))
				if err != nil {
					t.Fatalf("request %d: %v", i, err)
				}
				_ = resp.Body.Close()
				if resp.StatusCode != http.StatusUnauthorized {
					t.Fatalf("request %d is answered %d", i, resp.StatusCode)
				}
				<-ended
			}

			rw, _, err := open(t.Context(), server, "somebody")
			if err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewReader(rw)
			for _, text := range []string{"one\n", "two\n", strings.Repeat("x", 10_000) + "\n"} {
				if _, err := io.WriteString(rw, text); err != nil {
					t.Fatal(err)
				}
				if got, err := lines.ReadString('\n'); err != nil || got != text {
					t.Fatalf("%.20q is answered %.20q, %v", text, got, err)
				}
			}
			if _, err := io.WriteString(rw, "bye\n"); err != nil {
				t.Fatal(err)
			}
			if rest, err := io.ReadAll(lines); err != nil || len(rest) > 0 {
				t.Errorf("the other side's end reads as %q, %v", rest, err)
			}
			if err := rw.Close(); err != nil {
				t.Error(err)
			}
			<-ended

			if rw, _, err = open(t.Context(), server, "somebody"); err != nil {
				t.Fatal(err)
			}
			if err := rw.Close(); err != nil {
				t.Error(err)
			}
			<-ended // because this side has gone
		})
	}
}
