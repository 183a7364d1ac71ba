package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"

	"github.com/spf13/cobra"

	"github.com/vagoth/vagoth/api"
)

func registryCmd(a *app) *cobra.Command {
	return parent("registry", "export, import, copy and check the registry", exportCmd(a), importCmd(a), copyCmd(a), checkCmd(a))
}

func exportCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "export [FILE]", Short: "write every node and blob as JSON lines", Args: args(0, 1, "at most one file"),
		Long: "Write every node and blob as JSON lines, to a new file or to standard output.\nA file appears only when it is complete.",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				if len(args) == 0 {
					return client.Export(ctx, a.env.Out)
				}
				return writeWhole(args[0], func(w io.Writer) error { return client.Export(ctx, w) })
			})
		},
	}
}

// writeWhole makes a file that is complete or not there, and replaces none.
func writeWhole(name string, write func(io.Writer) error) (err error) {
	if fileExists(name) {
		return usagef("%s is there already: choose another name", name)
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".vagoth-export-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = f.Close()
			_ = os.Remove(f.Name())
		}
	}()
	if err := write(f); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	if err := os.Link(f.Name(), name); err != nil { // unlike a rename it replaces nothing
		return err
	}
	return os.Remove(f.Name())
}

func importCmd(a *app) *cobra.Command {
	var dryRun bool
	c := &cobra.Command{
		Use: "import FILE", Short: "create the nodes and blobs of an export; - is standard input", Args: args(1, 1, "one file"),
		Long: `Create the nodes and blobs of an export. What clashes with a node that is there
already ends the import, naming the line; what stands before that line is in.
--dry-run checks the whole file and changes nothing.`,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				in := a.env.In
				if args[0] != "-" {
					f, err := os.Open(args[0])
					if err != nil {
						return usageError{err}
					}
					defer func() { _ = f.Close() }()
					in = f
				}
				rep, err := client.Import(ctx, in, dryRun)
				if err != nil {
					return err
				}
				return a.print(rep, nil, func(w io.Writer) error {
					what := "created"
					if rep.DryRun {
						what = "would be created"
					}
					_, err := fmt.Fprintf(w, "%d nodes %s\n", rep.Nodes, what)
					return err
				})
			})
		},
	}
	c.Flags().BoolVar(&dryRun, "dry-run", false, "only check")
	return c
}

func checkCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "check", Short: "read the whole store and check every record and promise", Args: args(0, 0, "no arguments"),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				rep, err := client.Check(ctx)
				if err != nil {
					return err
				}
				return a.print(rep, nil, func(w io.Writer) error {
					for _, p := range rep.Problems {
						if _, err := fmt.Fprintln(w, p); err != nil {
							return err
						}
					}
					if len(rep.Problems) > 0 {
						return fmt.Errorf("the registry has %d problems", len(rep.Problems))
					}
					_, err := fmt.Fprintf(w, "%d nodes, no problems\n", rep.Nodes)
					return err
				})
			})
		},
	}
}

func versionCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "print the version", Args: args(0, 0, "no arguments"),
		RunE: func(*cobra.Command, []string) error {
			if err := a.checkOutput(); err != nil {
				return err
			}
			v := map[string]string{"version": version(), "go": runtime.Version()}
			return a.print(v, []string{v["version"]}, func(w io.Writer) error {
				_, err := fmt.Fprintf(w, "vagoth %s (%s)\n", v["version"], v["go"])
				return err
			})
		},
	}
}
