package access

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

type metrics struct {
	signIns *prometheus.CounterVec
	ended   prometheus.Counter
}

func newMetrics(r prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		signIns: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keyledger_nats_sign_ins_total",
			Help: "Questions of the NATS server who somebody is, by answer: accepted, refused, not_ready, malformed, failed.",
		}, []string{"answer"}),
		ended: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "keyledger_nats_connections_ended_total", Help: "Connections that this node ended because their key had ended.",
		}),
	}
	for _, answer := range [...]string{"accepted", "refused", "not_ready", "malformed", "failed"} {
		m.signIns.WithLabelValues(answer) // an alarm on what has not happened yet must find 0
	}
	if r == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.signIns, m.ended} {
		if err := r.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}
