package cli

import (
	"cmp"
	"context"
	"io"

	"github.com/spf13/cobra"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/virt"
)

func diskCmd(a *app) *cobra.Command {
	return parent("disk", "attach, detach and list the disks of VMs", diskAttachCmd(a), diskDetachCmd(a), diskListCmd(a))
}

func diskAttachCmd(a *app) *cobra.Command {
	x := a.lone(virt.ActionAttachDisk, "has a disk more", "", vmOnly)
	var d virt.Disk
	size := ""
	c := &cobra.Command{
		Use: "attach VM", Short: "give a VM one disk more",
		Long: `Give a VM one disk more: a new one of --size, one that was detached, by its
--volume, or a file that is on the host, by --source. A VM that runs is given it
where its driver can do that; elsewhere stop it first.`,
		Example: `  vagoth disk attach web1 --size 20G
  vagoth disk attach web1 --volume web1-disk-1`,
		Args: args(1, 1, "a VM"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if d.Size, err = optionalMegabytes("size", size); err != nil {
				return err
			}
			if size == "" && d.Volume == "" && d.Source == "" && d.Image == "" {
				return usagef("say --size for a new disk, --volume for one that was detached, or --source for a file on the host")
			}
			return x.run(cmd, args[0], virt.Params{Disk: &d})
		},
	}
	f := c.Flags()
	f.StringVar(&size, "size", "", "of a new disk, such as 20G")
	f.StringVar(&d.Volume, "volume", "", "name of the volume: a new one's, or that of a detached disk")
	f.StringVar(&d.Source, "source", "", "a file on the host, which is used and never wiped")
	f.StringVar(&d.Image, "image", "", "what a new disk is cloned from")
	f.StringVar(&d.Bus, "bus", "", "virtio, scsi, sata or ide; virtio if not given")
	f.StringVar(&d.Device, "device", "", "such as vdb; the next that is free if not given")
	f.StringVar(&d.Format, "format", "", "qcow2 or raw; qcow2 if not given")
	return x.flags(c)
}

func diskDetachCmd(a *app) *cobra.Command {
	x := a.lone(virt.ActionDetachDisk, "", "take a disk from", vmOnly)
	wipe := false
	c := &cobra.Command{
		Use: "detach VM DISK", Short: "take a disk from a VM; what it holds stays, unless it is wiped",
		Long: `Take a disk from a VM. What it holds stays on the host, is listed as detached, can
be attached again by its volume, and is wiped with the others by vagoth
deprovision. --wipe wipes it now, of a VM that is off.`,
		Example: "  vagoth disk detach web1 vdb",
		Args:    args(2, 2, "a VM, and a disk's device, volume or number"),
		RunE: func(cmd *cobra.Command, args []string) error {
			x.b.how = "has no disk " + args[1] + " any more"
			return x.run(cmd, args[0], virt.Params{Device: args[1], Wipe: wipe})
		},
	}
	c.Flags().BoolVar(&wipe, "wipe", false, "wipe what it holds; not of a VM that runs")
	return x.flags(c)
}

func diskListCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "list VM", Short: "list a VM's disks, and those that were detached", Args: args(1, 1, "a VM"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				d, err := client.Disks(ctx, args[0])
				if err != nil {
					return err
				}
				t, names := &table{head: []string{"DISK", "SIZE", "FORMAT", "BUS", "VOLUME OR SOURCE", "IMAGE", "STATE"}}, []string{}
				add := func(o virt.Disk, state string) {
					at := o.Volume
					if o.Source != "" {
						at = o.Source
					}
					size := "-"
					if o.Size > 0 {
						size = megabytesText(o.Size)
					}
					names = append(names, o.Device)
					t.add(o.Device, size, o.Format, o.Bus, at, cmp.Or(o.Image, "-"), state)
				}
				for _, o := range d.Disks {
					add(o, "attached")
				}
				for _, o := range d.Detached {
					add(o.Disk, "detached")
				}
				return a.print(d, names, func(w io.Writer) error {
					if len(t.rows) == 0 {
						a.say("%s has no disks", args[0])
						return nil
					}
					return t.write(w, a.paint)
				})
			})
		},
	}
}
