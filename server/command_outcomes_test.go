package server_test

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/nats-io/nats.go"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/server/servertest"
)

// TestGetCommand finds outcomes of NATS, and what HTTP commands did in the audit log.
func TestGetCommand(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{})
	streams, err := s.Log.OpenCommands(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := streams.PutOutcome(t.Context(), "acme", "n1", eventstore.StoredOutcome{Body: []byte(`{"id":"n1","command":"create_key","outcome":"refused","code":"ceiling_exceeded"}`)}); err != nil {
		t.Fatal(err)
	}
	acme := s.MustManagementKey(t, "acme", domain.ScopeCommands, domain.ScopeKeysWrite)
	other := s.MustManagementKey(t, "other", domain.ScopeCommands)
	reader := s.MustManagementKey(t, "acme", domain.ScopeAuditRead)
	none := s.MustManagementKey(t, "acme", domain.ScopeKeysRead)
	s.MustDo(t, http.StatusCreated, servertest.Request{
		Path: "/v1/keys", Token: acme.Token, Header: map[string]string{"Idempotency-Key": "h:1"},
		Body: map[string]any{"name": "k", "environment": "live", "scopes": []string{"invoices:read"}},
	}, nil)
	get := func(token, path string, status int) (o client.CommandOutcome, code string) {
		t.Helper()
		var p client.Problem
		out := any(&o)
		if status >= 400 {
			out = &p
		}
		s.MustDo(t, status, servertest.Request{Path: path, Token: token}, out)
		return o, p.Code
	}
	for _, token := range []string{acme.Token, reader.Token} {
		if o, _ := get(token, "/v1/commands/n1", 200); o.Outcome != "refused" || o.Code != domain.CodeCeiling {
			t.Errorf("%+v", o)
		}
	}
	if o, _ := get(acme.Token, "/v1/commands/h:1", 200); o.Outcome != "done" || o.Producer != acme.Key.ID || o.KeyID == "" || o.Command != "create_key" {
		t.Errorf("%+v", o)
	}
	if o, _ := get(s.Operator, "/v1/commands/h:1?account=acme", 200); o.Outcome != "done" {
		t.Errorf("%+v", o)
	}
	for path, want := range map[string]string{
		"/v1/commands/n1": "command_not_found", "/v1/commands/h:1": "command_not_found",
	} {
		for _, token := range []string{other.Token, s.Operator} {
			if _, code := get(token, path, 404); code != want {
				t.Errorf("%s: %s", path, code)
			}
		}
	}
	if _, code := get(acme.Token, "/v1/commands/n1?account=other", 403); code != domain.CodeCeiling {
		t.Error(code)
	}
	if _, code := get(none.Token, "/v1/commands/n1", 403); code != domain.CodeMissingScope {
		t.Error(code)
	}
	if _, code := get(acme.Token, "/v1/commands/n1?account=a.b", 403); code != domain.CodeCeiling {
		t.Error(code)
	}
	if _, code := get(s.Operator, "/v1/commands/n1?account=a.b", 400); code != "invalid_account" {
		t.Error(code)
	}
}

// TestCommandsRefusalsAreDocumented holds what the routes answer against the document.
func TestCommandsRefusalsAreDocumented(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{})
	if _, err := s.Log.OpenCommands(t.Context()); err != nil {
		t.Fatal(err)
	}
	redacted := &nats.Msg{Subject: "keyledger.dead.acme.key_p.create_key", Header: nats.Header{"Keyledger-Redacted": {"true"}}}
	if _, err := s.Log.JetStream().PublishMsg(t.Context(), redacted); err != nil {
		t.Fatal(err)
	}
	none := s.MustManagementKey(t, "acme", domain.ScopeKeysRead)
	var doc map[string]any
	s.MustDo(t, 200, servertest.Request{Path: "/openapi.json"}, &doc)
	for _, c := range []struct {
		method, route, path, token string
		status                     int
	}{
		{"get", "/v1/commands/{id}", "/v1/commands/x", s.Operator, 404},
		{"get", "/v1/commands/{id}", "/v1/commands/a%20b", s.Operator, 400},
		{"get", "/v1/dead-letters", "/v1/dead-letters", none.Token, 403},
		{"get", "/v1/dead-letters/{seq}", "/v1/dead-letters/9", s.Operator, 404},
		{"get", "/v1/dead-letters/{seq}", "/v1/dead-letters/x", s.Operator, 400},
		{"post", "/v1/dead-letters/{seq}/resend", "/v1/dead-letters/9/resend", s.Operator, 404},
		{"post", "/v1/dead-letters/{seq}/resend", "/v1/dead-letters/1/resend", s.Operator, 409},
		{"post", "/v1/dead-letters/{seq}/resend", "/v1/dead-letters/1/resend", none.Token, 403},
	} {
		s.MustDo(t, c.status, servertest.Request{Method: strings.ToUpper(c.method), Path: c.path, Token: c.token}, nil)
		if at(doc, "paths", c.route, c.method, "responses", strconv.Itoa(c.status)) == nil {
			t.Errorf("%s %s answers %d, and the document does not say so", c.method, c.route, c.status)
		}
	}
	if words, _ := at(doc, "components", "responses", "NotFound", "description").(string); strings.Contains(words, "key") {
		t.Errorf("404 is about more than keys: %s", words)
	}
}

