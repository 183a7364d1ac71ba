package docker

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/moby/moby/api/types/jsonstream"
	moby "github.com/moby/moby/client"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent/fetch"
	"github.com/vagoth/vagoth/virt/subagent/store"
)

// maxLine bounds one message of dockerd.
const maxLine = 256 << 10

// pull gets an image from the registry that its name says.
func (d *Docker) pull(ctx context.Context, r reference) error {
	what := "pull the image " + r.String()
	done, total := map[string]int64{}, map[string]int64{}
	return d.stream(ctx, what, func(ctx context.Context, c *moby.Client) (io.ReadCloser, error) {
		return c.ImagePull(ctx, r.String(), moby.ImagePullOptions{})
	}, func(m jsonstream.Message) {
		if m.Progress == nil || m.Status != "Downloading" || len(done) > 1000 {
			return
		}
		done[m.ID], total[m.ID] = max(0, m.Progress.Current), max(0, m.Progress.Total)
		d.coming.change(r.String(), func(a *arrival) {
			a.done, a.total = 0, 0
			for id := range done {
				a.done, a.total = a.done+min(done[id], 1<<50), a.total+min(total[id], 1<<50)
			}
		})
	})
}

// stream calls what dockerd answers with messages, until the last. It is given up
// when none comes for too long.
func (d *Docker) stream(ctx context.Context, what string, call func(context.Context, *moby.Client) (io.ReadCloser, error), see func(jsonstream.Message)) error {
	return d.do(ctx, what, d.o.TransferTimeout, func(ctx context.Context, c *moby.Client) error {
		ctx, cancel := context.WithCancelCause(ctx)
		defer cancel(nil)
		stalled := &lateError{d.o.Stall}
		watch := time.AfterFunc(d.o.Stall, func() { cancel(stalled) })
		defer watch.Stop()
		body, err := call(ctx, c)
		if err == nil {
			defer body.Close()
			err = messages(body, func(m jsonstream.Message) {
				watch.Reset(d.o.Stall)
				see(m)
			})
		}
		if err != nil && ctx.Err() != nil {
			return d.fault(ctx, what, err)
		}
		return err
	})
}

// messages reads messages, and returns the first that is an error.
func messages(r io.Reader, see func(jsonstream.Message)) error {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4096), maxLine)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" {
			continue
		}
		var m jsonstream.Message
		if err := json.Unmarshal([]byte(line), &m); err != nil {
			return fmt.Errorf("its message is none: %w", err)
		}
		if m.Error != nil {
			return &refusal{clean(m.Error.Message, 600)}
		}
		see(m)
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return &longError{maxLine}
	}
	return lines.Err()
}

// refusal is an error that dockerd told in the middle of a transfer, without a
// status.
type refusal struct{ text string }

func (e *refusal) Error() string { return e.text }

// kind is the one that its words say, and where they say none, nil: an error of
// dockerd's own.
func (e *refusal) kind() error {
	for _, words := range []string{"manifest unknown", "not found", "does not exist"} {
		if strings.Contains(e.text, words) {
			return virt.ErrNotFound
		}
	}
	return nil
}

// fetched is how far the download of an image is, in bytes.
func (d *Docker) fetched(name string) (done, total int64) {
	r, err := parseReference(name)
	if err != nil {
		return 0, 0
	}
	p := d.fetcher.Under()[key(r)]
	return p.Done, max(0, p.Total)
}

// load gets an archive from a URL and gives it to dockerd.
func (d *Docker) load(ctx context.Context, r reference, asked *mistify.ImageRequest) error {
	item := fetch.Item{Name: key(r), URL: asked.Source, Size: int64(asked.Size), SHA256: strings.ToLower(asked.SHA256)}
	return d.fetcher.Fetch(ctx, item, func(ctx context.Context, got fetch.Got) error {
		f, err := d.inbox.Open(got.Name)
		if err != nil {
			return err
		}
		defer f.Close()
		most := d.o.Fetch.MaxUnpacked
		if most <= 0 {
			most = 256 << 30
		}
		a, err := readArchive(f, most)
		if err != nil {
			return fmt.Errorf("the archive of %s: %w", asked.ID, err)
		}
		d.coming.change(r.String(), func(c *arrival) { c.sum = got.SHA256 })
		if err := d.note(r, record{Source: store.Hashed(asked.Source), SHA256: got.SHA256}); err != nil {
			return err
		}
		if err := d.give(ctx, r, f, a); err != nil {
			// Of what failed nothing is there, so nothing is to be known of it.
			if _, none := d.inspect(context.WithoutCancel(ctx), r); errors.Is(none, virt.ErrNotFound) {
				return errors.Join(err, d.unnote(r))
			}
			return err
		}
		return nil
	})
}

// give lets dockerd load an archive, with the one name.
func (d *Docker) give(ctx context.Context, r reference, f io.ReadSeeker, a *archive) error {
	read, write := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := a.rewrite(f, write, r.String())
		_ = write.CloseWithError(err) // never fails
		written <- err
	}()
	err := d.stream(ctx, "load the image "+r.String(), func(ctx context.Context, c *moby.Client) (io.ReadCloser, error) {
		return c.ImageLoad(ctx, read, moby.ImageLoadWithQuiet(true))
	}, func(jsonstream.Message) {})
	_ = read.Close() // never fails; it ends the writing if dockerd did not read it all
	if problem := <-written; problem != nil && !errors.Is(problem, io.ErrClosedPipe) {
		return errors.Join(err, problem)
	}
	return err
}
