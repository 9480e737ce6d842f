package verify

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyledger/keyledger/domain"
)

// metrics holds the counters of checks in arrays by [Code.index]: finding one must
// cost nothing.
type metrics struct {
	api, management [codeCount]prometheus.Counter
	void            prometheus.Counter
}

func newMetrics(v *Verifier, registerer prometheus.Registerer) (*metrics, error) {
	checks := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "keyledger_verify_checks_total", Help: "Checks of a key, by the type of key asked for and the resulting code.",
	}, []string{"key_type", "code"})
	m := &metrics{void: prometheus.NewCounter(prometheus.CounterOpts{
		Name: "keyledger_verify_void_events_total", Help: "Events that count for nothing because an earlier one owns their key id or mac, or they contradict their subject. Any is an alarm.",
	})}
	for i, code := range Codes() {
		m.api[i] = checks.WithLabelValues(string(domain.KeyTypeAPI), string(code))
		m.management[i] = checks.WithLabelValues(string(domain.KeyTypeManagement), string(code))
	}
	if registerer == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{
		checks, m.void,
		gauge("keyledger_verify_keys", "Keys in the table, dead ones included.", func() float64 { return float64(v.Stats().Keys) }),
		gauge("keyledger_verify_as_of_seq", "The last seq that the table has applied.", func() float64 { return float64(v.AsOf()) }),
		gauge("keyledger_verify_ready", "1 if the verifier answers, 0 if it fails closed.", func() float64 {
			if v.Ready() {
				return 1
			}
			return 0
		}),
	} {
		if err := registerer.Register(c); err != nil {
			return nil, fmt.Errorf("register the verifier's metrics: %w", err)
		}
	}
	return m, nil
}

func gauge(name, help string, value func() float64) prometheus.GaugeFunc {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, value)
}