// TestDeadLetters lists, shows and sends again, each within its reach.
func TestDeadLetters(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{})
	js := s.Log.JetStream()
	put := func(account string, n int) {
		t.Helper()
		if _, err := js.Publish(t.Context(), fmt.Sprintf("keyledger.dead.%s.key_p.create_key", account), fmt.Appendf(nil, "%d", n)); err != nil {
			t.Fatal(err)
		}
	}
	for n := range 3 {
		put("acme", n)
		put("other", n)
	}
	acme := s.MustManagementKey(t, "acme", domain.ScopeCommands)
	operator := s.MustManagementKey(t, "acme", domain.ScopeOperate)
	none := s.MustManagementKey(t, "acme", domain.ScopeKeysRead)
	everywhere := s.MustManagementKey(t, "_root", domain.ScopeCommands)
	for _, subject := range []string{"acme." + acme.Key.ID, "acme." + everywhere.Key.ID, "other." + everywhere.Key.ID} { // 7, 8, 9
		if _, err := js.Publish(t.Context(), "keyledger.dead."+subject+".create_key", []byte("own")); err != nil {
			t.Fatal(err)
		}
	}
	list := func(token, query string) (page client.DeadLetterPage) {
		t.Helper()
		s.MustDo(t, 200, servertest.Request{Path: "/v1/dead-letters" + query, Token: token}, &page)
		return page
	}
	for _, c := range []struct {
		token, query string
		want         []uint64
	}{
		{operator.Token, "", []uint64{1, 3, 5, 7, 8}}, {acme.Token, "", []uint64{7}}, {acme.Token, "?account=acme", []uint64{7}},
		{everywhere.Token, "", []uint64{8, 9}}, {everywhere.Token, "?account=other", []uint64{9}},
	} {
		var got []uint64
		p := list(c.token, c.query)
		for _, l := range p.DeadLetters {
			got = append(got, l.Seq)
		}
		if !slices.Equal(got, c.want) || p.NextPageToken != "" {
			t.Errorf("%q: %v, want %v", c.query, got, c.want)
		}
	}
	if p := list(s.Operator, ""); len(p.DeadLetters) != 9 {
		t.Errorf("%+v", p)
	}
	if p := list(s.Operator, "?account=other&page_size=3"); len(p.DeadLetters) != 3 || p.NextPageToken == "" {
		t.Errorf("%+v", p)
	} else if p = list(s.Operator, "?account=other&page_size=3&page_token="+p.NextPageToken); len(p.DeadLetters) != 1 || p.DeadLetters[0].BodyBytes != len("own") || p.DeadLetters[0].Body != "" || p.NextPageToken != "" {
		t.Errorf("%+v", p)
	}
	if p := list(s.Operator, "?account=nobody"); p.DeadLetters == nil || len(p.DeadLetters) != 0 {
		t.Errorf("%+v", p)
	}
	for _, c := range []struct {
		method, path, token string
		status              int
		code                string
	}{
		{"GET", "/v1/dead-letters", none.Token, 403, domain.CodeMissingScope},
		{"GET", "/v1/dead-letters?account=other", acme.Token, 403, domain.CodeCeiling},
		{"GET", "/v1/dead-letters?account=a.b", s.Operator, 400, "invalid_account"},
		{"GET", "/v1/dead-letters/1", operator.Token, 200, ""},
		{"GET", "/v1/dead-letters/1", acme.Token, 404, eventstore.CodeNoDeadLetter}, // of another producer
		{"POST", "/v1/dead-letters/1/resend", acme.Token, 404, eventstore.CodeNoDeadLetter},
		{"POST", "/v1/dead-letters/1/resend", everywhere.Token, 404, eventstore.CodeNoDeadLetter},
		{"POST", "/v1/dead-letters/1/resend", none.Token, 403, domain.CodeMissingScope},
		{"GET", "/v1/dead-letters/7", acme.Token, 200, ""},
		{"GET", "/v1/dead-letters/9", everywhere.Token, 200, ""},
		{"GET", "/v1/dead-letters/2", operator.Token, 404, eventstore.CodeNoDeadLetter},
		{"GET", "/v1/dead-letters/2", acme.Token, 404, eventstore.CodeNoDeadLetter},
		{"POST", "/v1/dead-letters/2/resend", acme.Token, 404, eventstore.CodeNoDeadLetter},
		{"GET", "/v1/dead-letters/99", s.Operator, 404, eventstore.CodeNoDeadLetter},
		{"GET", "/v1/dead-letters/0", s.Operator, 400, domain.CodeValidation},
		{"GET", "/v1/dead-letters/x", s.Operator, 400, domain.CodeValidation},
		{"POST", "/v1/dead-letters/1/resend", operator.Token, 200, ""},
	} {
		var p client.Problem
		s.MustDo(t, c.status, servertest.Request{Method: c.method, Path: c.path, Token: c.token}, &p)
		if p.Code != c.code {
			t.Errorf("%s %s: %s, want %s", c.method, c.path, p.Code, c.code)
		}
	}
	stream, err := js.Stream(t.Context(), string(eventstore.SideCommands))
	if err != nil {
		t.Fatal(err)
	}
	msg, err := stream.GetLastMsgForSubject(t.Context(), "keyledger.commands.acme.key_p.create_key")
	if err != nil || msg.Header.Get("Keyledger-Resent") != "1" || msg.Header.Get("Keyledger-Resent-By") != operator.Key.ID || string(msg.Data) != "0" {
		t.Errorf("%+v %v", msg, err)
	}
	if text := s.Logs.String(); !strings.Contains(text, `"dead letter sent again"`) || !strings.Contains(text, `"by":"`+operator.Key.ID+`"`) {
		t.Error("the log does not say who sent the command again")
	}
}
