package api

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/sim"
)

// keeping is a cluster with a VM that runs, has a snapshot, and a host with an
// image.
func keeping(t *testing.T) *cluster {
	t.Helper()
	c := newCluster(t, opts{})
	c.create("h1", virt.TypeHypervisor, `{"driver":"lab"}`)
	c.create("web1", virt.TypeVM, `{"cpu":1,"memory":64,"disks":[{"size":10}],"nics":[{"type":"user"}]}`)
	if _, err := registry.SetParent(c.ctx, c.m.Registry, "web1", "", "h1"); err != nil {
		t.Fatal(err)
	}
	g, err := virt.GuestOf(c.node("web1"))
	if err != nil {
		t.Fatal(err)
	}
	d, h := c.lab(), virt.Host{ID: "h1"}
	for _, err := range []error{
		d.Provision(c.ctx, h, g), d.Define(c.ctx, h, g), d.Power(c.ctx, h, g, virt.PowerStart),
		d.WriteDisk("h1", "web1-disk-0", "what it held"), d.CreateSnapshot(c.ctx, h, g, "s1"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := d.FetchImage(c.ctx, h, virt.ImageRequest{ID: "library/busybox:1", Type: "container"}, nil); err != nil {
		t.Fatal(err)
	}
	return c
}

func (c *cluster) lab() *sim.Driver {
	c.t.Helper()
	d, ok := c.m.Parts().Drivers["lab"].(*sim.Driver)
	if !ok {
		c.t.Fatal("the driver lab is not simulated")
	}
	return d
}

func (c *cluster) node(id string) *registry.Node {
	c.t.Helper()
	n, err := registry.Get(c.ctx, c.m.Registry, id)
	if err != nil {
		c.t.Fatal(err)
	}
	return n
}

// ways are a client inside the process and one over a socket.
func (c *cluster) ways() map[string]*Client {
	srv := httptest.NewServer(c.h)
	c.t.Cleanup(func() {
		srv.CloseClientConnections()
		srv.Close()
	})
	return map[string]*Client{"inside": c.Client, "socket": NewClient(srv.URL, recorder{srv.Client().Transport})}
}

func TestGuestsAndImages(t *testing.T) {
	c := keeping(t)
	for name, client := range c.ways() {
		t.Run(name, func(t *testing.T) {
			list, err := client.Snapshots(c.ctx, "web1")
			if err != nil || len(list) != 1 || list[0].Name != "s1" || list[0].Size != 10 {
				t.Errorf("snapshots: %+v, %v", list, err)
			}
			if s, err := client.Snapshot(c.ctx, "web1", "s1"); err != nil || s.Disks[0] != "vda" {
				t.Errorf("a snapshot: %+v, %v", s, err)
			}
			if m, err := client.GuestMetrics(c.ctx, "web1"); err != nil || len(m.CPUs) != 1 || m.State != virt.Running {
				t.Errorf("metrics: %+v, %v", m, err)
			}
			if d, err := client.Disks(c.ctx, "web1"); err != nil || len(d.Disks) != 1 || d.Disks[0].Volume != "web1-disk-0" {
				t.Errorf("disks: %+v, %v", d, err)
			}
			if i, err := client.Images(c.ctx, "h1"); err != nil || len(i) != 1 {
				t.Errorf("images: %+v, %v", i, err)
			}
			if i, err := client.Image(c.ctx, "h1", "library/busybox:1"); err != nil || i.Type != "container" {
				t.Errorf("an image whose ID has a slash: %+v, %v", i, err)
			}
			if has, err := client.Probe(c.ctx, ProbeRequest{ID: "h9", Driver: "lab"}); err != nil || has.CPU != 32 {
				t.Errorf("probe: %+v, %v", has, err)
			}
			s, err := client.DownloadSnapshot(c.ctx, "web1", "s1", "0")
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(s)
			if err != nil || s.Format != "raw" || s.Length != int64(len(data)) || !bytes.HasPrefix(data, []byte("what it held")) {
				t.Errorf("a download of %d bytes of %d (%s), %v", len(data), s.Length, s.Format, err)
			}
			_ = s.Close()
			for what, err := range map[string]error{
				"a snapshot that is not there": second(client.Snapshot(c.ctx, "web1", "none")),
				"a download that is not there": second(client.DownloadSnapshot(c.ctx, "web1", "none", "")),
				"a disk that is not there":     second(client.DownloadSnapshot(c.ctx, "web1", "s1", "vdq")),
				"an image that is not there":   second(client.Image(c.ctx, "h1", "none")),
			} {
				if !errors.Is(err, virt.ErrNotFound) {
					t.Errorf("%s: %v", what, err)
				}
			}
			for what, err := range map[string]error{
				"snapshots of a host": second(client.Snapshots(c.ctx, "h1")),
				"images of a VM":      second(client.Images(c.ctx, "web1")),
				"a hostile name":      second(client.Snapshot(c.ctx, "web1", "../x")),
				"an unknown driver":   second(client.Probe(c.ctx, ProbeRequest{ID: "h9", Driver: "labb"})),
			} {
				if !errors.Is(err, virt.ErrInvalid) {
					t.Errorf("%s: %v", what, err)
				}
			}
		})
	}
}

func second[T any](_ T, err error) error { return err }

func TestConsole(t *testing.T) {
	c := keeping(t)
	g, err := virt.GuestOf(c.node("web1"))
	if err != nil {
		t.Fatal(err)
	}
	for name, client := range c.ways() {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(c.ctx, 20*time.Second)
			defer cancel()
			rw, err := client.Console(ctx, "web1")
			if err != nil {
				t.Fatal(err)
			}
			for _, words := range []string{"first\n", "second\n"} {
				if _, err := io.WriteString(rw, words); err != nil {
					t.Fatal(err)
				}
				if said := until(t, rw, words); said != "" {
					t.Error(said)
				}
			}
			if err := rw.Close(); err != nil {
				t.Error(err)
			}
			// It ends with its context, ...
			shorter, end := context.WithCancel(ctx)
			rw, err = client.Console(shorter, "web1")
			if err != nil {
				t.Fatal(err)
			}
			end()
			if _, _ = io.Copy(io.Discard, rw); ctx.Err() != nil { // whatever it says of its end
				t.Error("a console outlived its context")
			}
			_ = rw.Close()
			// ... and with its guest.
			rw, err = client.Console(ctx, "web1")
			if err != nil {
				t.Fatal(err)
			}
			if err := c.lab().Power(ctx, virt.Host{ID: "h1"}, g, virt.PowerStop); err != nil {
				t.Fatal(err)
			}
			if _, err := io.Copy(io.Discard, rw); err != nil {
				t.Errorf("the console of a guest that stops ends with %v", err)
			}
			_ = rw.Close()
			if _, err := client.Console(ctx, "web1"); !errors.Is(err, virt.ErrConflict) {
				t.Errorf("the console of a guest that is off: %v", err)
			}
			if err := c.lab().Power(ctx, virt.Host{ID: "h1"}, g, virt.PowerStart); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// until reads until text has come, or says what came instead.
func until(t *testing.T, r io.Reader, text string) string {
	t.Helper()
	var all strings.Builder
	buf := make([]byte, 1024)
	for !strings.Contains(all.String(), text) {
		n, err := r.Read(buf)
		all.Write(buf[:n])
		if err != nil {
			return all.String() + ": " + err.Error()
		}
	}
	return ""
}
