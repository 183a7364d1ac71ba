package remote

import (
	"fmt"
	"testing"

	"github.com/google/uuid"

	"github.com/vagoth/vagoth/virt"
)

// BenchmarkStatus lists a host through agent and sub-agent.
func BenchmarkStatus(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			sims := simulated(b)
			r := newReal(b, sims, "h1", nil, nil)
			d, h := open(b, nil), virt.Host{ID: "h1", Address: r.URL}
			for i := range n {
				if err := sims.AddStranger("h1", virt.Seen{UUID: uuid.NewString(), Name: fmt.Sprintf("web%d", i), State: virt.Running, CPU: 1, Memory: 512}); err != nil {
					b.Fatal(err)
				}
			}
			for b.Loop() {
				if l, err := d.Status(b.Context(), h); err != nil || len(l.Guests) != n {
					b.Fatalf("%d guests (%v)", len(l.Guests), err)
				}
			}
		})
	}
}

// BenchmarkPower starts and stops a guest: two jobs that are on disk.
func BenchmarkPower(b *testing.B) {
	r := newReal(b, simulated(b), "h1", nil, nil)
	d, h, g := open(b, nil), virt.Host{ID: "h1", Address: r.URL}, vm("web")
	made(b, d, h, g)
	for b.Loop() {
		for _, op := range []virt.PowerOp{virt.PowerStart, virt.PowerStop} {
			if err := d.Power(b.Context(), h, g, op); err != nil {
				b.Fatal(err)
			}
		}
	}
}
