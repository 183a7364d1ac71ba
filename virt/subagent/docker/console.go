package docker

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	moby "github.com/moby/moby/client"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// noTerminal is the first line of the console of a container without a terminal.
const noTerminal = `[this container has no terminal: what it prints is shown, and nothing can be typed; "console": {"terminal": true} in its definition gives it one]` + "\r\n"

// Console attaches to what a container that runs was started as: to its terminal if
// it has one, so that what is typed reaches it, and otherwise to what it prints, and
// says so. Nothing is started in the container for it. Everybody who is attached
// reads all of it.
func (d *Docker) Console(ctx context.Context, r *mistify.ConsoleRequest) (io.ReadWriteCloser, error) {
	id, err := mistify.ParseGuestID(r.Guest.ID)
	if err != nil {
		return nil, err
	}
	f, err := d.find(ctx, id)
	switch {
	case err != nil:
		return nil, err
	case f.state == virt.Paused:
		return nil, wrongState(f, virt.Guest{UUID: id}, "resume")
	case !f.active():
		return nil, wrongState(f, virt.Guest{UUID: id}, "start")
	}
	line, err := d.attach(ctx, id, f)
	if err != nil {
		return nil, err
	}
	// dockerd attaches to one that has ended too, and that never says anything, not
	// even when it is started again.
	now, err := d.find(ctx, id)
	switch {
	case err == nil && (now.id != f.id || now.state != virt.Running):
		err = fmt.Errorf("%w: the container of guest %s has just ended or was held: it is %s", virt.ErrConflict, id, now.state)
	case err == nil && now.is.State.StartedAt != f.is.State.StartedAt:
		err = fmt.Errorf("%w: the container of guest %s was just started again: ask for its console again", virt.ErrConflict, id)
	}
	if err != nil {
		return nil, errors.Join(err, line.Close())
	}
	if f.is.Config.Tty {
		return &terminal{line}, nil
	}
	return &printed{Reader: io.MultiReader(strings.NewReader(noTerminal), &frames{r: line}), line: line, id: id}, nil
}

// versions are those of dockerd's interface.
var versions = regexp.MustCompile(`^[0-9]{1,3}\.[0-9]{1,3}$`)

// detachKeys is what would detach: dockerd looks for a sequence in what is typed
// whatever it is told, and Ctrl-P and Ctrl-Q are typed by many.
const detachKeys = "ctrl-],ctrl-^,ctrl-],ctrl-^,ctrl-]"

// attach takes over a connection to dockerd, which is the container's from then on.
func (d *Docker) attach(ctx context.Context, id string, f *found) (io.ReadWriteCloser, error) {
	what := "attach to the container " + id
	return ask(ctx, d, what, d.o.Timeout, func(ctx context.Context, c *moby.Client) (io.ReadWriteCloser, error) {
		if !versions.MatchString(c.ClientVersion()) {
			return nil, nonsense(what, "its version is %.40q", c.ClientVersion())
		}
		query := url.Values{"stream": {"1"}, "stdout": {"1"}, "stderr": {"1"}}
		if f.is.Config.Tty {
			query.Set("stdin", "1")
			query.Set("detachKeys", detachKeys)
		}
		at := url.URL{Scheme: "http", Host: "dockerd", Path: "/v" + c.ClientVersion() + "/containers/" + f.id + "/attach", RawQuery: query.Encode()}
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, at.String(), http.NoBody)
		if err != nil {
			return nil, err
		}
		req.Header.Set("Connection", "Upgrade")
		req.Header.Set("Upgrade", "tcp")
		resp, err := d.guard.base.RoundTrip(req)
		if err != nil {
			return nil, err
		}
		line, ok := resp.Body.(io.ReadWriteCloser)
		if resp.StatusCode == http.StatusSwitchingProtocols && ok {
			return line, nil
		}
		defer resp.Body.Close()
		return nil, refusedBy(what, resp)
	})
}

// refusedBy is an answer that is not the one that was asked for.
func refusedBy(what string, resp *http.Response) error {
	kind, known := map[int]error{
		http.StatusNotFound: virt.ErrNotFound, http.StatusConflict: virt.ErrConflict, http.StatusBadRequest: virt.ErrInvalid,
		http.StatusNotImplemented: virt.ErrUnsupported, http.StatusInternalServerError: nil, http.StatusForbidden: nil, http.StatusUnauthorized: nil,
	}[resp.StatusCode]
	if !known {
		return nonsense(what, "its status is %d", resp.StatusCode)
	}
	var told struct{ Message string }
	data, err := mistify.ReadBody(resp.Body, 64<<10)
	if err == nil {
		err = json.Unmarshal(data, &told)
	}
	if err != nil {
		return nonsense(what, "with the status %d it says nothing: %v", resp.StatusCode, err)
	}
	return &Error{What: what, Kind: kind, Err: said(errors.New(told.Message))}
}

// terminal is that of a container.
type terminal struct{ io.ReadWriteCloser }

func (t *terminal) Read(p []byte) (int, error) {
	n, err := t.ReadWriteCloser.Read(p)
	return n, ended(err)
}

// ended is the end of a console that was closed from here.
func ended(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return io.EOF
	}
	return err
}

// printed is what a container without a terminal prints.
type printed struct {
	io.Reader
	line io.Closer
	id   string
}

func (p *printed) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	return n, ended(err)
}

// Write refuses what is typed.
func (p *printed) Write([]byte) (int, error) {
	return 0, fmt.Errorf("%w: the container of guest %s has no terminal, and nothing can be typed: give it one with \"console\": {\"terminal\": true}", virt.ErrUnsupported, p.id)
}

func (p *printed) Close() error { return p.line.Close() }

// frames joins the pieces in which dockerd sends output and errors, each with a head
// of eight bytes: which of them it is, nothing, and how long it is.
type frames struct {
	r    io.Reader
	left uint32 // of the piece
}

func (f *frames) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for f.left == 0 {
		var head [8]byte
		if _, err := io.ReadFull(f.r, head[:]); err != nil {
			return 0, err
		}
		if head[0] > 2 || head[1] != 0 || head[2] != 0 || head[3] != 0 {
			return 0, nonsense("show what a container prints", "a piece begins with % x", head[:4])
		}
		f.left = binary.BigEndian.Uint32(head[4:])
	}
	n, err := f.r.Read(p[:min(int64(len(p)), int64(f.left))])
	f.left -= uint32(n)
	if errors.Is(err, io.EOF) && f.left > 0 {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}
