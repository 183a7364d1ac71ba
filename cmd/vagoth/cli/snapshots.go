package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/virt"
)

// lone queues one action for nodes that are named and waits for it.
type lone struct {
	b bulk
	w waiting
	o order
}

func (a *app) lone(action, how, destroys, typ string) *lone {
	x := &lone{b: bulk{app: a, how: how, onlyType: typ, destroys: destroys, parallel: 1}, w: waiting{app: a}}
	x.b.sel.flags(pflag.NewFlagSet("", pflag.ContinueOnError)) // nothing is selected
	x.o = order{bulk: &x.b, wait: &x.w, action: action, vms: typ == vmOnly}
	return x
}

// flags are those of every such command.
func (x *lone) flags(c *cobra.Command) *cobra.Command {
	x.w.flags(c.Flags())
	if x.b.destroys != "" {
		c.Flags().BoolVarP(&x.b.yes, "yes", "y", false, "do not ask")
	}
	return c
}

func (x *lone) run(cmd *cobra.Command, node string, params any) (err error) {
	if x.o.params, err = registry.NewDocument(params); err != nil {
		return err
	}
	return x.o.run(cmd, []string{node})
}

const vmAndSnapshot = "a VM and a snapshot"

func snapshotCmd(a *app) *cobra.Command {
	return parent("snapshot", "keep what the disks of VMs hold, put it back, copy it out",
		snapshotCreateCmd(a), snapshotListCmd(a), snapshotShowCmd(a), snapshotRollbackCmd(a), snapshotDeleteCmd(a), snapshotDownloadCmd(a))
}

func snapshotCreateCmd(a *app) *cobra.Command {
	x := a.lone(virt.ActionSnapshot, "has snapshot", "", vmOnly)
	return x.flags(&cobra.Command{
		Use: "create VM [NAME]", Short: "keep what a VM's disks hold, under a name",
		Long: `Keep what all disks of a VM hold, at one time. A VM that runs is snapshotted where
its driver can do that: the disks are then as after a power cut. Without a name it
is called after the time.`,
		Example: "  vagoth snapshot create web1 before-upgrade",
		Args:    args(1, 2, "a VM, and a name for the snapshot"),
		RunE: func(cmd *cobra.Command, args []string) error {
			name := "snap-" + a.env.Now().UTC().Format("20060102-150405")
			if len(args) == 2 {
				name = args[1]
			}
			if err := virt.CheckSnapshotName(name); err != nil {
				return usageError{err}
			}
			x.b.how = "has snapshot " + name
			return x.run(cmd, args[0], virt.Params{Snapshot: name})
		},
	})
}

func snapshotTable(list []virt.Snapshot) (*table, []string) {
	t, names := &table{head: []string{"SNAPSHOT", "CREATED", "SIZE", "DISKS"}}, []string{}
	for _, s := range list {
		created := "-"
		if !s.Created.IsZero() {
			created = s.Created.Format(time.RFC3339)
		}
		names = append(names, s.Name)
		t.add(s.Name, created, megabytesText(s.Size), strings.Join(s.Disks, ", "))
	}
	return t, names
}

func megabytesText(n int64) string { return strconv.FormatInt(n, 10) + "M" }

func snapshotListCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "list VM", Short: "list a VM's snapshots, oldest first", Args: args(1, 1, "a VM"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				list, err := client.Snapshots(ctx, args[0])
				if err != nil {
					return err
				}
				t, names := snapshotTable(list)
				return a.print(list, names, func(w io.Writer) error {
					if len(list) == 0 {
						a.say("%s has no snapshots", args[0])
						return nil
					}
					return t.write(w, a.paint)
				})
			})
		},
	}
}

func snapshotShowCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "show VM SNAPSHOT", Short: "show one snapshot", Args: args(2, 2, vmAndSnapshot),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				s, err := client.Snapshot(ctx, args[0], args[1])
				if err != nil {
					return err
				}
				t, names := snapshotTable([]virt.Snapshot{s})
				return a.print(s, names, func(w io.Writer) error { return t.write(w, a.paint) })
			})
		},
	}
}

func snapshotRollbackCmd(a *app) *cobra.Command {
	x := a.lone(virt.ActionRollback, "rolled back", "lose what was written since on the disks of", vmOnly)
	destroy := false
	c := &cobra.Command{
		Use: "rollback VM SNAPSHOT", Short: "put the disks of a VM that is off back to a snapshot",
		Long: `Put the disks of a VM that is off back to what they held. What was written since is
lost. Newer snapshots are in the way, unless --destroy-more-recent says that they
may be lost too.`,
		Example: "  vagoth snapshot rollback web1 before-upgrade",
		Args:    args(2, 2, vmAndSnapshot),
		RunE: func(cmd *cobra.Command, args []string) error {
			x.b.how = "rolled back to " + args[1]
			return x.run(cmd, args[0], virt.Params{Snapshot: args[1], DestroyMoreRecent: destroy})
		},
	}
	c.Flags().BoolVar(&destroy, "destroy-more-recent", false, "newer snapshots may be lost")
	return x.flags(c)
}

