package template

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
	"unicode"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/trail"
)

// Event is what a hook gets, as a JSON object on its standard input or as the
// body of a POST.
type Event struct {
	Event string          `json:"event"` // "provision", "redefine" or "deprovision"
	Phase string          `json:"phase"` // "before"; "after"; "cancel": what was said before did not come to pass
	Node  registry.Draft  `json:"node"`  // as it is to be or was
	Old   *registry.Draft `json:"old,omitempty"`
	Trail trail.Trail     `json:"trail,omitzero"`
}

// The phases of an event.
const (
	phaseBefore = "before"
	phaseAfter  = "after"
	phaseCancel = "cancel"
)

// hook is told about events. An answer that is no is an ErrVetoed.
type hook interface {
	tell(ctx context.Context, e Event) error
}

// maxAnswer bounds what is read of a hook's answer, maxMessage what is repeated
// of it.
const (
	maxAnswer  = 16 << 10
	maxMessage = 400
)

// parseHook reads exec:/path with arguments, or a URL; nil for none.
func parseHook(s string, timeout time.Duration, token component.Secret) (hook, error) {
	if s == "" {
		return nil, nil
	}
	if command, ok := strings.CutPrefix(s, "exec:"); ok {
		argv := strings.Fields(command)
		if len(argv) == 0 || !filepath.IsAbs(argv[0]) {
			return nil, fmt.Errorf("%.64q does not name a program by its absolute path: write exec:/path/of/program", s)
		}
		return &program{argv: argv, timeout: timeout}, nil
	}
	u, err := url.Parse(s)
	if err != nil || u.Host == "" || u.Scheme != "https" && u.Scheme != "http" {
		return nil, errors.New("is neither exec:/path/of/program nor a URL such as https://dns.example/hook")
	}
	if u.User != nil {
		return nil, errors.New("the URL holds a password: write it as hook_token")
	}
	if u.Scheme == "http" && !loopback(u.Hostname()) {
		return nil, fmt.Errorf("http is for this machine only: use https for %.64s", u.Host)
	}
	return &remote{url: u.String(), host: u.Host, token: token, client: &http.Client{
		Timeout:       timeout,
		Transport:     &http.Transport{Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}, // hooks are rare, and nobody closes a provisioner
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// program is a hook that is run.
type program struct {
	argv    []string
	timeout time.Duration
}

func (p *program) tell(ctx context.Context, e Event) error {
	body, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("cannot encode the event: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, p.argv[0], p.argv[1:]...)
	cmd.Env = []string{"VAGOTH_EVENT=" + e.Event, "VAGOTH_PHASE=" + e.Phase, "VAGOTH_NODE=" + e.Node.ID}
	for _, name := range []string{"PATH", "HOME", "LANG", "TZ"} {
		if v, ok := os.LookupEnv(name); ok {
			cmd.Env = append(cmd.Env, name+"="+v)
		}
	}
	var answer bounded
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(body), &answer, &answer
	// Its own process group, so that what it has started ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.WaitDelay = time.Second
	err = cmd.Run()
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil:
		return fmt.Errorf("hook %s did not end within %s: %w", p.argv[0], p.timeout, ctx.Err())
	case errors.As(err, &exit):
		return fmt.Errorf("%w by hook %s (%w): %s", provisioner.ErrVetoed, p.argv[0], exit, oneLine(answer.String()))
	}
	return fmt.Errorf("cannot run hook %s: %w", p.argv[0], err)
}

// remote is a hook behind a URL.
type remote struct {
	url, host string
	token     component.Secret
	client    *http.Client
}

func (r *remote) tell(ctx context.Context, e Event) error {
	body, err := json.Marshal(e)
	if err != nil {
		return fmt.Errorf("cannot encode the event: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("cannot ask hook at %s: %w", r.host, err)
	}
	req.Header.Set("Content-Type", "application/json")
	if !r.token.IsZero() {
		req.Header.Set("Authorization", "Bearer "+r.token.Reveal())
	}
	resp, err := r.client.Do(req)
	if err != nil {
		// The error of the client repeats the whole URL, whose query may hold secrets.
		var ue *url.Error
		if errors.As(err, &ue) {
			err = ue.Err
		}
		return fmt.Errorf("cannot ask hook at %s: %w", r.host, err)
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	switch {
	case resp.StatusCode >= 200 && resp.StatusCode < 300:
		return nil
	case err != nil:
		return fmt.Errorf("cannot read the answer of hook at %s: %w", r.host, err)
	case resp.StatusCode >= 300 && resp.StatusCode < 400:
		return fmt.Errorf("hook at %s answers %s: redirects are not followed, name the final URL", r.host, resp.Status)
	case resp.StatusCode >= 500:
		return fmt.Errorf("hook at %s failed (%s): %s", r.host, resp.Status, oneLine(string(answer)))
	}
	return fmt.Errorf("%w by hook at %s (%s): %s", provisioner.ErrVetoed, r.host, resp.Status, oneLine(string(answer)))
}

// bounded keeps the beginning of what is written to it.
type bounded struct{ bytes.Buffer }

func (b *bounded) Write(p []byte) (int, error) {
	if room := maxAnswer - b.Len(); room > 0 {
		b.Buffer.Write(p[:min(len(p), room)])
	}
	return len(p), nil
}

// oneLine makes a message of what somebody else's program says.
func oneLine(s string) string {
	s = strings.Join(strings.FieldsFunc(strings.ToValidUTF8(s, "?"), func(r rune) bool {
		return unicode.IsSpace(r) || unicode.IsControl(r) || unicode.Is(unicode.Cf, r)
	}), " ")
	if len(s) > maxMessage {
		s = strings.ToValidUTF8(s[:maxMessage], "") + "…"
	}
	if s == "" {
		return "it gave no reason"
	}
	return s
}
