package deadlines

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyledger/keyledger/domain"
)

type metrics struct {
	written   *prometheus.CounterVec
	conflicts prometheus.Counter
}

func newMetrics(w *Worker, registerer prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		written: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keyledger_deadlines_written_total", Help: "Events that time brought about, written by this node.",
		}, []string{"event"}),
		conflicts: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "keyledger_deadlines_conflicts_total", Help: "Batches that had to be decided again: a command was faster, or no answer came.",
		}),
	}
	for _, typ := range []domain.EventType{domain.TypeKeyExpiring, domain.TypeKeyExpired, domain.TypeKeyRevoked} {
		m.written.WithLabelValues(string(typ))
	}
	if registerer == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{
		m.written, m.conflicts,
		gauge("keyledger_deadlines_due", "Deadlines that have passed and are not written yet.", func() float64 {
			return float64(w.index.overdue(w.now()).keys)
		}),
		gauge("keyledger_deadlines_lag_seconds", "How long the first of them has been due; 0 if there is none.", func() float64 {
			now := w.now()
			if o := w.index.overdue(now); o.keys > 0 {
				return now.Sub(o.since).Seconds()
			}
			return 0
		}),
		gauge("keyledger_deadlines_stuck", "Keys whose deadlines this node cannot write; its log has them.", func() float64 {
			return float64(w.stuckNow())
		}),
		gauge("keyledger_deadlines_leading", "1 while this node writes deadlines.", func() float64 {
			if w.leading.Load() {
				return 1
			}
			return 0
		}),
	} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register the metrics of deadlines: %w", err)
		}
	}
	return m, nil
}

func gauge(name, help string, value func() float64) prometheus.GaugeFunc {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
}
