package hosts

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/vagoth/vagoth/virt"
	"github.com/vagoth/vagoth/virt/mistify"
)

// BenchmarkStartStop starts a guest and pulls its plug: by virsh, a program for
// each, and by calls of the agent that are waited for; in turns, so that both have
// the same machine. The guest stops at its BIOS.
func BenchmarkStartStop(b *testing.B) {
	h := newHost(b, "host")
	g := mistify.Guest{ID: "0f8fad5b-d9cb-469f-a165-70867728950e", CPU: 1, Memory: 16, Disks: []mistify.Disk{{Size: 1}}, Console: virt.Console{Serial: "none"}}
	h.create(g)
	h.act(g.ID, "poweroff")
	times := 15
	if os.Getenv("VAGOTH_BENCH") == "small" {
		times = 1
	}
	call := func(action string) {
		_, job, err := h.client.Act(b.Context(), g.ID, action)
		h.done(job, err)
	}
	ways := []struct {
		name        string
		start, stop func()
		took        [2][]time.Duration
	}{
		{name: "virsh", start: func() { h.daemon.Virsh(b, "start", g.ID) }, stop: func() { h.daemon.Virsh(b, "destroy", g.ID) }},
		{name: "agent", start: func() { call("start") }, stop: func() { call("poweroff") }},
	}
	for b.Loop() {
		for range times {
			for i := range ways {
				w := &ways[i]
				for j, do := range []func(){w.start, w.stop} {
					began := time.Now()
					do()
					w.took[j] = append(w.took[j], time.Since(began))
				}
			}
		}
	}
	median := func(all []time.Duration) time.Duration {
		slices.Sort(all)
		return all[len(all)/2]
	}
	var sums [2]time.Duration
	for i := range ways {
		w := &ways[i]
		start, stop := median(w.took[0]), median(w.took[1])
		sums[i] = start + stop
		b.ReportMetric(float64(start.Microseconds())/1000, w.name+"-start-ms")
		b.ReportMetric(float64(stop.Microseconds())/1000, w.name+"-stop-ms")
	}
	b.ReportMetric(float64(sums[1])/float64(sums[0]), "agent/virsh")
}
