package dir_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/vagoth/vagoth/internal/testlong"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
	"github.com/vagoth/vagoth/virt/subagent"
	"github.com/vagoth/vagoth/virt/subagent/dir"
)

// machine is a QEMU that has disks open, as that of a guest that runs, and what
// makes snapshots in them.
type machine struct {
	t     *testing.T
	cmd   *exec.Cmd
	conn  net.Conn
	in    *bufio.Scanner
	nodes map[string]string // by file

	mu     sync.Mutex
	fail   error // of the next call
	failAt string
	calls  []string
}

func boot(t *testing.T, files ...string) *machine {
	t.Helper()
	if _, err := exec.LookPath("qemu-system-x86_64"); err != nil {
		testlong.Missing(t, "qemu-system-x86_64 is not installed: apt-get install qemu-system-x86")
	}
	m := &machine{t: t, nodes: map[string]string{}}
	socket := filepath.Join(t.TempDir(), "qmp")
	argv := []string{"-machine", "none,accel=tcg", "-nodefaults", "-display", "none", "-qmp", "unix:" + socket + ",server=on,wait=off"}
	for i, file := range files {
		node := "disk" + strconv.Itoa(i)
		m.nodes[file] = node
		argv = append(argv, "-blockdev", fmt.Sprintf("driver=qcow2,node-name=%s,file.driver=file,file.filename=%s", node, file))
	}
	m.cmd = exec.Command("qemu-system-x86_64", argv...)
	m.cmd.Stderr = os.Stderr
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.halt)
	for deadline := time.Now().Add(20 * time.Second); m.conn == nil; {
		conn, err := net.Dial("unix", socket)
		switch {
		case err == nil:
			m.conn = conn
		case time.Now().After(deadline):
			t.Fatal(err)
		default:
			<-time.After(10 * time.Millisecond)
		}
	}
	m.in = bufio.NewScanner(m.conn)
	m.in.Scan() // the greeting
	if err := m.ask(`{"execute": "qmp_capabilities"}`); err != nil {
		t.Fatal(err)
	}
	return m
}

func (m *machine) halt() {
	if m.cmd != nil {
		_ = m.cmd.Process.Kill()
		_ = m.cmd.Wait()
		m.cmd = nil
		if m.conn != nil {
			_ = m.conn.Close()
		}
	}
}

func (m *machine) ask(command string) error {
	if _, err := fmt.Fprintln(m.conn, command); err != nil {
		return err
	}
	for m.in.Scan() {
		var answer struct {
			Return json.RawMessage
			Error  *struct{ Desc string }
		}
		if err := json.Unmarshal(m.in.Bytes(), &answer); err != nil {
			return err
		}
		switch {
		case answer.Error != nil:
			return errors.New(answer.Error.Desc)
		case answer.Return != nil:
			return nil
		}
	}
	return errors.New("qemu hung up")
}

func (m *machine) do(what, command string, s subagent.LiveSnapshot) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.calls = append(m.calls, what+" "+s.Name+" "+strconv.Itoa(len(s.Files)))
	if m.fail != nil && m.failAt == what {
		err := m.fail
		m.fail = nil
		return err
	}
	type object = map[string]any
	var actions []object
	for _, f := range s.Files {
		node, ok := m.nodes[f]
		if !ok {
			return fmt.Errorf("%w: %s is no disk of it", virt.ErrNotFound, f)
		}
		data := object{"device": node, "name": s.Name}
		if command == "blockdev-snapshot-delete-internal-sync" {
			if err := m.ask(fmt.Sprintf(`{"execute": %q, "arguments": {"device": %q, "name": %q}}`, command, node, s.Name)); err != nil && what == "make" {
				return err
			}
			continue
		}
		actions = append(actions, object{"type": command, "data": data})
	}
	if len(actions) == 0 {
		return nil
	}
	text, err := json.Marshal(object{"execute": "transaction", "arguments": object{"actions": actions}})
	if err != nil {
		return err
	}
	return m.ask(string(text))
}

func (m *machine) SnapshotLive(_ context.Context, s subagent.LiveSnapshot) error {
	return m.do("make", "blockdev-snapshot-internal-sync", s)
}

