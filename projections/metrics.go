package projections

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics of the projector. Gauges are read from its status when they are asked for.
type metrics struct {
	events, retries prometheus.Counter
	batch, apply    prometheus.Histogram
	void            *prometheus.CounterVec
}

func newMetrics(r prometheus.Registerer, status func() Status, now func() time.Time) (*metrics, error) {
	const namespace, subsystem = "keyledger", "projections"
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help})
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help, Buckets: buckets})
	}
	gauge := func(name, help string, of func(Status) float64) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help},
			func() float64 { return of(status()) })
	}
	m := &metrics{
		events:  counter("events_total", "Events that this process has taken into the live tables since its start, the first build included."),
		retries: counter("retries_total", "Tries again after an error that may pass, such as a database that is away."),
		batch: histogram("batch_events", "Events of one transaction that this process wrote to the live tables.",
			prometheus.ExponentialBuckets(1, 4, 8)), // 1 to 16,384
		apply: histogram("apply_seconds", "Time to fold one batch of events and write it to the live tables.",
			prometheus.ExponentialBuckets(0.0005, 2.5, 11)), // 0.5 ms to 4.8 s
		void: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "void_events_total",
			Help: "Events without effect, by reason. Anything but 0 is an alarm: someone claimed a key id or a token that is another key's.",
		}, []string{"reason"}),
	}
	for _, reason := range [...]VoidReason{VoidKeyIDTaken, VoidMacTaken, VoidSubjectMismatch, VoidCreatedTwice, VoidNoKey} {
		m.void.WithLabelValues(string(reason))
	}
	if r == nil {
		return m, nil
	}
	for _, c := range [...]prometheus.Collector{
		m.events, m.retries, m.batch, m.apply, m.void,
		gauge("seq", "Sequence of the last event in the live tables, or in the first ones while they are built.",
			func(s Status) float64 { return float64(s.Seq) }),
		gauge("head_seq", "Sequence of the last event of the log that the projector knows of; asked for about every second.",
			func(s Status) float64 { return float64(s.Head) }),
		gauge("lag_events", "Events of the log that are not in the live tables yet: head_seq less seq.",
			func(s Status) float64 { return float64(s.Head - s.Seq) }),
		gauge("lag_seconds", "For how long the live tables have been behind the log; 0 while they are level.",
			func(s Status) float64 { return s.lag(now()).Seconds() }),
		gauge("leading", "1 while this process writes to the live tables, 0 while it follows another or is stopped.",
			func(s Status) float64 { return one(s.Leading) }),
		gauge("job_running", "1 while a build, a rebuild or a check of the tables runs in this process.",
			func(s Status) float64 { return one(s.Job.Running()) }),
		gauge("job_seq", "Sequence that the running build, rebuild or check, or the last one, has read the log to.",
			func(s Status) float64 { return float64(s.Job.Seq) }),
	} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

// lag returns for how long the tables have been behind.
func (s *Status) lag(now time.Time) time.Duration {
	if s.BehindSince.IsZero() {
		return 0
	}
	return max(0, now.Sub(s.BehindSince))
}

func one(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
