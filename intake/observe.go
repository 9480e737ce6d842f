package intake

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/message/router/middleware"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/keyledger/keyledger/client"
)

type metrics struct {
	commands *prometheus.CounterVec
	dead     prometheus.Counter
	retried  prometheus.Counter
	seconds  prometheus.Histogram
	pending  prometheus.Gauge
	oldest   prometheus.Gauge
}

// labelReplayed is the outcome of what had been carried out before.
const labelReplayed = "replayed"

func newMetrics(r prometheus.Registerer) metrics {
	m := metrics{
		commands: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keyledger_intake_commands_total", Help: "Commands that came over NATS, by outcome (done, replayed, refused, dead) and the code of what was not done.",
		}, []string{"outcome", "code"}),
		dead: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "keyledger_intake_dead_letters_total", Help: "Commands that were put aside as dead letters.",
		}),
		retried: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "keyledger_intake_retries_total", Help: "Commands that failed for now and come again.",
		}),
		seconds: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "keyledger_intake_seconds", Help: "Time from the stream of commands to the outcome.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 20),
		}),
		pending: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "keyledger_intake_pending", Help: "Commands in the stream that have no outcome yet.",
		}),
		oldest: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "keyledger_intake_oldest_pending_seconds", Help: "Age of the oldest command that has no outcome yet; 0 if there is none.",
		}),
	}
	for _, outcome := range []string{client.OutcomeDone, labelReplayed, client.OutcomeRefused, client.OutcomeDead} {
		m.commands.WithLabelValues(outcome, "") // there from the start: an absent series is not a rate of 0
	}
	if r != nil {
		r.MustRegister(m.commands, m.dead, m.retried, m.seconds, m.pending, m.oldest)
	}
	return m
}

// observe is the outermost middleware: it gives a message its work, and writes the
// one line about it.
func (i *Intake) observe(next message.HandlerFunc) message.HandlerFunc {
	return func(m *message.Message) ([]*message.Message, error) {
		began := time.Now()
		w := newWork(m)
		m.SetContext(context.WithValue(m.Context(), workKey{}, w))
		m.Metadata.Set(middleware.CorrelationIDMetadataKey, fmt.Sprintf("nats-%d", w.delivery.Sequence))
		_, err := next(m)
		i.note(m.Context(), w, time.Since(began), err)
		return nil, err
	}
}

func (i *Intake) note(ctx context.Context, w *work, took time.Duration, err error) {
	o := w.outcome
	attrs := []slog.Attr{
		slog.String("command", string(w.request.address.Command)), slog.String("command_id", w.request.id),
		slog.String("account", string(w.request.address.Account)), slog.String("producer", string(w.request.address.Producer)),
		slog.String("key_id", o.KeyID), slog.String("outcome", o.Outcome), slog.String("code", o.Code),
		slog.Uint64("seq", o.Seq), slog.Bool("replayed", o.Replayed), slog.Bool("told_before", w.told), slog.Uint64("sent_seq", w.delivery.Sequence),
		slog.Int("attempt", w.delivery.Attempt), slog.Bool("answered", w.request.reply != ""),
		slog.Duration("waited", max(0, i.cfg.Now().Sub(w.delivery.Time)-took)), slog.Duration("took", took),
	}
	if err != nil { // it comes again
		i.metrics.retried.Inc()
		i.cfg.Logger.LogAttrs(ctx, slog.LevelWarn, "command over nats failed for now", append(attrs, slog.String("error", err.Error()))...)
		return
	}
	label := o.Outcome
	if o.Replayed {
		label = labelReplayed
	}
	i.metrics.commands.WithLabelValues(label, o.Code).Inc()
	i.metrics.seconds.Observe(max(0, i.cfg.Now().Sub(w.delivery.Time).Seconds()))
	level := slog.LevelInfo
	if o.Outcome == client.OutcomeDead {
		i.metrics.dead.Inc()
		level = slog.LevelWarn
	}
	i.cfg.Logger.LogAttrs(ctx, level, "command over nats", attrs...)
}
