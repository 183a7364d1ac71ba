package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/vagoth/vagoth/api"
	"github.com/vagoth/vagoth/virt"
)

func metricsCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use: "metrics VM", Short: "show what a VM's CPUs, disks and network interfaces have done",
		Long: `Show the counters of a VM, asked of its host now. They grow while it runs and begin
at nothing when it starts; /metrics of the daemon has the cluster's own.`,
		Args: args(1, 1, "a VM"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				m, err := client.GuestMetrics(ctx, args[0])
				if err != nil {
					return err
				}
				return a.print(m, []string{args[0]}, func(w io.Writer) error { return a.printMetrics(w, args[0], m) })
			})
		},
	}
}

func (a *app) printMetrics(w io.Writer, name string, m virt.Metrics) error {
	if len(m.CPUs)+len(m.Disks)+len(m.NICs) == 0 {
		a.say("%s is %s: there is nothing to count", name, m.State)
		return nil
	}
	n := func(v int64) string { return strconv.FormatInt(v, 10) }
	cpus := &table{head: []string{"CPU", "TIME"}}
	for i, c := range m.CPUs {
		cpus.add(strconv.Itoa(i), c.Time.Round(time.Millisecond).String())
	}
	disks := &table{head: []string{"DISK", "READS", "READ BYTES", "WRITES", "WRITTEN BYTES", "FLUSHES"}}
	for _, d := range m.Disks {
		disks.add(d.Device, n(d.ReadOps), n(d.ReadBytes), n(d.WriteOps), n(d.WriteBytes), n(d.FlushOps))
	}
	nics := &table{head: []string{"NIC", "RX BYTES", "RX PACKETS", "RX LOST", "TX BYTES", "TX PACKETS", "TX LOST"}}
	for _, i := range m.NICs {
		nics.add(i.Name, n(i.RxBytes), n(i.RxPackets), n(i.RxErrors+i.RxDrops), n(i.TxBytes), n(i.TxPackets), n(i.TxErrors+i.TxDrops))
	}
	for _, t := range []*table{cpus, disks, nics} {
		if len(t.rows) == 0 {
			continue
		}
		if err := t.write(w, a.paint); err != nil {
			return err
		}
	}
	return nil
}

// leave is what ends a console: Ctrl-].
const leave = 0x1d

func consoleCmd(a *app) *cobra.Command {
	vnc := false
	c := &cobra.Command{
		Use: "console VM", Short: "attach to a VM's serial console; Ctrl-] leaves it",
		Long: `Attach to a VM's serial console: what it prints is shown, what is typed is sent to
it. Ctrl-] leaves it, and so does the VM when it stops. A container's is the terminal
of its program, or what that prints if it has none, which the first line says. --vnc says where its screen
is to be had, on the host.`,
		Args: args(1, 1, "a VM"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.with(cmd, func(ctx context.Context, client *api.Client) error {
				if vnc {
					i, err := client.Info(ctx, args[0])
					if err != nil {
						return err
					}
					if i.VNC == "" {
						return fmt.Errorf(`%w: %s has no VNC screen, or it is off: "console": {"vnc": true} in its definition gives it one`, virt.ErrNotFound, args[0])
					}
					_, err = fmt.Fprintln(a.env.Out, i.VNC)
					return err
				}
				rw, err := client.Console(ctx, args[0])
				if err != nil {
					return err
				}
				return a.attach(ctx, args[0], rw)
			})
		},
	}
	c.Flags().BoolVar(&vnc, "vnc", false, "only say where its VNC screen is, on the host")
	return c
}

// attach joins the terminal to a console until either ends.
func (a *app) attach(ctx context.Context, name string, rw io.ReadWriteCloser) (err error) {
	if f, ok := a.env.In.(*os.File); ok && a.env.Ask {
		old, err := term.MakeRaw(int(f.Fd()))
		if err != nil {
			return errors.Join(err, rw.Close())
		}
		defer func() { err = errors.Join(err, term.Restore(int(f.Fd()), old)) }()
		a.say("attached to the console of %s: Ctrl-] leaves it\r", name)
	}
	// Reading a terminal cannot be ended: the goroutine is left to the process.
	left := make(chan struct{})
	go func() {
		if a.typing(rw) {
			close(left)
		}
	}()
	printed := make(chan struct{})
	var broke error // once printed
	go func() {
		defer close(printed)
		_, broke = io.Copy(a.env.Out, rw)
	}()
	select {
	case <-printed:
		_ = rw.Close() // it has ended
		if broke != nil && ctx.Err() == nil {
			return fmt.Errorf("the console broke off: %w", broke)
		}
		if ctx.Err() == nil {
			a.say("\r\nthe console of %s has ended\r", name)
		}
		return ctx.Err()
	case <-left:
		// What the guest answers to the last words is shown, for a moment.
		quiet := time.NewTimer(consoleQuiet)
		defer quiet.Stop()
		select {
		case <-printed:
		case <-quiet.C:
		}
		_ = rw.Close() // it is ended
		<-printed
		return nil
	}
}

// consoleQuiet is how long a console that is left is still shown.
const consoleQuiet = 300 * time.Millisecond

// typing sends what is typed, and reports whether the console is to be left.
func (a *app) typing(w io.Writer) bool {
	buf := make([]byte, 1024)
	for {
		n, err := a.env.In.Read(buf)
		words := buf[:n]
		i := bytes.IndexByte(words, leave)
		if i >= 0 {
			words = words[:i]
		}
		if len(words) > 0 {
			if _, err := w.Write(words); err != nil {
				return false
			}
		}
		if i >= 0 {
			return true
		}
		if err != nil {
			return false // nobody types any more; what is printed goes on
		}
	}
}
