package server_test

import (
	"bytes"
	"encoding/json"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/server/servertest"
)

// accessLine is the access log's line of a request.
func accessLine(t *testing.T, s *servertest.Stack, requestID string) map[string]any {
	t.Helper()
	for line := range bytes.Lines([]byte(s.Logs.String())) {
		var fields map[string]any
		if err := json.Unmarshal(line, &fields); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if fields["msg"] == "request" && fields["request_id"] == requestID {
			return fields
		}
	}
	t.Fatalf("the log has no line of request %s", requestID)
	return nil
}

func TestAccessLog(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{})
	k := s.MustCreateKey(t, client.CreateKeyRequest{Account: "acme"})
	send := func(id string, r servertest.Request) map[string]any {
		r.Header = map[string]string{client.HeaderRequestID: id}
		if a := s.Do(t, r); a.Header.Get(client.HeaderRequestID) != id {
			t.Errorf("request id %q became %q", id, a.Header.Get(client.HeaderRequestID))
		}
		return accessLine(t, s, id)
	}
	tests := []struct {
		id      string
		request servertest.Request
		want    map[string]any
	}{
		{"r-update", servertest.Request{Method: "PATCH", Path: "/v1/keys/" + k.Key.ID, Token: s.Operator, Body: `{"name":"m"}`},
			map[string]any{"level": "INFO", "method": "PATCH", "route": "/v1/keys/{id}", "status": 200.0, "actor": mustOperatorID(t, s), "account": "acme", "key_id": k.Key.ID, "seq": float64(k.Seq + 1)}},
		{"r-list", servertest.Request{Path: "/v1/keys?q=something", Token: s.Operator},
			map[string]any{"route": "/v1/keys", "status": 200.0}},
		{"r-verify", servertest.Request{Path: "/v1/verify", Token: s.Operator, Body: client.VerifyRequest{Key: k.Token}},
			map[string]any{"route": "/v1/verify", "status": 200.0, "code": "VALID", "key_id": k.Key.ID}},
		{"r-bad", servertest.Request{Path: "/v1/keys", Token: s.Operator, Body: `{"`},
			map[string]any{"status": 400.0, "code": "malformed_json"}},
		{"r-anonymous", servertest.Request{Path: "/v1/keys"}, map[string]any{"status": 401.0, "code": "missing_credential", "actor": nil}},
		{"r-nothing", servertest.Request{Path: "/nothing/" + k.Key.ID}, map[string]any{"status": 404.0, "route": "none"}},
	}
	for _, tt := range tests {
		line := send(tt.id, tt.request)
		for name, want := range tt.want {
			if line[name] != want {
				t.Errorf("%s: %s is %v, want %v", tt.id, name, line[name], want)
			}
		}
		if line["remote_addr"] == nil || line["took"] == nil || line["bytes"] == nil {
			t.Errorf("%s: %v is not complete", tt.id, line)
		}
	}
	if strings.Contains(s.Logs.String(), "something") {
		t.Error("the log holds a query")
	}
	for _, bad := range []string{"a b", strings.Repeat("x", 65), "a\"b", s.Operator} {
		a := s.Do(t, servertest.Request{Path: "/healthz", Header: map[string]string{client.HeaderRequestID: bad}})
		if got := a.Header.Get(client.HeaderRequestID); got == bad || got == "" {
			t.Errorf("the request id %q was taken", bad)
		}
	}
}

func TestMetrics(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{})
	k := s.MustCreateKey(t, client.CreateKeyRequest{})
	s.MustDo(t, 200, servertest.Request{Path: "/v1/keys/" + k.Key.ID, Token: s.Operator}, nil)
	s.MustDo(t, 404, servertest.Request{Path: "/made/up"}, nil)
	s.Do(t, servertest.Request{Method: "BREW", Path: "/made/up"})
	text := string(s.MustDo(t, 200, servertest.Request{Path: "/metrics"}, nil).Body)
	for _, want := range []string{
		`keyledger_server_requests_total{method="POST",route="/v1/keys",status="201"} 1`,
		`keyledger_server_requests_total{method="GET",route="/v1/keys/{id}",status="200"} 1`,
		`keyledger_server_requests_total{method="other",route="none",status="404"} 1`,
		`keyledger_server_request_seconds_count{route="/v1/keys/{id}"} 1`,
		`keyledger_server_requests_in_flight 1`,
		`keyledger_verify_`, `keyledger_projections_`, `keyledger_eventstore_`, `keyledger_command_`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("/metrics does not show %s", want)
		}
	}
	if strings.Contains(text, k.Key.ID) || strings.Contains(text, "made") {
		t.Error("a label holds what a caller sent")
	}
}

