package projections

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	seq, head prometheus.Gauge
	events    prometheus.Counter
	void      *prometheus.CounterVec
	retries   prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	const namespace, subsystem = "keyledger", "projections"
	m := &metrics{
		seq: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "seq",
			Help: "Sequence of the last event in the tables.",
		}),
		head: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "head_seq",
			Help: "Sequence of the last event of the log that the projector knows of.",
		}),
		events: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "events_total",
			Help: "Events taken into the tables since the start.",
		}),
		void: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "void_events_total",
			Help: "Events without effect, by reason. Anything but 0 is an alarm: someone claimed a key id or a token that is another key's.",
		}, []string{"reason"}),
		retries: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: namespace, Subsystem: subsystem, Name: "retries_total",
			Help: "Tries again after an error that may pass.",
		}),
	}
	for _, reason := range [...]VoidReason{VoidKeyIDTaken, VoidMacTaken, VoidSubjectMismatch, VoidCreatedTwice, VoidNoKey} {
		m.void.WithLabelValues(string(reason))
	}
	if r == nil {
		return m, nil
	}
	for _, c := range [...]prometheus.Collector{m.seq, m.head, m.events, m.void, m.retries} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}
