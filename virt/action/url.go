package action

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/vagoth/vagoth/manager/component"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/trail"
)

// Bounds of what a URL action takes from the other side. How long it may take is
// the job's timeout.
const (
	maxAnswer    = registry.MaxDocument
	maxHeaders   = 64 << 10
	maxMessage   = 500 // of an error's text
	maxRedirects = 5
	dialTimeout  = 10 * time.Second
)

// URL makes an action of an address: of a line such as
// `notify = https://hooks.example.org/notify` in [actions].
//
// The job is posted there as a JSON object, the same that a command reads, with
// its trail in the headers Vagoth-Transaction, Vagoth-Source, Vagoth-Reason,
// Vagoth-Job, Vagoth-Attempt and Vagoth-Token, and the secret, if there is one,
// as a bearer token. An answer of 2xx is success; a JSON object in it is the
// result. Whatever else is a failure, with the answer's `message` if it is JSON.
// 4xx is final, except 408, 425 and 429; after anything else another attempt makes
// sense. A redirect is followed on the same host and scheme only, and only with
// 307 and 308, which keep the method.
func URL(name, address string, token component.Secret, timeout time.Duration) (scheduler.Action, error) {
	if err := registry.CheckName(name); err != nil {
		return scheduler.Action{}, fmt.Errorf("an action cannot be called that: %w", err)
	}
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return scheduler.Action{}, errors.New("its URL cannot be read: write https://host/path") // the parser's error repeats it
	case u.Scheme != "http" && u.Scheme != "https":
		return scheduler.Action{}, fmt.Errorf("the scheme of its URL is %.32q: use https or http", u.Scheme)
	case u.Hostname() == "":
		return scheduler.Action{}, errors.New("its URL names no host: write https://host/path")
	case u.User != nil:
		return scheduler.Action{}, errors.New("its URL holds a user or a password, which would show in lists: use the key token of [action." + name + "]")
	case u.Fragment != "":
		return scheduler.Action{}, errors.New("its URL has a part after #, which is never sent: leave it out")
	case token.Reveal() != "" && u.Scheme == "http" && !loopback(u.Hostname()):
		return scheduler.Action{}, fmt.Errorf("its token would go over the network in the open to %s: use https", u.Host)
	}
	a := general(name)
	p := poster{url: u, shown: shown(u), token: token, client: newPoster()}
	a.Name, a.Help, a.Timeout = name, "posts to "+p.shown, timeout
	a.Run = p.run
	return a, nil
}

func loopback(host string) bool {
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// shown is the address without its query, which may hold secrets.
func shown(u *url.URL) string { return u.Scheme + "://" + u.Host + u.EscapedPath() }

// newPoster makes a client that keeps no connection and no cookie, so that
// nothing is left behind when an attempt ends.
func newPoster() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
			TLSHandshakeTimeout:    dialTimeout,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			MaxResponseHeaderBytes: maxHeaders,
			DisableKeepAlives:      true,
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			first := via[0]
			switch {
			case len(via) > maxRedirects:
				return &redirectError{fmt.Sprintf("it redirects more than %d times", maxRedirects)}
			case req.Method != first.Method:
				return &redirectError{"it redirects in a way that drops the job: 307 and 308 keep it"}
			case req.URL.Scheme != first.URL.Scheme || req.URL.Host != first.URL.Host:
				return &redirectError{fmt.Sprintf("it redirects to %.200s: only the same host and scheme are followed", shown(req.URL))}
			}
			return nil
		},
	}
}

// redirectError is a redirect that is not followed.
type redirectError struct{ text string }

func (e *redirectError) Error() string { return e.text }

// poster runs the attempts of one URL action.
type poster struct {
	url    *url.URL
	shown  string
	token  component.Secret
	client *http.Client
}

func (p *poster) run(ctx context.Context, t scheduler.Task) (any, error) {
	res, err := p.post(ctx, t)
	switch {
	case err == nil:
		return res, nil
	case ctx.Err() != nil && !scheduler.IsFinal(err):
		return nil, fmt.Errorf("%s had not answered when the attempt ended: %w", p.shown, context.Cause(ctx))
	}
	var in *url.Error
	if errors.As(err, &in) {
		err = in.Err // without the URL's query
	}
	err = fmt.Errorf("%s: %w", p.shown, err)
	var r *redirectError
	if errors.As(err, &r) {
		err = &scheduler.FinalError{Err: err}
	}
	return nil, err
}

func (p *poster) post(ctx context.Context, t scheduler.Task) (any, error) {
	tr := trail.From(ctx)
	body, err := json.Marshal(callOf(t, tr))
	if err != nil {
		return nil, fmt.Errorf("cannot encode the job: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url.String(), bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", "vagoth")
	for header, text := range map[string]string{
		"Vagoth-Transaction": tr.Transaction, "Vagoth-Source": tr.Source, "Vagoth-Reason": tr.Reason,
		"Vagoth-Job": t.Job().ID, "Vagoth-Attempt": fmt.Sprint(max(1, tr.Attempt)), "Vagoth-Token": fmt.Sprintf("%d.%d", tr.Token.Epoch, tr.Token.Number),
	} {
		if text != "" {
			req.Header.Set(header, url.PathEscape(text))
		}
	}
	if secret := p.token.Reveal(); secret != "" {
		req.Header.Set("Authorization", "Bearer "+secret)
	}
	resp, err := p.client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	ok := resp.StatusCode/100 == 2
	if !ok {
		return nil, refusal(resp, answer)
	}
	if err != nil {
		return nil, fmt.Errorf("the answer breaks off: %w", err)
	}
	return result(answer)
}

// result reads the body of a success. What is wrong with it is final: the deed is
// done.
func result(answer []byte) (any, error) {
	if len(answer) > maxAnswer {
		return nil, &scheduler.FinalError{Err: fmt.Errorf("it has done it, and answered more than %d bytes", maxAnswer)}
	}
	if answer = bytes.TrimSpace(answer); len(answer) == 0 {
		return nil, nil
	}
	doc, err := registry.ParseDocument(answer)
	if err != nil {
		return nil, &scheduler.FinalError{Err: fmt.Errorf("it has done it, and what it answered is no result: %w: answer a JSON object, or nothing", err)}
	}
	return doc, nil
}

// refusal makes an error of an answer that is no success.
func refusal(resp *http.Response, answer []byte) error {
	var said struct {
		Message string `json:"message"`
	}
	text := ""
	if json.Unmarshal(answer, &said) == nil {
		text = said.Message
	} else if strings.HasPrefix(resp.Header.Get("Content-Type"), "text/plain") {
		text, _, _ = strings.Cut(strings.TrimSpace(string(answer[:min(len(answer), 4*maxMessage)])), "\n")
	}
	err := fmt.Errorf("it answered %d %s", resp.StatusCode, http.StatusText(resp.StatusCode))
	if text = printable(strings.TrimSpace(text)); text != "" {
		err = fmt.Errorf("%w: %s", err, cut(text, maxMessage))
	}
	switch resp.StatusCode {
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return err
	}
	if resp.StatusCode/100 == 5 {
		return err
	}
	return &scheduler.FinalError{Err: err}
}

// cut shortens a text to at most so many bytes, at the end of a rune.
func cut(s string, most int) string {
	if len(s) <= most {
		return s
	}
	return strings.ToValidUTF8(s[:most], "") + "…"
}