func (m *machine) DropLive(_ context.Context, s subagent.LiveSnapshot) error {
	return m.do("drop", "blockdev-snapshot-delete-internal-sync", s)
}

// later is a LiveSnapshotter that is known only after the store was opened.
type later struct{ subagent.LiveSnapshotter }

func TestSnapshotsOfAGuestThatRuns(t *testing.T) {
	b := newBench(t)
	ctx := t.Context()
	live := &later{}
	b.open(dir.Options{Live: live})
	g := b.create(b.guest(mistify.Disk{Size: 1}, mistify.Disk{Size: 1}, mistify.Disk{Size: 1}))
	for i, d := range g.Disks {
		b.write(d.Source, "qcow2", byte('a'+i))
	}
	take := func(disk, name string) error {
		r := at(g, disk, "")
		r.Dest = name
		_, err := b.s.CreateSnapshot(ctx, r)
		return err
	}
	m := boot(t, g.Disks[0].Source, g.Disks[1].Source) // the third is not attached
	live.LiveSnapshotter = m

	if err := take("", "one"); err != nil {
		t.Fatal(err)
	}
	if err := take("1", "mine"); err != nil {
		t.Fatal(err)
	}
	b.snapshots(g, "@one", "0@one", "1@one", "2@one", "1@mine")
	_, err := b.s.RollbackSnapshot(ctx, at(g, "0", "one"))
	b.refused("a rollback under a guest that runs", err, virt.ErrBusy)
	_, err = b.s.DeleteGuestDisks(ctx, &mistify.GuestRequest{Guest: g})
	b.refused("removing the disks of a guest that runs", err, virt.ErrBusy)
	if _, err := b.s.DeleteSnapshot(ctx, at(g, "1", "mine")); err != nil {
		t.Error(err)
	}
	b.snapshots(g, "@one", "0@one", "1@one", "2@one")

	// It fails in the guest: nothing is left in the disk that nobody has open.
	m.fail, m.failAt = errors.New("the guest does not answer"), "make"
	if err := take("", "two"); err == nil {
		t.Error("it was made")
	}
	b.failing("-c", 1, false) // and the other way round
	if err := take("", "two"); err == nil {
		t.Error("it was made")
	}
	b.healthy()
	b.snapshots(g, "@one", "0@one", "1@one", "2@one")

	// It can be neither made nor taken back, as when the process is killed: the next call takes it back.
	b.failing("-c", 1, false)
	m.fail, m.failAt = errors.New("the guest does not answer"), "drop"
	if err := take("", "three"); err == nil {
		t.Error("it was made")
	}
	b.healthy()
	b.snapshots(g, "@one", "0@one", "1@one", "2@one")
	if want := []string{"make snap-one 2", "make snap-mine 1", "drop snap-mine 1", "make snap-two 2", "drop snap-two 2", "make snap-two 2", "drop snap-two 2", "make snap-three 2", "drop snap-three 2", "drop snap-three 2"}; !slices.Equal(m.calls, want) {
		t.Errorf("the guest was asked %q\nwant %q", m.calls, want)
	}

	// Whoever has the disks open is not the guest.
	live.LiveSnapshotter = &machine{nodes: map[string]string{}}
	err = take("", "four")
	b.refused("a guest that is not there", err, virt.ErrBusy)
	live.LiveSnapshotter = m
	b.snapshots(g, "@one", "0@one", "1@one", "2@one")

	m.halt()
	for i, d := range g.Disks {
		b.write(d.Source, "qcow2", 'z')
		if _, err := b.s.RollbackSnapshot(ctx, at(g, strconv.Itoa(i), "one")); err != nil {
			t.Error(err)
		}
		b.holds(d.Source, "qcow2", byte('a'+i))
	}
	b.tidy()

	b.open(dir.Options{}) // nobody can do it
	boot(t, g.Disks[0].Source)
	b.refused("a snapshot of a guest that runs", take("", "five"), virt.ErrBusy)
	b.snapshots(g, "@one", "0@one", "1@one", "2@one")
}
