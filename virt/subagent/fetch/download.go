package fetch

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/vagoth/vagoth/virt"
)

// half begins the names of files that are being written. No name of an Item
// begins like that.
const half = ".half-"

// download does it: all of it or nothing.
func (f *Fetcher) download(ctx context.Context, one *flight, finish Finish) (err error) {
	body, done, err := f.open(ctx, one)
	if err != nil {
		return err
	}
	defer done()
	defer body.Close()
	got := Got{Name: half + rand.Text()}
	file, err := f.root.OpenFile(got.Name, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("cannot make a file for it: %w", err)
	}
	renamed := false
	defer func() {
		_ = file.Close() // it was synced, or is not wanted
		if renamed {
			return
		}
		if gone := f.root.Remove(got.Name); gone != nil && !errors.Is(gone, os.ErrNotExist) {
			err = errors.Join(err, fmt.Errorf("cannot remove %s: %w", got.Name, gone))
		}
	}()
	if err = f.receive(body, file, one, &got); err == nil {
		err = context.Cause(ctx) // what was closed by the end of it can look as if it were whole
	}
	if err != nil {
		return plainly(ctx, err)
	}
	if finish != nil {
		return finish(ctx, got) // what it makes of the file is what has to last
	}
	if err := file.Sync(); err != nil {
		return fmt.Errorf("cannot sync it: %w", err)
	}
	if err := f.root.Rename(got.Name, one.item.Name); err != nil {
		return fmt.Errorf("cannot name it: %w", err)
	}
	renamed = true
	return f.syncDir()
}

// ask sends the request and reads the beginning of the answer.
func (f *Fetcher) ask(ctx context.Context, one *flight) (io.ReadCloser, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, one.item.URL, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: the source is no URL", virt.ErrInvalid)
	}
	r.Header.Set("Accept-Encoding", "identity")
	r.Header.Set("User-Agent", "vagoth")
	resp, err := f.client.Do(r)
	if err != nil {
		return nil, plainly(ctx, err)
	}
	length, chunked := resp.ContentLength, len(resp.TransferEncoding) > 0 || resp.ProtoMajor >= 2
	switch {
	case resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusGone:
		err = fmt.Errorf("%w there: the server answers %d", virt.ErrNotFound, resp.StatusCode)
	case resp.StatusCode != http.StatusOK:
		err = fmt.Errorf("the server answers %d", resp.StatusCode)
	case length > f.o.MaxBytes:
		err = tooLarge(f.o.MaxBytes)
	case length >= 0 && one.item.Size > 0 && length != one.item.Size:
		err = fmt.Errorf("%w: it has %d bytes and should have %d", virt.ErrInvalid, length, one.item.Size)
	case length < 0 && !chunked && one.item.Size == 0 && one.item.SHA256 == "":
		err = fmt.Errorf("%w: the server does not say how long it is, so nobody could tell if it were cut: give its size or sha256", virt.ErrInvalid)
	}
	if err != nil {
		_ = resp.Body.Close()
		return nil, err
	}
	one.total.Store(max(length, one.item.Size))
	if length < 0 && one.item.Size == 0 {
		one.total.Store(-1)
	}
	return resp.Body, nil
}

// TooLargeError is a download over a bound. It is a virt.ErrInvalid.
type TooLargeError struct {
	Most     int64
	Unpacked bool
}

func (e *TooLargeError) Error() string {
	if e.Unpacked {
		return fmt.Sprintf("it unpacks to more than %d bytes, which is the limit", e.Most)
	}
	return fmt.Sprintf("it has more than %d bytes, which is the limit", e.Most)
}

func (e *TooLargeError) Unwrap() error { return virt.ErrInvalid }

func tooLarge(most int64) error { return &TooLargeError{Most: most} }

// SumError is a download with another sum than it should have. It is a
// virt.ErrInvalid.
type SumError struct{ Got, Want string }

func (e *SumError) Error() string {
	return fmt.Sprintf("its sha256 is %s and should be %s", e.Got, e.Want)
}

func (e *SumError) Unwrap() error { return virt.ErrInvalid }

// receive writes what comes into the file and checks it.
func (f *Fetcher) receive(body io.Reader, file *os.File, one *flight, got *Got) error {
	sent := &meter{in: body, sum: newSumming(), one: one, most: f.o.MaxBytes, stall: f.o.Stall, least: f.o.MinPerStall}
	if one.item.Size > 0 {
		sent.most = one.item.Size
	}
	sent.timer = time.AfterFunc(f.o.Stall, func() { one.cancel(errStalled) })
	sent.timer.Stop()
	defer sent.timer.Stop()
	defer sent.sum.close()
	in := bufio.NewReaderSize(sent, blockSize)
	content, packed, err := unpacked(in)
	if err != nil {
		return err
	}
	got.Packed = packed
	if got.Size, err = writeSparse(file, content, f.o.MaxUnpacked, f.o.WriteBack); err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, in); err != nil { // what stands after the end of the packed part counts
		return err
	}
	got.Sent, got.SHA256 = sent.one.done.Load(), sent.sum.hex()
	switch item := one.item; {
	case item.Size > 0 && got.Sent != item.Size:
		return fmt.Errorf("%w: it has %d bytes and should have %d", virt.ErrInvalid, got.Sent, item.Size)
	case item.SHA256 != "" && got.SHA256 != item.SHA256:
		return &SumError{Got: got.SHA256, Want: item.SHA256}
	case got.Size == 0:
		return fmt.Errorf("%w: it is empty", virt.ErrInvalid)
	}
	return nil
}

// meter counts and sums what is sent, and sees to it that enough comes. Only
// the waiting for more counts, not what is done with it.
type meter struct {
	in    io.Reader
	sum   *summing
	one   *flight
	most  int64
	timer *time.Timer // of one read that never ends

	stall  time.Duration
	least  int64
	waited time.Duration
	came   int64
}

func (m *meter) Read(p []byte) (int, error) {
	m.timer.Reset(m.stall)
	begun := time.Now()
	n, err := m.in.Read(p)
	m.waited += time.Since(begun)
	m.timer.Stop()
	m.sum.add(p[:n])
	m.came += int64(n)
	if m.one.done.Add(int64(n)) > m.most {
		return n, tooLarge(m.most)
	}
	if m.waited >= m.stall {
		if m.came < m.least && err == nil {
			return n, fmt.Errorf("%w: %d bytes in %s", errStalled, m.came, m.waited.Round(time.Millisecond))
		}
		m.waited, m.came = 0, 0
	}
	return n, err
}

// sweep removes the files of downloads that never ended.
func (f *Fetcher) sweep() error {
	dir, err := f.root.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return err
	}
	for _, name := range names {
		if !strings.HasPrefix(name, half) {
			continue
		}
		if err := f.root.Remove(name); err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
		f.o.Log.Info("a download that never ended was removed", "file", name)
	}
	return nil
}

func (f *Fetcher) syncDir() error {
	dir, err := f.root.Open(".")
	if err != nil {
		return err
	}
	defer dir.Close()
	return dir.Sync()
}
