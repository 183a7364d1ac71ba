package cli

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strconv"

	"github.com/spf13/cobra"
	"github.com/vagoth/vagoth/api"
)

func blobCmd(a *app) *cobra.Command {
	const what = "a node and a blob's name"
	get := &cobra.Command{
		Use: "get NODE BLOB", Short: "write a blob to standard output", Args: args(2, 2, what),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				data, err := client.Blob(ctx, args[0], args[1])
				if err != nil {
					return err
				}
				_, err = a.env.Out.Write(data)
				return err
			})
		},
	}
	put := &cobra.Command{
		Use: "put NODE BLOB [FILE]", Short: "store a file, or standard input, as a blob of at most 1 MiB", Args: args(2, 3, what+", and a file"),
		RunE: func(cmd *cobra.Command, args []string) error {
			data, err := a.readInput(append(slices.Clone(args), "-")[2])
			if err != nil {
				return err
			}
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				n, err := client.PutBlob(ctx, args[0], args[1], data)
				if err != nil {
					return err
				}
				return a.done(n, fmt.Sprintf("has blob %s (%d bytes)", args[1], len(data)))
			})
		},
	}
	list := &cobra.Command{
		Use: "list NODE", Short: "list a node's blobs", Args: args(1, 1, "a node"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				it, err := client.Node(ctx, args[0])
				if err != nil {
					return err
				}
				t := &table{head: []string{"BLOB", "BYTES", "SHA256"}}
				names := []string{}
				for _, b := range it.Node.Blobs() {
					names = append(names, b.Key)
					t.add(b.Key, strconv.Itoa(b.Size), b.SHA256)
				}
				return a.print(it.Node.Blobs(), names, func(w io.Writer) error { return t.write(w, a.paint) })
			})
		},
	}
	del := &cobra.Command{
		Use: "delete NODE BLOB", Short: "remove a blob", Args: args(2, 2, what),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				n, err := client.DeleteBlob(ctx, args[0], args[1])
				if err != nil {
					return err
				}
				return a.done(n, "has no blob "+args[1]+" any more")
			})
		},
	}
	return parent("blob", "get, put, list and delete blobs of nodes", get, put, list, del)
}
