package api

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/vagoth/vagoth/manager"
	"github.com/vagoth/vagoth/monitor"
	"github.com/vagoth/vagoth/scheduler"
)

// Metrics are the figures of a cluster for Prometheus. They live in a registry
// of their own, so that a program may have several clusters.
type Metrics struct {
	http.Handler // shows them

	m   *manager.Manager
	reg *prometheus.Registry

	requests *prometheus.CounterVec
	took     *prometheus.HistogramVec
	waits    *prometheus.HistogramVec
	runs     *prometheus.HistogramVec
	ends     *prometheus.CounterVec
	missed   prometheus.Counter
}

// Timings are the figures of a cluster that are taken while it works. They are
// made before it is opened, see manager.Options.
type Timings struct {
	writes prometheus.Histogram
	polls  *prometheus.HistogramVec
}

// NewTimings returns figures of nothing yet.
func NewTimings() *Timings {
	return &Timings{
		writes: prometheus.NewHistogram(prometheus.HistogramOpts{Name: "vagoth_registry_write_seconds", Help: "How long writes to the registry took, until they were on disk.", Buckets: shortBuckets()}),
		polls:  prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "vagoth_poll_seconds", Help: "How long polls of hosts took, host by host, scheduled and asked for.", Buckets: shortBuckets()}, []string{"host_state"}),
	}
}

// Wrote counts a write to the registry.
func (t *Timings) Wrote(d time.Duration) { t.writes.Observe(d.Seconds()) }

// Polled counts what a poll found.
func (t *Timings) Polled(rep monitor.Report) {
	for _, h := range rep.Hosts {
		if h.Skipped == "" {
			t.polls.WithLabelValues(string(h.State)).Observe(h.Took.Seconds())
		}
	}
}

// shortBuckets are half a millisecond to two minutes.
func shortBuckets() []float64 { return prometheus.ExponentialBuckets(0.0005, 4, 10) }

// other stands for what people can name as they like: a label has few values.
const other = "other"

// NewMetrics returns the figures of m, with those of t, if it was opened with
// them. Those of jobs are counted while Run runs.
func NewMetrics(m *manager.Manager, t *Timings) *Metrics {
	short := shortBuckets()
	long := prometheus.ExponentialBuckets(0.01, 4, 12) // 10 milliseconds to 12 hours
	histogram := func(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: name, Help: help, Buckets: buckets}, labels)
	}
	x := &Metrics{
		m: m, reg: prometheus.NewRegistry(),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "vagoth_http_requests_total", Help: "Requests, by route and status."}, []string{"method", "route", "status"}),
		took:     histogram("vagoth_http_request_seconds", "How long requests took, long polls and streams apart.", short, "route"),
		waits:    histogram("vagoth_job_wait_seconds", "From the submission of a job to the begin of its last attempt.", long, "action"),
		runs:     histogram("vagoth_job_run_seconds", "How long the last attempt of a job took.", long, "action"),
		ends:     prometheus.NewCounterVec(prometheus.CounterOpts{Name: "vagoth_jobs_ended_total", Help: "Jobs that ended, by action, end and the error's code."}, []string{"action", "state", "code"}),
		missed:   prometheus.NewCounter(prometheus.CounterOpts{Name: "vagoth_job_events_lost_total", Help: "How often ended jobs went uncounted, since too much happened at once."}),
	}
	x.reg.MustRegister(
		x.requests, x.took, x.waits, x.runs, x.ends, x.missed, storeCollector{m},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	if t != nil {
		x.reg.MustRegister(t.writes, t.polls)
	}
	x.Handler = promhttp.HandlerFor(x.reg, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: maxHeavy, Timeout: 2 * readyWithin,
	})
	return x
}

// Run counts the jobs that end, until ctx does or the scheduler is closed. A scheduler that does not tell
// of its jobs is not counted. One that cannot tell of them now is asked again: nothing ends for want of figures.
func (x *Metrics) Run(ctx context.Context, log *slog.Logger) {
	w, ok := x.m.Scheduler.(scheduler.Watcher)
	if !ok {
		<-ctx.Done()
		return
	}
	cursor, quiet := "", false
	for {
		var err error
		for ev, failed := range w.Watch(ctx, cursor, scheduler.Filter{}) {
			if err = failed; err != nil {
				break
			}
			cursor, quiet = ev.Cursor, false
			x.ended(ev.Job)
		}
		switch {
		case ctx.Err() != nil, errors.Is(err, scheduler.ErrClosed):
			return
		case errors.Is(err, scheduler.ErrCompacted):
			cursor = ""
			x.missed.Inc()
			continue
		case !quiet:
			log.WarnContext(ctx, "jobs that end are not counted now, and will be when the scheduler tells of them again", "error", err)
			quiet = true
		}
		t := time.NewTimer(countAgain)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

// countAgain is how long Run waits for a scheduler that told it nothing.
const countAgain = time.Second

// ended counts a job that has.
func (x *Metrics) ended(st scheduler.Status) {
	if !st.State.Ended() {
		return
	}
	action := other // what workers outside do is named by whoever submits it
	if _, ok := x.m.Actions[st.Action]; ok {
		action = st.Action
	}
	code := ""
	if st.State == scheduler.Failed {
		code = other
		if c, ok := codeNamed(coded(st).Code); ok {
			code = c.Name
		}
	}
	x.ends.WithLabelValues(action, string(st.State), code).Inc()
	if st.StartedAt.IsZero() {
		return
	}
	x.waits.WithLabelValues(action).Observe(max(0, st.StartedAt.Sub(st.SubmittedAt)).Seconds())
	x.runs.WithLabelValues(action).Observe(max(0, st.EndedAt.Sub(st.StartedAt)).Seconds())
}

// observe counts the requests of a route.
func (s *server) observe(r route) gin.HandlerFunc {
	x := s.o.Metrics
	if x == nil {
		return func(*gin.Context) {}
	}
	return func(c *gin.Context) {
		began := time.Now()
		defer func() {
			x.requests.WithLabelValues(c.Request.Method, r.path, strconv.Itoa(c.Writer.Status())).Inc()
			if r.load != waiting {
				x.took.WithLabelValues(r.path).Observe(time.Since(began).Seconds())
			}
		}()
		c.Next()
	}
}

func (s *server) metrics(c *gin.Context) {
	if s.o.Metrics == nil {
		s.fail(c, &unsupportedError{"there are no figures here: vagoth serve has them"})
		return
	}
	if c.Request.Method == http.MethodHead {
		c.Header("Content-Type", "text/plain")
		return
	}
	s.o.Metrics.ServeHTTP(c.Writer, c.Request)
}