func snapshotDeleteCmd(a *app) *cobra.Command {
	x := a.lone(virt.ActionSnapshotDelete, "", "delete a snapshot of", vmOnly)
	return x.flags(&cobra.Command{
		Use: "delete VM SNAPSHOT", Short: "remove a snapshot; the disks stay as they are", Args: args(2, 2, vmAndSnapshot),
		RunE: func(cmd *cobra.Command, args []string) error {
			x.b.how = "has no snapshot " + args[1] + " any more"
			return x.run(cmd, args[0], virt.Params{Snapshot: args[1]})
		},
	})
}

func snapshotDownloadCmd(a *app) *cobra.Command {
	var disk, to string
	c := &cobra.Command{
		Use: "download VM SNAPSHOT", Short: "copy what a disk held to a file or standard output",
		Long: `Copy what a disk of a VM held, as the host sends it: its format (raw, qcow2, a zfs
stream) is said where it is known. A file is there only when all of it is; one that
exists is not overwritten.`,
		Example: "  vagoth snapshot download web1 before-upgrade --disk vda --to web1.img",
		Args:    args(2, 2, vmAndSnapshot),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				s, err := client.DownloadSnapshot(ctx, args[0], args[1], disk)
				if err != nil {
					return err
				}
				defer func() { _ = s.Close() }()
				bar := a.bar(to)
				n, err := a.save(to, &counted{r: s, total: s.Length, bar: bar})
				bar.end()
				if err != nil {
					return fmt.Errorf("the download broke off after %d bytes: %w", n, err)
				}
				if to != "" && to != "-" {
					format := s.Format
					if format != "" {
						format = ", " + format
					}
					a.say("%s: %d bytes%s", to, n, format)
				}
				return nil
			})
		},
	}
	c.Flags().StringVar(&disk, "disk", "", "the disk: its device, volume or number; the first if not given")
	c.Flags().StringVar(&to, "to", "-", "the file; - is standard output")
	return c
}

// save copies r to a new file, or to standard output. The file has its name only
// when it is whole.
func (a *app) save(to string, r io.Reader) (n int64, err error) {
	if to == "" || to == "-" {
		if a.env.Terminal {
			return 0, usagef("this would write bytes to the terminal: say --to FILE, or redirect it")
		}
		return io.Copy(a.env.Out, r)
	}
	if fileExists(to) {
		return 0, usagef("%s exists: name another file, or remove it", to)
	}
	f, err := os.CreateTemp(filepath.Dir(to), ".vagoth-*.part")
	if err != nil {
		return 0, err
	}
	n, err = io.Copy(f, r)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Link(f.Name(), to) // which never replaces a file
	}
	return n, errors.Join(err, os.Remove(f.Name()))
}

// bar is how far a copy is: drawn on a terminal, silent elsewhere.
type bar struct {
	a     *app
	name  string
	drawn time.Time
}

func (a *app) bar(name string) *bar { return &bar{a: a, name: name} }

const barWidth = 30

func (b *bar) at(done, total int64) {
	now := b.a.env.Now()
	if !b.a.env.Terminal || now.Sub(b.drawn) < drawEvery {
		return
	}
	b.drawn = now
	_, _ = fmt.Fprintf(b.a.env.Err, "\r%s\x1b[K", short(barText(b.name, done, total), drawWidth))
}

// barText is the bar, as far as the total is known.
func barText(name string, done, total int64) string {
	if total <= 0 {
		return fmt.Sprintf("%s  %d MB", name, done>>20)
	}
	full := int(min(barWidth, float64(done)/float64(total)*barWidth))
	return fmt.Sprintf("%s  [%s%s] %d%%  %d of %d MB", name, strings.Repeat("#", full), strings.Repeat("-", barWidth-full),
		int(float64(done)/float64(total)*100), done>>20, total>>20)
}

func (b *bar) end() {
	if b.a.env.Terminal && !b.drawn.IsZero() {
		_, _ = fmt.Fprint(b.a.env.Err, "\r\x1b[K")
	}
}

// counted reads and shows how far that is.
type counted struct {
	r           io.Reader
	done, total int64
	bar         *bar
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.done += int64(n)
	c.bar.at(c.done, c.total)
	return n, err
}
