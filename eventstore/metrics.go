package eventstore

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	appends     *prometheus.CounterVec
	appendTime  prometheus.Histogram
	head        prometheus.Gauge
	tailed      prometheus.Counter
	tailRestart prometheus.Counter
	healthy     prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		appends: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keyledger_eventstore_appends_total", Help: "Appends by outcome: stored, conflict, unknown, refused.",
		}, []string{"outcome"}),
		appendTime: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "keyledger_eventstore_append_seconds", Help: "Time until an append was acknowledged.",
			Buckets: prometheus.ExponentialBuckets(0.0001, 2, 16),
		}),
		head: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "keyledger_eventstore_head_seq", Help: "Highest seq seen.",
		}),
		tailed: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "keyledger_eventstore_read_events_total", Help: "Events handed to tails, replays and follows.",
		}),
		tailRestart: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "keyledger_eventstore_read_restarts_total", Help: "Times that a tail, replay or follow had to start anew from its position.",
		}),
		healthy: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "keyledger_eventstore_healthy", Help: "1 unless the watch found drift, replaced history or no answer.",
		}),
	}
	m.healthy.Set(1)
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.appends, m.appendTime, m.head, m.tailed, m.tailRestart, m.healthy} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}
