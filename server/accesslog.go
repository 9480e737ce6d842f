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
	on := x.endpoint.trackOf(s, r.Method)
	on.observe(x.status, took)

	level := slog.LevelInfo
	switch {
	case x.status == http.StatusInternalServerError: // a fault of ours
		level = slog.LevelError
	case x.status > http.StatusInternalServerError: // not now: shutting down, catching up
		level = slog.LevelWarn
	}
	if !on.log.Enabled(r.Context(), level) {
		return
	}
	// The record is made by hand: slog would look for the line that logs, which is
	// always this one, and that costs as much as verifying a key.
	line := slog.NewRecord(end, level, "request", 0)
	attrs := append(make([]slog.Attr, 0, 11),
		slog.Int("status", x.status), slog.Duration("took", took), slog.Int64("bytes", x.bytes),
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
	_ = on.log.Handle(r.Context(), line) // as slog's own loggers do
}

// track is where requests of one route and method are logged and counted. It is
// made once for each endpoint: what is the same in every line is formatted then,
// and the counters are found.
type track struct {
	log      slog.Handler
	requests *prometheus.CounterVec // by status
	fine     prometheus.Counter     // the one of 200
	duration prometheus.Observer
}

func (s *Server) newTrack(route, method string) track {
	requests := s.metrics.requests.MustCurryWith(prometheus.Labels{"route": route, "method": method})
	return track{
		log:      s.logger.Handler().WithAttrs([]slog.Attr{slog.String("method", method), slog.String("route", route)}),
		requests: requests, fine: requests.WithLabelValues(strconv.Itoa(http.StatusOK)),
		duration: s.metrics.duration.WithLabelValues(route),
	}
}

// trackOf returns the endpoint's track. Requests that came to no endpoint, or by
// another method (HEAD of a GET), get one of their own.
func (e *endpoint) trackOf(s *Server, method string) track {
	switch {
	case e == nil:
		return s.newTrack(noRoute, methodLabel(method))
	case e.Method != method:
		return s.newTrack(e.Path, methodLabel(method))
	default:
		return e.track
	}
}

func (t track) observe(status int, took time.Duration) {
	if status == http.StatusOK {
		t.fine.Inc()
	} else {
		t.requests.WithLabelValues(strconv.Itoa(status)).Inc()
	}
	t.duration.Observe(took.Seconds())
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

// methodLabel keeps callers from making up label values and log text.
func methodLabel(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		return method
	default:
		return "other"
	}
}
