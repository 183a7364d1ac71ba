package qemuimg

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The formats that there are.
const (
	QCOW2 = "qcow2"
	Raw   = "raw"
)

// Bounds of what qemu-img may write.
const (
	maxOut = 16 << 20
	maxErr = 4 << 10
)

// Runner runs a program and returns what it writes.
type Runner func(ctx context.Context, argv []string) ([]byte, error)

// Tool is the program.
type Tool struct {
	Program string        // qemu-img if ""
	Timeout time.Duration // of one run; 1 hour if 0
	Run     Runner        // for tests; Run if nil
}

// do runs it. Its arguments are never read by a shell, and no format is left for
// it to guess.
func (t Tool) do(ctx context.Context, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(t.Timeout, time.Hour))
	defer cancel()
	argv := append([]string{cmp.Or(t.Program, "qemu-img")}, args...)
	run := t.Run
	if run == nil {
		run = Run
	}
	out, err := run(ctx, argv)
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	if err != nil {
		return nil, fmt.Errorf("qemu-img %s: %w", args[0], err)
	}
	return out, nil
}

// Run runs a program with nothing to read and returns what it writes, or an
// error with what it says. It ends with ctx, and with this process.
func Run(ctx context.Context, argv []string) ([]byte, error) {
	// The kernel ends the child when the thread ends that made it, so it must stay.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 5 * time.Second
	out, said := &bounded{most: maxOut}, &bounded{most: maxErr}
	cmd.Stdout, cmd.Stderr = out, said
	err := cmd.Run()
	switch text := strings.TrimSpace(said.String()); {
	case err != nil && text != "":
		return nil, fmt.Errorf("%w: %s", err, strings.Join(strings.Fields(text), " "))
	case err != nil:
		return nil, err
	case out.cut:
		return nil, errors.New("it writes too much")
	}
	return out.Bytes(), nil
}

// bounded keeps the beginning of what is written.
type bounded struct {
	bytes.Buffer
	most int
	cut  bool
}

func (b *bounded) Write(p []byte) (int, error) {
	room := max(0, b.most-b.Len())
	b.cut = b.cut || len(p) > room
	b.Buffer.Write(p[:min(len(p), room)])
	return len(p), nil
}

// Info is what qemu-img says of a file.
type Info struct {
	Format    string `json:"format"`
	Size      int64  `json:"virtual-size"`
	Encrypted bool   `json:"encrypted"`
	Backing   string `json:"backing-filename"`
	Snapshots []struct {
		Name string `json:"name"`
	} `json:"snapshots"`
	Specific struct {
		Data struct {
			DataFile string `json:"data-file"`
			Corrupt  bool   `json:"corrupt"`
		} `json:"data"`
	} `json:"format-specific"`
}

// Info asks about a file, one that is in use too.
func (t Tool) Info(ctx context.Context, path, format string) (*Info, error) {
	out, err := t.do(ctx, "info", "-U", "--output=json", "-f", format, "--", path)
	if err != nil {
		return nil, err
	}
	i := &Info{}
	if err := json.Unmarshal(out, i); err != nil {
		return nil, fmt.Errorf("qemu-img info: what it says of %s cannot be understood: %w", path, err)
	}
	if i.Format != format {
		return nil, fmt.Errorf("qemu-img info: %s is a %.20q and should be a %s", path, i.Format, format)
	}
	return i, nil
}

// Check refuses a qcow2 file that is not consistent. Room that is only lost is no
// harm.
func (t Tool) Check(ctx context.Context, path string) error {
	const onlyLeaks = 3
	_, err := t.do(ctx, "check", "-q", "-U", "-f", QCOW2, "--", path)
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == onlyLeaks {
		return nil
	}
	return err
}

// FindLost gives back the room that a qemu-img lost which was killed.
func (t Tool) FindLost(ctx context.Context, path string) error {
	_, err := t.do(ctx, "check", "-q", "-r", "leaks", "-f", QCOW2, "--", path)
	return err
}

// Create makes a disk of the size in bytes, backed by a file if there is one, of
// which the disk's own file says the format. Without a size it has that of the file.
func (t Tool) Create(ctx context.Context, path, format, backing, backingFormat string, size int64) error {
	args := []string{"create", "-q", "-f", format}
	if backing != "" {
		args = append(args, "-F", backingFormat, "-b", backing)
	}
	args = append(args, "--", path)
	if size > 0 {
		args = append(args, strconv.FormatInt(size, 10))
	}
	_, err := t.do(ctx, args...)
	return err
}

// Convert copies the content of a file into a new one, that of a snapshot inside
// if one is named.
func (t Tool) Convert(ctx context.Context, from, fromFormat, snapshot, to, toFormat string) error {
	args := []string{"convert", "-q", "-f", fromFormat, "-O", toFormat}
	if snapshot != "" {
		args = append(args, "-l", "snapshot.name="+snapshot)
	}
	_, err := t.do(ctx, append(args, "--", from, to)...)
	return err
}

// Fill copies the content of a file onto a block device that holds zeros only.
func (t Tool) Fill(ctx context.Context, from, fromFormat, device string) error {
	_, err := t.do(ctx, "convert", "-q", "-n", "--target-is-zero", "-f", fromFormat, "-O", Raw, "--", from, device)
	return err
}

// Resize makes a file larger.
func (t Tool) Resize(ctx context.Context, path, format string, size int64) error {
	_, err := t.do(ctx, "resize", "-q", "-f", format, "--", path, strconv.FormatInt(size, 10))
	return err
}

// Snapshot does one thing to the snapshots of a qcow2 file: -c, -a or -d. It has
// no argument for the format, so it is given with the file.
func (t Tool) Snapshot(ctx context.Context, path, do, snapshot string) error {
	_, err := t.do(ctx, "snapshot", "-q", "--image-opts", do, snapshot, "--", "driver=qcow2,file.driver=file,file.filename="+path)
	return err
}
