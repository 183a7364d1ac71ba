package daemon

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/cmd/vagoth/cli"
	"github.com/vagoth/vagoth/cmd/vagoth/serve"
	"github.com/vagoth/vagoth/manager/standard"
)

const asVagoth = "VAGOTH_TEST_RUN"

// TestMain lets this program be vagoth when it starts itself.
func TestMain(m *testing.M) {
	if os.Getenv(asVagoth) == "1" {
		os.Exit(cli.Run(context.Background(), standard.Menu(), cli.System(), os.Args[1:]))
	}
	os.Exit(m.Run())
}

// place is a directory with a configuration, in which daemons live one after the
// other.
type place struct {
	t      *testing.T
	dir    string
	client *api.Client
	lives  int
}

func newPlace(t *testing.T, ini string) *place {
	t.Helper()
	dir, err := os.MkdirTemp("", "vd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return placeAt(t, dir, filepath.Join(dir, "data"), ini)
}

// placeAt is a place whose data are somewhere else.
func placeAt(t *testing.T, dir, data, ini string) *place {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "vagoth.ini"), []byte("data = "+data+"\n"+ini), 0o600); err != nil {
		t.Fatal(err)
	}
	transport := serve.Transport(filepath.Join(data, "vagoth.sock"))
	transport.DisableKeepAlives = true
	return &place{t: t, dir: dir, client: api.NewClient("http://vagoth", transport)}
}

// command is vagoth in this place.
func (p *place) command(args ...string) *exec.Cmd {
	cmd := exec.Command(os.Args[0], args...)
	cmd.Env = append(os.Environ(), asVagoth+"=1", "VAGOTH_CONFIG="+filepath.Join(p.dir, "vagoth.ini"))
	cmd.Dir = p.dir
	return cmd
}

// process is one life of the daemon.
type process struct {
	t   *testing.T
	cmd *exec.Cmd
	log string
}

// start begins a life, and waits until it serves.
func (p *place) start(ctx context.Context) *process {
	p.t.Helper()
	d := &process{t: p.t, log: filepath.Join(p.dir, fmt.Sprintf("log.%d", p.lives)), cmd: p.command("serve")}
	p.lives++
	out, err := os.Create(d.log)
	if err != nil {
		p.t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	d.cmd.Stderr = out
	if err := d.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(d.kill)
	until(ctx, p.t, "the daemon serves", func() bool {
		_, err := p.client.Version(ctx)
		return err == nil
	})
	return d
}

// kill ends the process as a power failure would end it.
func (d *process) kill() {
	if d.cmd.ProcessState == nil {
		_ = d.cmd.Process.Kill()
		_ = d.cmd.Wait()
	}
	if d.t.Failed() {
		if text, err := os.ReadFile(d.log); err == nil {
			d.t.Logf("%s ends:\n%s", filepath.Base(d.log), text[max(0, len(text)-4000):])
		}
	}
}

// signal asks the process to do something; wait returns how it ended, and when.
func (d *process) signal(s os.Signal) {
	d.t.Helper()
	if err := d.cmd.Process.Signal(s); err != nil {
		d.t.Fatal(err)
	}
}

func (d *process) wait() (time.Duration, error) {
	began := time.Now()
	err := d.cmd.Wait()
	return time.Since(began), err
}

func until(ctx context.Context, t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-ctx.Done():
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}
