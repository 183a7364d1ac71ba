package standard_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/manager/standard"
	"github.com/vagoth/vagoth/test/etcdtest"
)

// A scheduler that several managers share takes no driver that cannot refuse what one of
// them asks late, unless somebody takes the risk.
func TestUnfencedDriversAreRefused(t *testing.T) {
	url := etcdtest.Embedded(t)
	load := func(text string) error {
		ini := filepath.Join(t.TempDir(), "vagoth.ini")
		if err := os.WriteFile(ini, []byte("[scheduler]\nuse = etcd\nendpoints = "+url+"\nsession = 2s\ntimeout = 1s\n"+text), 0o600); err != nil {
			t.Fatal(err)
		}
		m, err := manager.Load(t.Context(), ini, standard.Menu(), manager.Options{})
		if err != nil {
			return err
		}
		return m.Close()
	}
	const libvirt = "[drivers.here]\nuse = libvirt\nuri = qemu:///system\n"
	if err := load(libvirt); err == nil || !strings.Contains(err.Error(), "[drivers.here] use = libvirt cannot refuse") || !strings.Contains(err.Error(), "unfenced = accept") {
		t.Errorf("libvirt: %v", err)
	}
	if err := load("unfenced = accept\n" + libvirt); err != nil {
		t.Errorf("libvirt, accepted: %v", err)
	}
	if err := load("[drivers.here]\nuse = sim\n[drivers.there]\nuse = remote\n"); err != nil {
		t.Errorf("sim and remote: %v", err)
	}
}
