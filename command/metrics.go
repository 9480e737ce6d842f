package command

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyledger/keyledger/domain"
)

type metrics struct {
	commands *prometheus.CounterVec
	tries    prometheus.Counter
	seconds  *prometheus.HistogramVec
}

func newMetrics(r prometheus.Registerer) metrics {
	m := metrics{
		commands: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keyledger_command_total", Help: "Commands by name and outcome (done, replayed, or the code of the refusal).",
		}, []string{"command", "outcome"}),
		tries: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "keyledger_command_retries_total", Help: "Tries of commands after the first.",
		}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "keyledger_command_seconds", Help: "Time from the door to the acknowledged append.",
			Buckets: prometheus.ExponentialBuckets(0.00025, 2, 16),
		}, []string{"command"}),
	}
	if r != nil {
		r.MustRegister(m.commands, m.tries, m.seconds)
	}
	return m
}

func (m metrics) observe(name domain.CommandName, o Outcome, err error, tries int, took time.Duration) {
	outcome := "done"
	switch {
	case err != nil:
		outcome = domain.CodeOf(err)
	case o.Replayed:
		outcome = "replayed"
	}
	m.commands.WithLabelValues(string(name), outcome).Inc()
	m.tries.Add(float64(max(tries-1, 0)))
	m.seconds.WithLabelValues(string(name)).Observe(took.Seconds())
}
