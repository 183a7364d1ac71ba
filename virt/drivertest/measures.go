package drivertest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/vagoth/vagoth/virt"
)

func metrics(b *bench) {
	m, ok := b.d.(virt.Meter)
	if !ok {
		b.Skip("the driver is no Meter")
	}
	read := func(g virt.Guest) (all virt.Metrics, err error) {
		err = b.call(func(ctx context.Context) error { all, err = m.Metrics(ctx, b.h, g); return err })
		return all, err
	}
	g := b.defined()
	_, err := read(g)
	b.must("metrics of what is off", err)
	b.must("start", b.power(g, virt.PowerStart))
	first, err := read(g)
	b.must("metrics", err)
	if len(first.CPUs) != g.Definition.CPU || len(first.Disks) != len(g.Definition.Disks) || len(first.NICs) > len(g.Definition.NICs) {
		// A NIC in user mode has no device on the host that counts.
		b.Errorf("%d CPUs, %d disks and %d NICs are measured of a guest with %d, %d and %d", len(first.CPUs), len(first.Disks), len(first.NICs),
			g.Definition.CPU, len(g.Definition.Disks), len(g.Definition.NICs))
	}
	for _, d := range first.Disks {
		if !slices.ContainsFunc(g.Definition.Disks, func(o virt.Disk) bool { return o.Device == d.Device }) {
			b.Errorf("the disk %q is measured, and the guest has none", d.Device)
		}
	}
	busy := func(all virt.Metrics) (sum time.Duration) {
		for _, c := range all.CPUs {
			sum += c.Time
		}
		return sum
	}
	for end := time.Now().Add(b.Settle); ; {
		now, err := read(g)
		b.must("metrics again", err)
		if busy(now) > busy(first) {
			break
		}
		if time.Now().After(end) {
			b.Fatalf("the CPUs of a guest that runs stand still at %v", busy(now))
		}
		time.Sleep(b.Settle / 200)
	}
	_, err = read(b.guest())
	b.is("metrics of a guest that never was", err, virt.ErrNotFound)
}

func console(b *bench) {
	c, ok := b.d.(virt.Consoler)
	if !ok || b.Console == nil {
		b.Skip("the driver is no Consoler, or the fixture's guests have no console")
	}
	g := b.defined()
	attach := func(ctx context.Context) (io.ReadWriteCloser, error) { return c.Console(ctx, b.h, g) }
	_, err := attach(context.Background())
	b.is("console of what is off", err, virt.ErrConflict)
	b.must("start", b.power(g, virt.PowerStart))
	ctx, cancel := context.WithTimeout(context.Background(), b.Timeout)
	defer cancel()
	rw, err := attach(ctx)
	b.must("attach", err)
	if b.Console.Type != "" {
		_, err := io.WriteString(rw, b.Console.Type)
		b.must("type", err)
	}
	b.must("wait for "+b.Console.Says, reads(rw, b.Console.Says))
	b.must("close", rw.Close())
	rw, err = attach(ctx)
	b.must("attach again", err)
	cancel()
	if _, err := io.Copy(io.Discard, rw); errors.Is(err, io.ErrUnexpectedEOF) {
		b.Errorf("a console whose context ended: %v", err)
	}
	_ = rw.Close()
	rw, err = attach(context.Background())
	b.must("attach once more", err)
	b.must("stop", b.power(g, virt.PowerStop))
	if _, err := io.Copy(io.Discard, rw); err != nil {
		b.Errorf("the console of a guest that stops ends with %v, want io.EOF", err)
	}
	_ = rw.Close()
}

// reads reads until text has come.
func reads(r io.Reader, text string) error {
	var all []byte
	buf := make([]byte, 4096)
	for {
		n, err := r.Read(buf)
		all = append(all, buf[:n]...)
		if bytes.Contains(all, []byte(text)) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("it said %q: %w", all, err)
		}
	}
}
