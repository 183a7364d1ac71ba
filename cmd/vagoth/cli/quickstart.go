package cli

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/vagoth/vagoth/allocator"
	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/provisioner"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/virt"
)

//go:embed quickstart
var quickstartFiles embed.FS

// sketch is what quickstart builds.
type sketch struct {
	ini   string
	hosts []provisioner.Spec
	vms   []provisioner.Spec
	next  string
}

func quickstartCmd(a *app) *cobra.Command {
	var real bool
	var kernel, initrd, uri string
	c := &cobra.Command{
		Use: "quickstart", Short: "make a small cluster to try vagoth on, and show it",
		Long: `Make a small cluster in this directory and show it: a commented vagoth.ini and a
data directory if there are none, a few hypervisors, a few virtual machines,
all started. Typed again, it finds what it made.

The hypervisors are simulated, so nothing has to be installed. With --libvirt
the hypervisor is this machine's libvirt and the virtual machines are real; they
boot nothing unless --kernel and --initrd name something to boot.`,
		Args: args(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !real && (kernel != "" || initrd != "" || uri != "") {
				return usagef("--kernel, --initrd and --uri go with --libvirt: simulated virtual machines boot nothing")
			}
			s, err := simulated()
			if real {
				s, err = onLibvirt(kernel, initrd, uri)
			}
			if err != nil {
				return err
			}
			return a.quickstart(cmd, s)
		},
	}
	c.Flags().BoolVar(&real, "libvirt", false, "use this machine's libvirt and real virtual machines")
	c.Flags().StringVar(&kernel, "kernel", "", "with --libvirt: a kernel for the virtual machines, an absolute path")
	c.Flags().StringVar(&initrd, "initrd", "", "with --libvirt: its initial RAM disk")
	c.Flags().StringVar(&uri, "uri", "", "with --libvirt: the hypervisor; qemu:///system if not given")
	return c
}

func (a *app) quickstart(cmd *cobra.Command, s sketch) error {
	if err := a.writeConfig(s.ini); err != nil {
		return err
	}
	return a.with(cmd, func(ctx context.Context, client *api.Client) error {
		for _, spec := range s.hosts {
			if err := a.make(ctx, client, spec); err != nil {
				return err
			}
		}
		if _, err := client.Poll(ctx); err != nil {
			return err
		}
		for _, spec := range s.vms {
			if err := a.make(ctx, client, spec); err != nil {
				return err
			}
			if err := a.startOnce(ctx, client, spec.ID); err != nil {
				return err
			}
		}
		report, err := client.Poll(ctx)
		if err != nil {
			return err
		}
		for _, h := range report.Hosts {
			if h.Error != "" {
				a.say("%s cannot be asked: %s", h.Name, h.Error)
			}
		}
		a.say("")
		if err := a.tree(ctx, client); err != nil {
			return err
		}
		a.say("\n%s", s.next)
		return nil
	})
}

// writeConfig writes the ini file, whose data directory follows, unless there
// is one.
func (a *app) writeConfig(text string) error {
	f, err := os.OpenFile(a.config, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, os.ErrExist) {
		a.say("%s is there already and stays as it is", a.config)
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot write the configuration: %w", err)
	}
	_, err = f.WriteString(text)
	if err := errors.Join(err, f.Close()); err != nil {
		return errors.Join(fmt.Errorf("cannot write the configuration: %w", err), os.Remove(a.config))
	}
	a.say("%s written", a.config)
	return nil
}

// make creates the node unless there is one with its ID.
func (a *app) make(ctx context.Context, client *api.Client, spec provisioner.Spec) error {
	if _, err := client.Node(ctx, spec.ID); !errors.Is(err, registry.ErrNotFound) {
		return err
	}
	if _, err := client.Create(ctx, api.CreateRequest{Spec: spec}); err != nil {
		return err
	}
	a.say("%s created", spec.ID)
	return nil
}

