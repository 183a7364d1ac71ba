// Command webhook is a sub-agent that tells somebody else of what is done to
// guests: its method posts the request it got, as JSON, to a URL.
//
//	go run ./examples/subagents/webhook -port 9997 -url http://127.0.0.1:8000/hook
//
// The URLs are those of the command line. A stage picks another than the first
// with its arg endpoint; one that was not named there is refused, so that nobody
// who can write the agent's config, or a request, sends it elsewhere.
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/vagoth/vagoth/trail"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		_, _ = fmt.Fprintln(os.Stderr, "webhook:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("webhook", flag.ContinueOnError)
	port := flags.Int("port", 9997, "the port on loopback; 0 takes a free one")
	p := poster{client: &http.Client{Timeout: 10 * time.Second, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}}
	flags.Func("url", "where to post; can be given several times", p.allow)
	if err := flags.Parse(args); err != nil {
		return err
	}
	if len(p.urls) == 0 {
		return errors.New("say where to post: -url http://127.0.0.1:8000/hook")
	}
	s := mistify.NewServer(mistify.ServerOptions{Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	mistify.Register(s, "Webhook.Post", p.post)
	ln, err := mistify.Listen(mistify.Endpoint{Port: *port})
	if err != nil {
		return err
	}
	fmt.Printf("listening on %s\n", ln.Addr())
	return s.Serve(ctx, ln)
}

type poster struct {
	client *http.Client
	urls   []string
}

func (p *poster) allow(text string) error {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return errors.New("it must be a URL, such as http://127.0.0.1:8000/hook")
	}
	p.urls = append(p.urls, text)
	return nil
}

// post fails if the other side does not take it: the pipeline ends there. The
// header Vagoth-Transaction tells the other side what it has seen already.
func (p *poster) post(ctx context.Context, r *mistify.GuestRequest) (*mistify.GuestResponse, error) {
	target := p.urls[0]
	if wish := r.Args["endpoint"]; wish != "" {
		if !slices.Contains(p.urls, wish) {
			return nil, fmt.Errorf("%w args: endpoint %.200q is not one of those of the command line (-url)", virt.ErrInvalid, wish)
		}
		target = wish
	}
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("cannot encode the request: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, target, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	mistify.SetTrail(req.Header, trail.From(ctx))
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", virt.ErrUnreachable, err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, 1000))
	if err != nil {
		return nil, fmt.Errorf("%w: the answer of %s breaks off: %w", virt.ErrUnreachable, target, err)
	}
	if resp.StatusCode/100 != 2 {
		return nil, fmt.Errorf("%s answered %s: %s", target, resp.Status, strings.TrimSpace(string(answer)))
	}
	return &mistify.GuestResponse{Guest: r.Guest, Message: "posted to " + target}, nil
}
