package drivertest

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/vagoth/vagoth/virt"
)

// all are all calls of the driver about one guest.
func (b *bench) all() []verb {
	vs := append([]verb{{"status", func(ctx context.Context, h virt.Host, _ virt.Guest) error {
		_, err := b.d.Status(ctx, h)
		return err
	}}, {"deprovision", b.d.Deprovision}}, b.making()...)
	return append(vs, b.verbs()...)
}

func contextCancelled(b *bench) {
	g := b.defined()
	for _, v := range b.all() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		began := time.Now()
		err := v.do(ctx, b.h, g)
		if !errors.Is(err, context.Canceled) && !errors.Is(err, virt.ErrUnreachable) {
			b.Errorf("%s with a cancelled context: got error %v, want one that is context.Canceled or ErrUnreachable", v.name, err)
		}
		if took := time.Since(began); took > b.Grace {
			b.Errorf("%s with a cancelled context took %v, want at most %v", v.name, took, b.Grace)
		}
	}
	b.state(g, virt.Stopped)
}

func contextDeadline(b *bench) {
	if b.Hung == nil {
		b.Skip("the fixture has no host that hangs")
	}
	const deadline = 200 * time.Millisecond
	h, g := b.Hung(b.T), b.Guest(b.T)
	var wg sync.WaitGroup
	for _, v := range b.all() {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), deadline)
			defer cancel()
			began := time.Now()
			err := v.do(ctx, h, g)
			took := time.Since(began)
			b.is(v.name+" of a host that hangs", err, virt.ErrUnreachable)
			if took > deadline+b.Grace {
				b.Errorf("%s of a host that hangs took %v, want at most %v", v.name, took, deadline+b.Grace)
			}
		})
	}
	wg.Wait()
	// The others are not held up by it.
	b.status(b.h)
}

func concurrentGuests(b *bench) {
	guests := make([]virt.Guest, b.Guests)
	for i := range guests {
		guests[i] = b.guest()
	}
	var wg sync.WaitGroup
	for _, g := range guests {
		wg.Go(func() {
			for _, step := range []struct {
				name string
				do   func() error
			}{
				{"provision", func() error { return b.provision(g) }},
				{"define", func() error { return b.define(g) }},
				{"start", func() error { return b.power(g, virt.PowerStart) }},
				{"info", func() error { _, err := b.info(b.h, g); return err }},
				{"stop", func() error { return b.power(g, virt.PowerStop) }},
				{"undefine", func() error { return b.undefine(g) }},
				{"define again", func() error { return b.define(g) }},
				{"start again", func() error { return b.power(g, virt.PowerStart) }},
			} {
				if err := step.do(); err != nil {
					b.Errorf("%s of %s beside others: %v", step.name, g.Name, err)
					return
				}
			}
		})
	}
	wg.Wait()
	seen := map[string]virt.State{}
	for _, s := range b.status(b.h).Guests {
		seen[s.UUID] = s.State
	}
	for _, g := range guests {
		if seen[g.UUID] != virt.Running {
			b.Errorf("guest %s is %q, want it running", g.Name, seen[g.UUID])
		}
	}
}

func concurrentOneGuest(b *bench) {
	g := b.guest()
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"provision", func() error { return b.provision(g) }},
		{"define", func() error { return b.define(g) }},
		{"start", func() error { return b.power(g, virt.PowerStart) }},
		{"stop", func() error { return b.power(g, virt.PowerStop) }},
	} {
		var wg sync.WaitGroup
		for range 4 {
			wg.Go(func() {
				if err := step.do(); err != nil {
					b.Errorf("%s beside the same call: %v", step.name, err)
				}
			})
		}
		wg.Wait()
	}
	b.state(g, virt.Stopped)
}
