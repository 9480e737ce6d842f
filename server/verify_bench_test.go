package server_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/server/servertest"
)

// verifyWindow is how long each side is measured at a time: short, so that both
// meet the same neighbours on a machine that is not theirs alone.
const verifyWindow = 300 * time.Millisecond

// BenchmarkHTTPVerify compares POST /v1/verify, with the access log written as
// JSON, with the limit: a bare net/http handler that answers with the same bytes.
// Both are asked by the same lean clients over 64 connections, and take turns.
//
//	bare/s, verify/s   medians of the rounds
//	ratio              verify/s over bare/s, median of the rounds' ratios
func BenchmarkHTTPVerify(b *testing.B) {
	const connections = 64
	s := servertest.MustStart(b, servertest.Config{Logger: slog.New(slog.NewJSONHandler(io.Discard, nil))}) //nolint:sloglint // lines are made, as in earnest
	var token string
	for range 100 {
		token = s.MustCreateKey(b, client.CreateKeyRequest{Scopes: []string{"invoices:read", "payouts:read"}, ExpiresOn: new("2090-01-01")}).Token
	}
	body := []byte(`{"key":"` + token + `","scopes":["invoices:read"],"environment":"live","ip":"203.0.113.7"}`)
	answer := s.MustDo(b, http.StatusOK, servertest.Request{Path: "/v1/verify", Token: s.Operator, Body: body}, nil).Body
	if !bytes.Contains(answer, []byte(`"VALID"`)) {
		b.Fatalf("the key is not valid: %s", answer)
	}
	verify := leanClients(b, s.URL[len("http://"):], connections, s.Operator, body)
	bare := leanClients(b, mustBareServer(b, answer), connections, s.Operator, body)
	var bares, verifies, ratios []float64
	for b.Loop() {
		for range 15 {
			limit := measure(b, connections, verifyWindow, bare).rate
			ours := measure(b, connections, verifyWindow, verify).rate
			bares, verifies, ratios = append(bares, limit), append(verifies, ours), append(ratios, ours/limit)
		}
	}
	b.ReportMetric(median(bares), "bare/s")
	b.ReportMetric(median(verifies), "verify/s")
	b.ReportMetric(median(ratios), "ratio")
}

// mustBareServer answers everything with the same bytes, under the same timeouts.
func mustBareServer(b *testing.B, answer []byte) (addr string) {
	b.Helper()
	listener, err := new(net.ListenConfig).Listen(b.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	h := &http.Server{
		ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second, WriteTimeout: 30 * time.Second, IdleTimeout: time.Minute,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", client.MediaTypeJSON)
			_, _ = w.Write(answer)
		}),
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		_ = h.Serve(listener)
	}()
	b.Cleanup(func() {
		_ = h.Close()
		<-served
	})
	return listener.Addr().String()
}

// leanClients opens connections and returns what sends the same request over one
// of them and reads the answer. They cost a fraction of http.Client, so that what
// is measured is the server.
func leanClients(b *testing.B, addr string, n int, token string, body []byte) func(client, n int) error {
	b.Helper()
	request := fmt.Appendf(nil, "POST /v1/verify HTTP/1.1\r\nHost: %s\r\nAuthorization: Bearer %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
		addr, token, len(body), body)
	conns := make([]net.Conn, n)
	readers := make([]*bufio.Reader, n)
	for i := range n {
		conn, err := new(net.Dialer).DialContext(context.WithoutCancel(b.Context()), "tcp", addr)
		if err != nil {
			b.Fatal(err)
		}
		b.Cleanup(func() { _ = conn.Close() })
		conns[i], readers[i] = conn, bufio.NewReader(conn)
	}
	return func(client, _ int) error {
		if _, err := conns[client].Write(request); err != nil {
			return err
		}
		return discardAnswer(readers[client])
	}
}

// discardAnswer reads one answer of 200 with a Content-Length.
func discardAnswer(r *bufio.Reader) error {
	length := -1
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		if line = bytes.TrimRight(line, "\r\n"); len(line) == 0 {
			break
		}
		if first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200")) {
			return fmt.Errorf("answered with %s", line)
		}
		if value, ok := bytes.CutPrefix(line, []byte("Content-Length: ")); ok {
			if length, err = strconv.Atoi(string(value)); err != nil {
				return err
			}
		}
	}
	_, err := r.Discard(length)
	return err
}