// startOnce starts a VM that does not run. That it fits nowhere is said and no
// reason to end.
func (a *app) startOnce(ctx context.Context, client *api.Client, id string) error {
	it, err := client.Node(ctx, id)
	if err != nil || virt.State(it.Node.State()) == virt.Running {
		return err
	}
	where, err := a.start(ctx, client, it)
	if errors.Is(err, allocator.ErrNoHost) {
		a.say("%s cannot be started: %s", id, err)
		return nil
	}
	if err != nil {
		return fmt.Errorf("cannot start %s: %w", id, err)
	}
	a.say("%s started %s", id, where)
	return nil
}

// start starts one VM and says where.
func (a *app) start(ctx context.Context, client *api.Client, it api.Item) (string, error) {
	st, err := client.Do(ctx, it.Node.ID(), api.JobRequest{Action: virt.ActionStart})
	if err != nil {
		return "", err
	}
	o := order{bulk: &bulk{app: a}, action: virt.ActionStart, vms: true}
	var out outcome
	j, progress := &awaited{name: it.Node.Name(), st: st}, a.progress(1)
	err = a.await(ctx, client, progress, []*awaited{j}, func(j *awaited) { out = o.ended(ctx, client, it, j) })
	progress.end()
	if err != nil {
		return "", errors.Join(err, a.given(ctx, client, []*awaited{j}))
	}
	return strings.TrimSpace(out.words), out.err
}

const nextSteps = `What to type next:
  vagoth list --type vm -o wide
  vagoth info web1
  vagoth why web1
  vagoth new web9 template=linux size=small && vagoth start web9
  vagoth stop web1 --grace 10s --reason "trying it"
  vagoth hv maintenance %s on && vagoth start web9 --dry-run
  vagoth poll --every 10s
  vagoth --help`

func simulated() (sketch, error) {
	ini, err := quickstartFiles.ReadFile("quickstart/sim.ini")
	if err != nil {
		return sketch{}, err
	}
	s := sketch{ini: string(ini), next: fmt.Sprintf(nextSteps, "hv1")}
	for i, rack := range []string{"a", "a", "b"} {
		spec, err := hostSpec(fmt.Sprintf("hv%d", i+1), virt.HostDefinition{Driver: "sim"}, map[string]string{"rack": rack})
		if err != nil {
			return s, err
		}
		s.hosts = append(s.hosts, spec)
	}
	for _, vm := range []struct{ id, size, role string }{{"web1", "small", "web"}, {"web2", "small", "web"}, {"web3", "small", "web"}, {"db1", "large", "db"}, {"batch1", "small", "batch"}} {
		s.vms = append(s.vms, provisioner.Spec{
			ID: vm.id, Type: virt.TypeVM, Tags: map[string]string{"role": vm.role},
			Args: map[string]string{"template": "linux", "size": vm.size},
		})
	}
	return s, nil
}

func onLibvirt(kernel, initrd, uri string) (sketch, error) {
	ini, err := quickstartFiles.ReadFile("quickstart/libvirt.ini")
	if err != nil {
		return sketch{}, err
	}
	s := sketch{ini: string(ini), next: fmt.Sprintf(nextSteps, "local")}
	host, err := hostSpec("local", virt.HostDefinition{Driver: "local", Address: uri}, nil)
	if err != nil {
		return s, err
	}
	s.hosts = []provisioner.Spec{host}
	var boot virt.Boot
	for path, field := range map[string]*string{kernel: &boot.Kernel, initrd: &boot.Initrd} {
		if path == "" {
			continue
		}
		if *field, err = filepath.Abs(path); err != nil {
			return s, err
		}
		if _, err := os.Stat(*field); err != nil {
			return s, usageError{err}
		}
	}
	for _, id := range []string{"web1", "web2"} {
		b := boot
		if b.Kernel != "" {
			b.Cmdline = "console=ttyS0 vagoth.id=" + id
		}
		doc, err := registry.NewDocument(map[string]any{"boot": b})
		if err != nil {
			return s, err
		}
		s.vms = append(s.vms, provisioner.Spec{
			ID: id, Type: virt.TypeVM, Definition: doc, Args: map[string]string{"template": "linux", "size": "small"},
		})
	}
	return s, nil
}
