package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vagoth/vagoth/internal/lockfile"
	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/registry"
)

func copyCmd(a *app) *cobra.Command {
	var from, to string
	c := &cobra.Command{
		Use: "copy", Short: "copy all nodes and blobs into the registry of another configuration", Args: args(0, 0, "no arguments"),
		Long: `Copy all nodes and blobs from the registry that one configuration file chooses into
the one that another chooses, such as from an embedded registry to etcd. Names, keys,
parents, states, times and on whose behalf a node was written last are kept; revisions
are those of the new store. Both stores are read again at the end and compared.

No daemon and no other command may use either store meanwhile. The target is empty; if
it holds a part of the same nodes, because a copy was broken off, the rest is added.

Jobs are copied by vagoth scheduler copy.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if from == "" || to == "" {
				return usagef("name both files: vagoth registry copy --from old.ini --to new.ini")
			}
			ctx, cancel, err := a.context(cmd)
			if err != nil {
				return err
			}
			defer cancel()
			rep, err := a.copyRegistry(ctx, from, to)
			if err != nil {
				return err
			}
			return a.print(rep, nil, func(w io.Writer) error {
				already := ""
				if rep.Found != (registry.Counts{}) {
					already = fmt.Sprintf(", %d and %d were there already", rep.Found.Nodes, rep.Found.Blobs)
				}
				_, err := fmt.Fprintf(w, "%d nodes and %d blobs copied%s\nboth hold the same %d nodes and %d blobs, sha256 %s\n",
					rep.Copied.Nodes, rep.Copied.Blobs, already, rep.Both.Nodes, rep.Both.Blobs, rep.Both.SHA256)
				return err
			})
		},
	}
	c.Flags().StringVar(&from, "from", "", "configuration file of the registry to read")
	c.Flags().StringVar(&to, "to", "", "configuration file of the registry to write")
	return c
}

// copyReport is what was copied.
type copyReport struct {
	Copied registry.Counts `json:"copied"`
	Found  registry.Counts `json:"found"` // in the target before
	Both   registry.Digest `json:"both"`  // what both hold in the end
}

func (a *app) copyRegistry(ctx context.Context, fromFile, toFile string) (rep copyReport, err error) {
	source, err := a.side("--from", fromFile)
	if err != nil {
		return rep, err
	}
	target, err := a.side("--to", toFile)
	if err != nil {
		return rep, err
	}
	defer func() { err = errors.Join(err, target.close(), source.close()) }()
	if err := source.open(ctx); err != nil {
		return rep, err
	}
	if err := target.open(ctx); err != nil {
		var held *lockfile.HeldError
		if errors.As(err, &held) && held.PID == os.Getpid() {
			return rep, usagef("--from %s and --to %s have one store: name two", fromFile, toFile)
		}
		return rep, err
	}
	if s, ok := source.shared(); ok {
		if t, ok := target.shared(); ok && s.Store() == t.Store() {
			return rep, usagef("--from %s and --to %s have one store, %s: name two", fromFile, toFile, s.Store())
		}
	}
	if err := errors.Join(source.alone(ctx), target.alone(ctx)); err != nil {
		return rep, err
	}
	v, err := source.m.Registry.View(ctx, registry.Consistent())
	if err != nil {
		return rep, err
	}
	total := 0
	for _, err := range v.List(registry.Query{}) {
		if err != nil {
			return rep, err
		}
		total++
	}
	if total == 0 {
		return rep, fmt.Errorf("the registry of --from %s holds no nodes: is its data directory the right one (%s)?", fromFile, source.s.Data)
	}
	done, err := a.copyNodes(ctx, v, target.m.Registry, total)
	if err != nil {
		var diff *registry.DifferenceError
		if errors.As(err, &diff) {
			err = fmt.Errorf("%w: --to %s must name an empty store, or one that holds a part of what is copied", err, toFile)
		}
		return rep, err
	}
	rep.Copied, rep.Found = done.Counts, done.Found
	rep.Both, err = compareAnew(ctx, source, target)
	return rep, err
}

// copyNodes shows how far it is.
func (a *app) copyNodes(ctx context.Context, from registry.Reader, to registry.Registry, total int) (registry.Copied, error) {
	p := a.progress(total)
	defer p.end()
	said := a.env.Now()
	return registry.Copy(ctx, from, to, registry.CopyOptions{Progress: func(done registry.Counts) {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.done = done.Nodes
		p.draw()
		if now := a.env.Now(); !a.env.Terminal && now.Sub(said) >= waitLine {
			said = now
			a.say("%d of %d nodes, %d blobs", done.Nodes, total, done.Blobs)
		}
	}})
}

// compareAnew opens the target once more, so that what was written is read and
// not what is remembered, and compares it with what the source holds now.
func compareAnew(ctx context.Context, source, target *side) (d registry.Digest, err error) {
	if err := target.close(); err != nil {
		return d, err
	}
	if err := target.open(ctx); err != nil {
		return d, err
	}
	if err := errors.Join(source.alone(ctx), target.alone(ctx)); err != nil {
		return d, err
	}
	var views [2]registry.Reader
	for i, s := range []*side{source, target} {
		if views[i], err = s.m.Registry.View(ctx, registry.Consistent()); err != nil {
			return d, err
		}
	}
	if d, err = registry.Compare(ctx, views[0], views[1]); err != nil {
		return d, fmt.Errorf("%s and %s do not hold the same: %w", source.file, target.file, err)
	}
	return d, nil
}

// side is one of the two registries.
type side struct {
	a          *app
	flag, file string
	s          *manager.Settings
	m          *manager.Manager // nil if it is not open
}

func (a *app) side(flag, file string) (*side, error) {
	s, err := a.settingsOf(file)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	return &side{a: a, flag: flag, file: file, s: s}, nil
}

// idle refuses what a daemon works with.
func (x *side) idle(ctx context.Context) error {
	r, err := x.a.local(ctx, string(x.s.Daemon.Socket))
	if err != nil {
		return fmt.Errorf("%s %s: %w", x.flag, x.file, err)
	}
	if r != nil {
		return errors.Join(fmt.Errorf("%s %s: a daemon answers at %s: end it first, what it wrote meanwhile would be lost", x.flag, x.file, x.s.Daemon.Socket), r.close())
	}
	return nil
}

func (x *side) options() manager.Options {
	return manager.Options{Log: x.a.log(), Now: x.a.env.Now, LockWait: x.a.lockWait}
}

// open opens the registry unless a daemon answers.
func (x *side) open(ctx context.Context) (err error) {
	if err := x.idle(ctx); err != nil {
		return err
	}
	x.m, err = manager.OpenRegistry(ctx, x.s, x.options())
	if err != nil {
		x.m = nil
		return fmt.Errorf("%s %s: %w", x.flag, x.file, err)
	}
	return nil
}

func (x *side) shared() (registry.Shared, bool) {
	s, ok := x.m.Registry.(registry.Shared)
	return s, ok
}

// askAgain is how often it is looked whether others have gone.
const askAgain = 500 * time.Millisecond

// alone refuses a store that others have open after having waited for them as long
// as for a lock.
func (x *side) alone(ctx context.Context) error {
	s, ok := x.shared()
	if !ok {
		return nil // it is locked
	}
	for deadline := time.Now().Add(x.a.lockWait); ; {
		all, err := s.Members(ctx)
		if err != nil {
			return fmt.Errorf("%s %s: cannot ask who uses the store: %w", x.flag, x.file, err)
		}
		var others []string
		for _, m := range all {
			if !m.Self {
				others = append(others, memberText(m))
			}
		}
		if len(others) == 0 {
			return nil
		}
		if time.Until(deadline) <= 0 {
			return fmt.Errorf("%s %s: others have the store open: %s: end them first (what was killed is forgotten after [registry] session)",
				x.flag, x.file, strings.Join(others[:min(len(others), 5)], ", "))
		}
		t := time.NewTimer(min(askAgain, time.Until(deadline)))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
}

// memberText names a process that has a shared store open.
func memberText(m registry.Member) string {
	if m.Host == "" {
		return "somebody who does not say who"
	}
	return fmt.Sprintf("process %d on %s since %s", m.PID, m.Host, m.Since.UTC().Format(time.RFC3339))
}

func (x *side) close() error {
	if x.m == nil {
		return nil
	}
	m := x.m
	x.m = nil
	return m.Close()
}
