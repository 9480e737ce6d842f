package server_test

import (
	"encoding/json"
	"io"
	"testing"

	"go.uber.org/goleak"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/server/servertest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// The default client keeps idle connections to servers that have stopped.
		goleak.IgnoreAnyFunction("net/http.(*persistConn).writeLoop"),
		goleak.IgnoreAnyFunction("net/http.(*persistConn).readLoop"),
		// nats-server's own, which outlive its shutdown.
		goleak.IgnoreAnyFunction("github.com/nats-io/nats-server/v2/server.init.0.func1"),
	)
}

// mustProblem checks that an answer is a problem with everything that one has.
func mustProblem(t *testing.T, a servertest.Answer, status int, code string) client.Problem {
	t.Helper()
	var p client.Problem
	if a.Status != status {
		t.Fatalf("status %d, want %d: %s", a.Status, status, a.Body)
	}
	if got := a.Header.Get("Content-Type"); got != client.MediaTypeProblem {
		t.Errorf("Content-Type %q, want %q", got, client.MediaTypeProblem)
	}
	if err := json.Unmarshal(a.Body, &p); err != nil {
		t.Fatalf("decode the problem %s: %v", a.Body, err)
	}
	if p.Code != code {
		t.Errorf("code %q, want %q: %s", p.Code, code, a.Body)
	}
	if p.Type == "" || p.Title == "" || p.Detail == "" || p.Fix == "" || p.Status != status {
		t.Errorf("the problem is not complete: %s", a.Body)
	}
	if p.RequestID == "" || p.RequestID != a.Header.Get(client.HeaderRequestID) {
		t.Errorf("request_id %q, header %q", p.RequestID, a.Header.Get(client.HeaderRequestID))
	}
	return p
}

func mustVerify(t *testing.T, s *servertest.Stack, r client.VerifyRequest) client.VerifyResult {
	t.Helper()
	var out client.VerifyResult
	s.MustDo(t, 200, servertest.Request{Path: "/v1/verify", Token: s.Operator, Body: r}, &out)
	return out
}

func mustReadAll(t *testing.T, r io.Reader) []byte {
	t.Helper()
	body, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return body
}
