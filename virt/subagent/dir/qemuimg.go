package dir

import (
	"bytes"
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
	qcow2 = "qcow2"
	raw   = "raw"
)

// Bounds of what qemu-img may write.
const (
	maxOut = 16 << 20
	maxErr = 4 << 10
)

// qemuImg runs qemu-img. Its arguments are never read by a shell, and no format
// is left for it to guess.
func (s *Store) qemuImg(ctx context.Context, args ...string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.RunTimeout)
	defer cancel()
	argv := append([]string{s.o.QemuImg}, args...)
	run := s.o.Run
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

// info is what qemu-img says of a file.
type info struct {
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

// info asks about a file, one that is in use too.
func (s *Store) info(ctx context.Context, name, format string) (*info, error) {
	out, err := s.qemuImg(ctx, "info", "-U", "--output=json", "-f", format, "--", s.path(name))
	if err != nil {
		return nil, err
	}
	i := &info{}
	if err := json.Unmarshal(out, i); err != nil {
		return nil, fmt.Errorf("qemu-img info: what it says of %s cannot be understood: %w", name, err)
	}
	if i.Format != format {
		return nil, fmt.Errorf("qemu-img info: %s is a %.20q and should be a %s", name, i.Format, format)
	}
	return i, nil
}

// checkWhole refuses a qcow2 file that is not consistent. Room that is only lost
// is no harm.
func (s *Store) checkWhole(ctx context.Context, name string) error {
	const onlyLeaks = 3
	_, err := s.qemuImg(ctx, "check", "-q", "-U", "-f", qcow2, "--", s.path(name))
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == onlyLeaks {
		return nil
	}
	return err
}

// create makes a disk: of the size in bytes, backed by a file of the store if
// there is one. Without a size it has that of the file.
func (s *Store) create(ctx context.Context, name, format, backing string, size int64) error {
	args := []string{"create", "-q", "-f", format}
	if backing != "" {
		args = append(args, "-F", qcow2, "-b", s.path(backing))
	}
	args = append(args, "--", s.path(name))
	if size > 0 {
		args = append(args, strconv.FormatInt(size, 10))
	}
	_, err := s.qemuImg(ctx, args...)
	return err
}

// convert copies the content of a file into a new one, that of a snapshot inside
// if one is named.
func (s *Store) convert(ctx context.Context, from, fromFormat, snapshot, to, toFormat string) error {
	args := []string{"convert", "-q", "-f", fromFormat, "-O", toFormat}
	if snapshot != "" {
		args = append(args, "-l", "snapshot.name="+snapshot)
	}
	_, err := s.qemuImg(ctx, append(args, "--", s.path(from), s.path(to))...)
	return err
}

// resize makes a file larger.
func (s *Store) resize(ctx context.Context, name, format string, size int64) error {
	_, err := s.qemuImg(ctx, "resize", "-q", "-f", format, "--", s.path(name), strconv.FormatInt(size, 10))
	return err
}

// snapshot does one thing to the snapshots of a qcow2 file: -c, -a or -d. It has
// no argument for the format, so it is given with the file.
func (s *Store) snapshot(ctx context.Context, name, do, snapshot string) error {
	_, err := s.qemuImg(ctx, "snapshot", "-q", "--image-opts", do, snapshot, "--", "driver=qcow2,file.driver=file,file.filename="+s.path(name))
	return err
}
