package basic_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/provisioner/basic"
	"github.com/vagoth/vagoth/provisioner/provisionertest"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/registry/memdb"
	"github.com/vagoth/vagoth/virt"
)

func memory(t testing.TB) registry.Registry {
	r, err := memdb.Memory(registry.Deps{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r
}

func open(t testing.TB, deps provisioner.Deps) provisioner.Provisioner {
	p, err := basic.Open(t.Context(), basic.Config{}, deps)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestSuite(t *testing.T) {
	provisionertest.Run(t, provisionertest.Subject{Registry: memory, Open: open})
}

// Two VMs with one MAC address, one IP address or one named volume are refused.
func TestVirtualMachines(t *testing.T) {
	r := memory(t)
	p := open(t, provisioner.Deps{Registry: r, Types: map[string]provisioner.Class{virt.TypeVM: virt.VMClass()}})
	spec := func(id, definition string) provisioner.Spec {
		doc, err := registry.ParseDocument([]byte(definition))
		if err != nil {
			t.Fatal(err)
		}
		return provisioner.Spec{ID: id, Type: virt.TypeVM, Definition: doc}
	}
	if _, err := p.Provision(t.Context(), spec("web1", `{"cpu":1,"memory":64,
		"nics":[{"mac":"52:54:00:00:00:01","address":"192.0.2.1"}],"disks":[{"size":10,"volume":"data"}]}`)); err != nil {
		t.Fatal(err)
	}
	for what, definition := range map[string]string{
		"MAC":    `{"cpu":1,"memory":64,"nics":[{"mac":"52:54:00:00:00:01"}]}`,
		"IP":     `{"cpu":1,"memory":64,"nics":[{"address":"192.0.2.1"}]}`,
		"volume": `{"cpu":1,"memory":64,"disks":[{"size":10,"volume":"data"}]}`,
	} {
		_, err := p.Provision(t.Context(), spec("web2", definition))
		var clash *registry.ConflictError
		if !errors.As(err, &clash) || clash.Owner != "web1" {
			t.Errorf("the same %s: %v", what, err)
		}
	}
	_, err := p.Provision(t.Context(), spec("web3", `{"cpu":0,"memry":64,"nics":[{"mac":"x"}]}`))
	for _, want := range []string{"cpu", "memry", "nics[0].mac"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v does not say %s", err, want)
		}
	}
}
