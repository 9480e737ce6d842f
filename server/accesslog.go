package server

import (
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// noRoute names requests that no route matched, so that callers cannot make up labels.
const noRoute = "none"

// record writes the one line that the access log has for a request, and counts it.
// The line never holds a query, a body, or a header other than the request id.
func (s *Server) record(x *exchange, r *http.Request) {
	end := s.now()
	took := end.Sub(x.start)
	route := noRoute
	if x.endpoint != nil {
		route = x.endpoint.Path
	}
	s.metrics.observe(route, r.Method, x.status, took)

	level := slog.LevelInfo
	if x.status >= http.StatusInternalServerError {
		level = slog.LevelError
	}
	if !s.logger.Enabled(r.Context(), level) {
		return
	}
	// The record is made by hand: slog would look for the line that logs, which is
	// always this one, and that costs as much as verifying a key.
	line := slog.NewRecord(end, level, "request", 0)
	attrs := append(make([]slog.Attr, 0, 13),
		slog.String("method", methodLabel(r.Method)), slog.String("route", route), slog.Int("status", x.status),
		slog.Duration("took", took), slog.Int64("bytes", x.bytes),
		slog.String("request_id", x.requestID), slog.String("remote_addr", r.RemoteAddr))
	for _, a := range [...]struct{ key, value string }{
		{"code", x.code}, {"actor", string(x.authority.Actor)}, {"account", string(x.account)}, {"key_id", string(x.keyID)},
	} {
		if a.value != "" {
			attrs = append(attrs, slog.String(a.key, a.value))
		}
	}
	if x.seq != 0 {
		attrs = append(attrs, slog.Uint64("seq", x.seq))
	}
	if x.cause != nil {
		attrs = append(attrs, slog.String("error", x.cause.Error()))
	}
	line.AddAttrs(attrs...)
	_ = s.logger.Handler().Handle(r.Context(), line) // as slog's own loggers do
}

// metrics are the counts that GET /metrics shows of this package.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	inFlight prometheus.Gauge
}

func newMetrics(r prometheus.Registerer) (metrics, error) {
	m := metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "keyledger_server_requests_total", Help: "HTTP requests answered.",
		}, []string{"route", "method", "status"}),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "keyledger_server_request_seconds", Help: "Time from a request's headers to the end of its answer.",
			Buckets: prometheus.ExponentialBuckets(0.000_05, 4, 10), // 50 µs to 13 s
		}, []string{"route"}),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "keyledger_server_requests_in_flight", Help: "HTTP requests being answered, streams included.",
		}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.duration, m.inFlight} {
		if err := r.Register(c); err != nil {
			return metrics{}, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

func (m metrics) observe(route, method string, status int, took time.Duration) {
	m.requests.WithLabelValues(route, methodLabel(method), strconv.Itoa(status)).Inc()
	m.duration.WithLabelValues(route).Observe(took.Seconds())
}

// methodLabel keeps callers from making up label values and log text.
func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	default:
		return "other"
	}
}
