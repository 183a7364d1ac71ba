package standard_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/manager/config"
	"github.com/vagoth/vagoth/manager/standard"
	"github.com/vagoth/vagoth/monitor"
	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/virt"
)

const loopIni = `[drivers.lab]
use = sim
path = hosts
[provisioner]
use = basic
`

// A loop over the real store remembers from round to round how often a VM was
// missing, and leaves the store to others in between.
func TestLoop(t *testing.T) {
	path := filepath.Join(t.TempDir(), "vagoth.ini")
	if err := os.WriteFile(path, []byte(loopIni), 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := config.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	s, err := manager.Read(f, standard.Menu())
	if err != nil {
		t.Fatal(err)
	}
	within := func(ctx context.Context, fn func(m *manager.Manager) error) error {
		m, err := manager.Open(ctx, s, manager.Options{}) // waits for no lock
		if err != nil {
			return err
		}
		return errors.Join(fn(m), m.Close())
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	err = within(ctx, func(m *manager.Manager) error {
		for _, spec := range []provisioner.Spec{{ID: "h1", Type: virt.TypeHypervisor, Definition: doc(t, `{"driver":"lab"}`)}, {ID: "web1", Type: virt.TypeVM, Definition: doc(t, `{"cpu":1,"memory":64}`)}} {
			if _, err := m.Provisioner.Provision(ctx, spec); err != nil {
				return err
			}
		}
		if _, err := m.Monitor.Poll(ctx); err != nil {
			return err
		}
		// The registry has it on a host that does not know it.
		if _, err := registry.SetParent(ctx, m.Registry, "web1", "", "h1"); err != nil {
			return err
		}
		_, err := registry.SetState(ctx, m.Registry, "web1", string(virt.Running))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	rounds, missing := 0, 0
	err = manager.Loop(ctx, s, manager.Options{}, 50*time.Millisecond, func(_ monitor.Report, err error) {
		rounds++
		if err == nil {
			err = within(ctx, func(m *manager.Manager) error {
				n, err := registry.Get(ctx, m.Registry, "web1")
				if err == nil && n.State() == string(virt.Missing) {
					missing = rounds
				}
				return err
			})
		}
		if err != nil {
			t.Errorf("round %d: %v", rounds, err)
		}
		if missing > 0 || rounds == 20 {
			cancel()
		}
	})
	if err != nil || missing < 2 {
		t.Errorf("after %d rounds the VM was missing at %d (0 is never); %v", rounds, missing, err)
	}
}

func doc(t *testing.T, text string) registry.Document {
	t.Helper()
	d, err := registry.ParseDocument([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return d
}
