package server_test

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/server/servertest"
)

// BenchmarkVerifyHandler is POST /v1/verify without a network: what this package
// adds to net/http, the access log and metrics included.
func BenchmarkVerifyHandler(b *testing.B) {
	s := servertest.MustStart(b, servertest.Config{Logger: slog.New(slog.NewJSONHandler(io.Discard, nil))}) //nolint:sloglint // lines are made, as in earnest
	token := s.MustCreateKey(b, client.CreateKeyRequest{Scopes: []string{"invoices:read", "payouts:read"}, ExpiresOn: new("2090-01-01")}).Token
	body := bytes.NewReader([]byte(`{"key":"` + token + `","scopes":["invoices:read"],"environment":"live","ip":"203.0.113.7"}`))
	r := httptest.NewRequestWithContext(b.Context(), http.MethodPost, "/v1/verify", body)
	r.Header.Set("Authorization", "Bearer "+s.Operator)
	r.Header.Set("Content-Type", client.MediaTypeJSON)
	w := &nullWriter{header: http.Header{}}
	b.ReportAllocs()
	for b.Loop() {
		body.Seek(0, io.SeekStart) //nolint:errcheck // to its own beginning
		clear(w.header)
		s.Server.ServeHTTP(w, r)
	}
	if w.status != 0 && w.status != http.StatusOK {
		b.Fatalf("status %d", w.status)
	}
}

// nullWriter is a connection that takes everything.
type nullWriter struct {
	header http.Header
	status int
}

func (w *nullWriter) Header() http.Header         { return w.header }
func (w *nullWriter) WriteHeader(status int)      { w.status = status }
func (w *nullWriter) Write(p []byte) (int, error) { return len(p), nil }