// TestCanary carries tokens through everything that this door does, and then looks
// for any part of their secrets in answers, logs, metrics, events and files.
func TestCanary(t *testing.T) {
	dir := t.TempDir()
	s := servertest.MustStart(t, servertest.Config{DataDir: dir})
	var heard []string // answers that may hold no token
	hear := func(r servertest.Request) {
		a := s.Do(t, r)
		heard = append(heard, string(a.Body))
		for name, values := range a.Header {
			heard = append(heard, name+": "+strings.Join(values, " "))
		}
	}
	k := s.MustCreateKey(t, client.CreateKeyRequest{FullAccess: true})
	m := s.MustManagementKey(t, "acme", domain.ScopeKeysRead, domain.ScopeKeysWrite, domain.ScopeAuditRead, domain.ScopeOperate)
	var rotated client.KeyResult
	s.MustDo(t, 201, servertest.Request{Path: "/v1/keys/" + k.Key.ID + "/rotate", Token: s.Operator, Body: `{"overlap":"1h"}`}, &rotated)
	tokens := []string{s.Operator, k.Token, m.Token, rotated.Token}

	for _, token := range tokens {
		for _, path := range []string{
			"/v1/keys", "/v1/keys/" + k.Key.ID, "/v1/keys/" + k.Key.ID + "/events", "/v1/events", "/v1/management-keys",
			"/v1/management-keys/" + m.Key.ID, "/v1/scopes", "/metrics", "/openapi.json", "/docs", "/readyz",
			"/v1/keys/" + token, "/v1/keys/" + token + "/revoke", "/" + token, "/v1/keys?q=" + token, "/v1/keys?" + token + "=1",
			"/v1/keys?page_token=" + token, "/v1/keys?account=" + token, "/v1/events?type=" + token, "/v1/events?page_token=" + token,
			"/v1/keys?min_seq=" + token, "/docs?access_token=" + token,
		} {
			hear(servertest.Request{Path: path, Token: token})
		}
		for _, body := range []any{
			client.VerifyRequest{Key: token}, client.VerifyRequest{Key: "x", Account: token}, client.VerifyRequest{Key: "x", IP: token},
			client.VerifyRequest{Key: "x", Environment: token}, client.VerifyRequest{Key: "x", Scopes: []string{token}},
			`{"` + token + `":"x"}`, `{"key":"` + token, `"` + token + `"`,
		} {
			hear(servertest.Request{Path: "/v1/verify", Token: s.Operator, Body: body})
		}
		for _, body := range []string{
			`{"name":"` + token + `","environment":"live","scopes":["invoices:read"]}`,
			`{"name":"n","description":"see ` + token + `","environment":"live","scopes":["invoices:read"]}`,
			`{"name":"n","environment":"` + token + `","scopes":["invoices:read"]}`,
			`{"name":"n","environment":"live","scopes":["` + token + `"]}`,
			`{"name":"n","environment":"live","scopes":["invoices:read"],"metadata":{"k":"` + token + `"}}`,
			`{"name":"n","environment":"live","scopes":["invoices:read"],"metadata":{"` + token + `":"x"}}`,
			`{"name":"n","environment":"live","scopes":["invoices:read"],"allowed_ips":["` + token + `"]}`,
			`{"name":"n","environment":"live","scopes":["invoices:read"],"account":"` + token + `"}`,
			`{"name":"n","environment":"live","scopes":["invoices:read"],"expires_at":"` + token + `"}`,
			`{"name":"n","environment":"live","scopes":["invoices:read"],"expires_on":"` + token + `"}`,
			`{"name":"n","environment":"live","scopes":["invoices:read"],"token_sha256":"` + token + `"}`,
			`{"name":["` + token + `"]}`,
			`{"` + token + `":1,"` + token + `":2}`,
		} {
			hear(servertest.Request{Path: "/v1/keys", Token: s.Operator, Body: body})
		}
		hear(servertest.Request{Path: "/v1/keys/" + rotated.Key.ID + "/revoke", Token: s.Operator, Body: `{"reason":"leaked: ` + token + `"}`})
		hear(servertest.Request{Path: "/v1/keys/" + rotated.Key.ID + "/rotate", Token: s.Operator, Body: `{"overlap":"` + token + `"}`})
		hear(servertest.Request{Path: "/v1/keys", Token: s.Operator, Body: goodKey, Header: map[string]string{"Idempotency-Key": token}})
		hear(servertest.Request{Method: "PATCH", Path: "/v1/keys/" + rotated.Key.ID, Token: s.Operator, Body: `{}`, Header: map[string]string{"If-Match": token}})
		hear(servertest.Request{Path: "/v1/keys", Token: s.Operator, Body: goodKey, Header: map[string]string{"Content-Type": token}})
		hear(servertest.Request{Path: "/v1/keys", Token: s.Operator, Header: map[string]string{client.HeaderRequestID: token, "Traceparent": token, "Accept": token}})
		hear(servertest.Request{Method: http.MethodDelete, Path: "/v1/keys/" + token, Token: token})
	}
	s.MustStop(t)

	sinks := map[string]string{"answers": strings.Join(heard, "\n"), "logs": s.Logs.String()}
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || entry.Name() == "operator.token" {
			return err
		}
		content, err := os.ReadFile(path)
		sinks[path] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(heard, ""), string(domain.TypeKeyCreated)) || len(sinks) < 5 {
		t.Fatal("the sinks are not what they should be: nothing would be found in them")
	}
	for name, content := range sinks {
		for i, token := range tokens {
			secret := token[len(token)-38 : len(token)-6]
			for from := 0; from+12 <= len(secret); from += 4 { // any 15 of its characters hold one of these
				if at := strings.Index(content, secret[from:from+12]); at >= 0 {
					t.Errorf("%s hold a part of the secret of token %d, behind %q", name, i, content[max(0, at-60):at])
					break
				}
			}
		}
	}
}
