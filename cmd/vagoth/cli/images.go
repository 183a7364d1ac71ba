package cli

import (
	"context"
	"io"
	"slices"

	"github.com/spf13/cobra"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/virt"
)

func imageCmd(a *app) *cobra.Command {
	return parent("image", "list, fetch, show and delete the images of hypervisors, and save containers as such",
		imageListCmd(a), imageFetchCmd(a), imageShowCmd(a), imageSaveCmd(a), imageDeleteCmd(a))
}

// placedImage is an image with the hypervisor that has it.
type placedImage struct {
	Hypervisor string `json:"hv"`
	virt.Image
}

func imageTable(list []placedImage) *table {
	t := &table{head: []string{"HYPERVISOR", "IMAGE", "TYPE", "STATUS", "SIZE"}}
	for _, i := range list {
		status := i.Status
		if i.Status == virt.ImagePending && i.Total > 0 {
			status = barText(status, i.Fetched, i.Total)
		}
		typ := i.Type
		if typ == "" {
			typ = "vm"
		}
		t.add(i.Hypervisor, i.ID, typ, status, megabytesText(i.Size))
	}
	return t
}

func imageListCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "list [HV...]", Short: "list the images of hypervisors, or of all of them", Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				every := len(args) == 0
				if every {
					all, err := collect(ctx, client, registry.Query{Type: virt.TypeHypervisor})
					if err != nil {
						return err
					}
					for _, it := range all {
						args = append(args, it.Node.Name())
					}
				}
				found, failed := []placedImage{}, []error(nil)
				for _, hv := range args {
					list, err := client.Images(ctx, hv)
					if err != nil {
						failed = append(failed, err)
						if every {
							a.say("%s: %s", hv, err)
						}
						continue
					}
					for _, i := range list {
						found = append(found, placedImage{hv, i})
					}
				}
				if len(failed) > 0 && !every {
					return worst(failed)
				}
				names := []string{}
				for _, i := range found {
					if !slices.Contains(names, i.ID) {
						names = append(names, i.ID)
					}
				}
				if err := a.print(found, names, func(w io.Writer) error {
					if len(found) == 0 {
						a.say("there are no images: vagoth image fetch gets one onto a hypervisor")
						return nil
					}
					return imageTable(found).write(w, a.paint)
				}); err != nil {
					return err
				}
				if len(failed) > 0 && len(failed) == len(args) {
					return reportedError{worst(failed)}
				}
				return nil
			})
		},
	}
}

func imageFetchCmd(a *app) *cobra.Command {
	x := a.lone(virt.ActionFetchImage, "", "", virt.TypeHypervisor)
	var r virt.ImageRequest
	c := &cobra.Command{
		Use: "fetch IMAGE HV...", Short: "get an image onto hypervisors",
		Long: `Get an image onto hypervisors, each for itself, as jobs in their own queues. It is
visible when its size and sum have been checked, and not before.`,
		Example: `  vagoth image fetch debian-12 hv1 hv2 --from https://images.example.org/debian-12.qcow2 --sha256 …
  vagoth image fetch library/busybox:1.36 hv1 --type container`,
		Args: args(2, -1, "an image's ID, and hypervisors"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			r.ID = args[0]
			if err := r.Check(); err != nil {
				return usageError{err}
			}
			x.b.how = "has image " + r.ID
			if x.o.params, err = registry.NewDocument(r); err != nil {
				return err
			}
			return x.o.run(cmd, args[1:])
		},
	}
	f := c.Flags()
	f.StringVar(&r.Source, "from", "", "URL to fetch it from")
	f.StringVar(&r.Type, "type", "", "container, or vm")
	f.Int64Var(&r.Size, "size", 0, "bytes that it must have")
	f.StringVar(&r.SHA256, "sha256", "", "sum that it must have, in hex")
	return x.flags(c)
}

func imageShowCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "show IMAGE HV", Short: "show one image of a hypervisor", Args: args(2, 2, "an image and a hypervisor"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				i, err := client.Image(ctx, args[1], args[0])
				if err != nil {
					return err
				}
				return a.print(i, []string{i.ID}, func(w io.Writer) error { return imageTable([]placedImage{{args[1], i}}).write(w, a.paint) })
			})
		},
	}
}

func imageSaveCmd(a *app) *cobra.Command {
	x := a.lone(virt.ActionSaveImage, "", "", vmOnly)
	return x.flags(&cobra.Command{
		Use: "save CONTAINER IMAGE", Short: "make an image of what a container has written",
		Long: `Make an image of what a container has written, on its host, under a name that is not
taken there. The container is held meanwhile, and goes on. A virtual machine has
disks, which vagoth snapshot keeps.`,
		Example: "  vagoth image save ct1 team/web:2",
		Args:    args(2, 2, "a container, and an ID for the image"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := virt.CheckImageID(args[1]); err != nil {
				return usageError{err}
			}
			x.b.how = "is saved as image " + args[1]
			return x.run(cmd, args[0], virt.Params{Image: args[1]})
		},
	})
}

func imageDeleteCmd(a *app) *cobra.Command {
	x := a.lone(virt.ActionDeleteImage, "", "delete an image of", virt.TypeHypervisor)
	return x.flags(&cobra.Command{
		Use: "delete IMAGE HV...", Short: "remove an image from hypervisors; refused while disks were cloned from it", Args: args(2, -1, "an image, and hypervisors"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			x.b.how = "has no image " + args[0] + " any more"
			if x.o.params, err = registry.NewDocument(virt.ImageRequest{ID: args[0]}); err != nil {
				return err
			}
			return x.o.run(cmd, args[1:])
		},
	})
}
