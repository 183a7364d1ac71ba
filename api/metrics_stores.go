package api

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/registry"
	"github.com/vagoth/vagoth/scheduler"
	"github.com/vagoth/vagoth/virt"
)

// maxQueueLabels bounds the queues that are shown one by one.
const maxQueueLabels = 100

// storeCollector asks the stores whenever it is asked, so that nothing is
// counted twice.
type storeCollector struct{ m *manager.Manager }

// Describe sends nothing: what there is depends on the components.
func (storeCollector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (s storeCollector) Collect(out chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), readyWithin)
	defer cancel()
	s.hosts(ctx, out)
	if q, ok := s.m.Scheduler.(scheduler.QueueInspector); ok {
		s.scheduler(ctx, q, out)
		s.queues(ctx, q, out)
	}
}

func send(out chan<- prometheus.Metric, kind prometheus.ValueType, name, help string, v float64, labels ...string) {
	var names, values []string
	for i := 0; i+1 < len(labels); i += 2 {
		names, values = append(names, labels[i]), append(values, labels[i+1])
	}
	out <- prometheus.MustNewConstMetric(prometheus.NewDesc(name, help, names, nil), kind, v, values...)
}

// up says whether a store answered; what it would have told is missing then.
func up(out chan<- prometheus.Metric, store string, began time.Time, err error) {
	v := 1.0
	if err != nil {
		v = 0
	}
	send(out, prometheus.GaugeValue, "vagoth_store_up", "Whether the store answered.", v, "store", store)
	send(out, prometheus.GaugeValue, "vagoth_store_read_seconds", "How long the store took to answer this time.", time.Since(began).Seconds(), "store", store)
}

// hosts counts the hypervisors by state.
func (s storeCollector) hosts(ctx context.Context, out chan<- prometheus.Metric) {
	began := time.Now()
	r, err := s.m.Registry.View(ctx)
	states := map[string]int{}
	for _, st := range []virt.HostState{virt.Up, virt.Unreachable} {
		states[string(st)] = 0 // shown although there is none, so that an alarm has something to look at
	}
	if err == nil {
		for n, bad := range r.List(registry.Query{Type: virt.TypeHypervisor}) {
			if err = bad; err != nil {
				break
			}
			states[n.State()]++
		}
	}
	up(out, "registry", began, err)
	if err != nil {
		return
	}
	for st, n := range states {
		send(out, prometheus.GaugeValue, "vagoth_hosts", "Hypervisors by state.", float64(n), "state", st)
	}
	if d, ok := r.(registry.Delta); ok {
		send(out, prometheus.CounterValue, "vagoth_registry_commits_total", "Commits since the registry was made.", float64(d.Revision()))
	}
}

func (s storeCollector) scheduler(ctx context.Context, q scheduler.QueueInspector, out chan<- prometheus.Metric) {
	began := time.Now()
	st, err := q.Stats(ctx)
	up(out, "scheduler", began, err)
	if err != nil {
		return
	}
	const jobs, jobsHelp = "vagoth_jobs", "Jobs in the scheduler, by where they stand; blocked ones wait for another job."
	for where, n := range map[string]int{"waiting": st.Waiting - st.Blocked, "blocked": st.Blocked, "running": st.Running, "parked": st.Parked, "ended": st.History} {
		send(out, prometheus.GaugeValue, jobs, jobsHelp, float64(n), "state", where)
	}
	send(out, prometheus.GaugeValue, "vagoth_packages_building", "Packages that are not enqueued yet.", float64(st.Building))
	send(out, prometheus.GaugeValue, "vagoth_workers_waiting", "Workers outside that wait for a job.", float64(st.Workers))
	for _, c := range []struct {
		name, help string
		v          uint64
	}{
		{"vagoth_jobs_submitted_total", "Jobs that were taken.", st.Submitted},
		{"vagoth_jobs_handed_out_total", "Attempts that were begun.", st.HandedOut},
		{"vagoth_leases_lost_total", "Leases that ran out without a word.", st.Lost},
		{"vagoth_scheduler_records_total", "Records written to the scheduler's journal.", st.Records},
		{"vagoth_scheduler_syncs_total", "Syncs of the scheduler's journal.", st.Syncs},
		{"vagoth_scheduler_bytes_total", "Bytes written to the scheduler's journal.", st.Bytes},
	} {
		send(out, prometheus.CounterValue, c.name, c.help, float64(c.v))
	}
}

// queues shows the oldest wait of all, and those queues one by one that somebody
// has configured or closed: their number is small, that of all is not.
func (s storeCollector) queues(ctx context.Context, q scheduler.QueueInspector, out chan<- prometheus.Metric) {
	var oldest time.Time
	shown := 0
	for st, err := range q.Queues(ctx) {
		if err != nil {
			return // it is seen in vagoth_store_up
		}
		if !st.Oldest.IsZero() && (oldest.IsZero() || st.Oldest.Before(oldest)) {
			oldest = st.Oldest
		}
		if st.Mode == scheduler.Open && !st.Remote && st.Rate == "" || shown == maxQueueLabels {
			continue
		}
		shown++
		send(out, prometheus.GaugeValue, "vagoth_queue_depth", "Jobs that wait in a queue that is configured or not open.", float64(st.Depth), "queue", st.Name)
		open := 0.0
		if st.Mode == scheduler.Open {
			open = 1
		}
		send(out, prometheus.GaugeValue, "vagoth_queue_open", "Whether such a queue takes and hands out jobs.", open, "queue", st.Name)
	}
	wait := 0.0
	if !oldest.IsZero() {
		wait = max(0, s.m.Parts().Now().Sub(oldest).Seconds())
	}
	send(out, prometheus.GaugeValue, "vagoth_oldest_wait_seconds", "How long the job waits that waits longest.", wait)
}
