package server_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/server"
	"github.com/keyledger/keyledger/server/servertest"
)

// clock is a clock that tests move.
type clock struct {
	mu sync.Mutex
	at time.Time
}

func newClock() *clock { return &clock{at: time.Now()} }

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.at
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.at = c.at.Add(d)
}

func TestIdempotency(t *testing.T) {
	dir := t.TempDir()
	s := servertest.MustStart(t, servertest.Config{DataDir: dir})
	create := servertest.Request{Path: "/v1/keys", Token: s.Operator, Body: goodKey, Header: map[string]string{"Idempotency-Key": "order-1"}}
	var first, again client.KeyResult
	s.MustDo(t, 201, create, &first)
	a := s.MustDo(t, 201, create, &again)
	if first.Token == "" || again.Token != "" || first.Key.ID != again.Key.ID || first.Seq != again.Seq || a.Header.Get(client.HeaderReplayed) != "true" {
		t.Errorf("first %s %d, again %s %d with headers %v", first.Key.ID, first.Seq, again.Key.ID, again.Seq, a.Header)
	}
	other := create
	other.Body = `{"name":"other","environment":"live","scopes":["invoices:read"]}`
	mustProblem(t, s.Do(t, other), 409, "idempotency_conflict")

	// The same name from another caller is another command.
	acme := s.MustManagementKey(t, "acme", domain.ScopeKeysWrite)
	theirs := create
	theirs.Token = acme.Token
	var third client.KeyResult
	s.MustDo(t, 201, theirs, &third)
	if third.Key.ID == first.Key.ID || third.Token == "" {
		t.Error("two callers share a command")
	}

	rotate := servertest.Request{Path: "/v1/keys/" + first.Key.ID + "/rotate", Token: s.Operator, Body: `{}`, Header: map[string]string{"Idempotency-Key": "order-2"}}
	var rotated, rotatedAgain client.KeyResult
	s.MustDo(t, 201, rotate, &rotated)
	s.MustDo(t, 201, rotate, &rotatedAgain)
	if rotated.Key.ID != rotatedAgain.Key.ID || rotatedAgain.Token != "" {
		t.Error("a repeated rotation made another key")
	}
	s.MustStop(t)

	restarted := servertest.MustStart(t, servertest.Config{DataDir: dir})
	if restarted.Operator != s.Operator {
		t.Fatal("the operator changed")
	}
	var late client.KeyResult
	restarted.MustDo(t, 201, create, &late)
	if late.Key.ID != first.Key.ID || late.Token != "" || late.Key.Status != "active" {
		t.Errorf("after a restart: %+v", late)
	}
}

// TestOneOfMany sends one command from many callers at once.
func TestOneOfMany(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{})
	const callers = 64
	answers := make([]client.KeyResult, callers)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			s.MustDo(t, 201, servertest.Request{Path: "/v1/keys", Token: s.Operator, Body: goodKey, Header: map[string]string{"Idempotency-Key": "one"}}, &answers[i])
		})
	}
	wg.Wait()
	tokens := 0
	for _, a := range answers {
		if a.Key.ID != answers[0].Key.ID {
			t.Fatalf("keys %s and %s", a.Key.ID, answers[0].Key.ID)
		}
		if a.Token != "" {
			tokens++
		}
	}
	if tokens > 1 {
		t.Errorf("%d answers hold a token", tokens)
	}
	var page client.KeyPage
	s.MustDo(t, 200, servertest.Request{Path: "/v1/keys", Token: s.Operator}, &page)
	if len(page.Keys) != 1 {
		t.Errorf("%d keys", len(page.Keys))
	}
}

func TestIfMatch(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{})
	k := s.MustCreateKey(t, client.CreateKeyRequest{})
	tag := s.MustDo(t, 200, servertest.Request{Path: "/v1/keys/" + k.Key.ID, Token: s.Operator}, nil).Header.Get("ETag")
	patch := func(match, name string) servertest.Answer {
		return s.Do(t, servertest.Request{Method: "PATCH", Path: "/v1/keys/" + k.Key.ID, Token: s.Operator,
			Body: `{"name":"` + name + `"}`, Header: map[string]string{"If-Match": match}})
	}
	if a := patch(tag, "one"); a.Status != 200 || a.Header.Get("ETag") == tag {
		t.Errorf("the present version: %d %s", a.Status, a.Body)
	}
	mustProblem(t, patch(tag, "two"), 412, "version_mismatch")
	now := s.MustDo(t, 200, servertest.Request{Path: "/v1/keys/" + k.Key.ID, Token: s.Operator}, nil).Header.Get("ETag")
	if a := patch("W/"+now, "three"); a.Status != 200 {
		t.Errorf("a weakened tag: %d %s", a.Status, a.Body)
	}
	if a := patch("*", "four"); a.Status != 200 {
		t.Errorf("any version: %d %s", a.Status, a.Body)
	}
}

func TestPatchExpiry(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{})
	k := s.MustCreateKey(t, client.CreateKeyRequest{ExpiresOn: new("2098-01-01")})
	tests := []struct {
		body   string
		status int
		code   string
		want   string // "" never
	}{
		{`{"name":"left as it is"}`, 200, "", "2098-01-01T00:00:00Z"},
		{`{"expires_on":"2099-06-30"}`, 200, "", "2099-06-30T00:00:00Z"},
		{`{"expires_at":null}`, 200, "", ""},
		{`{"expires_at":"2099-06-30T12:30:00+02:00"}`, 200, "", "2099-06-30T10:30:00Z"},
		{`{"expires_on":null}`, 200, "", ""},
		{`{"expires_on":"2099-06-30","expires_at":null}`, 400, "validation_failed", ""},
		{`{"expires_on":""}`, 400, "validation_failed", ""},
		{`{"expires_on":"2001-01-01"}`, 400, "expiry_in_past", ""},
		{`{"name":null}`, 400, "validation_failed", ""},
		{`{"scopes":[]}`, 400, "validation_failed", ""},
		{`{"full_access":false}`, 400, "validation_failed", ""},
		{`{"environment":"test"}`, 400, "unknown_member", ""},
		{`{}`, 200, "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.body, func(t *testing.T) {
			a := s.Do(t, servertest.Request{Method: "PATCH", Path: "/v1/keys/" + k.Key.ID, Token: s.Operator, Body: tt.body})
			if tt.status != 200 {
				mustProblem(t, a, tt.status, tt.code)
				return
			}
			var got client.KeyResult
			s.MustDo(t, 200, servertest.Request{Path: "/v1/keys/" + k.Key.ID, Token: s.Operator}, &got)
			have := ""
			if got.Key.ExpiresAt != nil {
				have = got.Key.ExpiresAt.Format(time.RFC3339)
			}
			if a.Status != 200 || have != tt.want {
				t.Errorf("status %d, expiry %q, want %q: %s", a.Status, have, tt.want, a.Body)
			}
		})
	}
}

func TestRevokedIsFinal(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{})
	k := s.MustCreateKey(t, client.CreateKeyRequest{})
	s.MustDo(t, 200, servertest.Request{Path: "/v1/keys/" + k.Key.ID + "/revoke", Token: s.Operator, Body: `{}`}, nil)
	mustProblem(t, s.Do(t, servertest.Request{Method: "PATCH", Path: "/v1/keys/" + k.Key.ID, Token: s.Operator, Body: `{"name":"m"}`}), 409, "key_revoked")
	mustProblem(t, s.Do(t, servertest.Request{Path: "/v1/keys/" + k.Key.ID + "/rotate", Token: s.Operator, Body: `{}`}), 409, "key_revoked")
	fresh := s.MustCreateKey(t, client.CreateKeyRequest{})
	for _, overlap := range []string{"soon", "-1h", "24"} {
		a := s.Do(t, servertest.Request{Path: "/v1/keys/" + fresh.Key.ID + "/rotate", Token: s.Operator, Body: map[string]string{"overlap": overlap}})
		mustProblem(t, a, 400, "validation_failed")
	}
}

// TestClientMadeToken sends the hash of a token that only the caller has.
func TestClientMadeToken(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{})
	token := "made-elsewhere-" + t.Name()
	sum := sha256.Sum256([]byte(token))
	request := client.CreateKeyRequest{Name: "n", Environment: "live", Scopes: []string{"invoices:read"}, TokenSHA256: hex.EncodeToString(sum[:])}
	var out client.KeyResult
	s.MustDo(t, 201, servertest.Request{Path: "/v1/keys", Token: s.Operator, Body: request}, &out)
	if out.Token != "" {
		t.Error("a token was answered")
	}
	if v := mustVerify(t, s, client.VerifyRequest{Key: token}); v.Code != "VALID" || v.KeyID != out.Key.ID {
		t.Errorf("verify: %+v", v)
	}
	mustProblem(t, s.Do(t, servertest.Request{Path: "/v1/keys", Token: s.Operator, Body: request}), 409, "token_in_use")
	mustProblem(t, s.Do(t, servertest.Request{Path: "/v1/keys", Token: s.Operator, Body: client.CreateKeyRequest{
		Name: "another account", Environment: "test", FullAccess: true, Account: "acme", TokenSHA256: request.TokenSHA256,
	}}), 409, "token_in_use")
}

// TestManagementTokenIsTheServers asks for a management key by the hash of a guessable word.
func TestManagementTokenIsTheServers(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{})
	sum := sha256.Sum256([]byte("hunter2"))
	body := `{"name":"n","scopes":["keyledger.verify"],"token_sha256":"` + hex.EncodeToString(sum[:]) + `"}`
	p := mustProblem(t, s.Do(t, servertest.Request{Path: "/v1/management-keys", Token: s.Operator, Body: body}), 400, "unknown_member")
	if len(p.Errors) != 1 || p.Errors[0].Pointer != "/token_sha256" {
		t.Errorf("errors %+v", p.Errors)
	}
}

// TestTokenRace claims one client-made token from many callers at once: the log
// decides, and the losers are told.
func TestTokenRace(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{})
	sum := sha256.Sum256([]byte("raced for"))
	const callers = 16
	answers := make([]servertest.Answer, callers)
	var wg sync.WaitGroup
	for i := range callers {
		wg.Go(func() {
			answers[i] = s.Do(t, servertest.Request{Path: "/v1/keys", Token: s.Operator, Body: client.CreateKeyRequest{
				Name: "n", Environment: "live", FullAccess: true, TokenSHA256: hex.EncodeToString(sum[:]),
			}})
		})
	}
	wg.Wait()
	won := 0
	for _, a := range answers {
		if a.Status == http.StatusCreated {
			won++
			continue
		}
		mustProblem(t, a, 409, "token_in_use")
	}
	if won != 1 {
		t.Errorf("%d callers were told that the token is theirs", won)
	}
}

// stuck is a projector that stands still.
type stuck struct{}

func (stuck) WaitFor(ctx context.Context, _ uint64) error {
	<-ctx.Done()
	return ctx.Err()
}

// TestStandingTables answers commands although the key table stands still, and
// refuses reads that would not show them.
func TestStandingTables(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{Adjust: func(c *server.Config) {
		c.Tables = stuck{}
		c.AwaitTimeout = 50 * time.Millisecond
	}})
	var out client.KeyResult
	a := s.MustDo(t, 201, servertest.Request{Path: "/v1/keys", Token: s.Operator, Body: goodKey}, &out)
	if out.Token == "" {
		t.Errorf("answer %d without a token", a.Status)
	}
	if result := mustVerify(t, s, client.VerifyRequest{Key: out.Token}); !result.Valid {
		t.Errorf("verification needs the key table: %s", result.Code)
	}
	b := s.Do(t, servertest.Request{Path: "/v1/keys", Token: s.Operator})
	mustProblem(t, b, 503, "not_caught_up")
	if b.Header.Get("Retry-After") == "" {
		t.Error("no Retry-After")
	}
}

// TestMinSeq reads what was just written, by its sequence number.
func TestMinSeq(t *testing.T) {
	s := servertest.MustStart(t, servertest.Config{Adjust: func(c *server.Config) { c.AwaitTimeout = 200 * time.Millisecond }})
	k := s.MustCreateKey(t, client.CreateKeyRequest{})
	for _, path := range []string{"/v1/keys?min_seq=", "/v1/keys/" + k.Key.ID + "?min_seq=", "/v1/events?min_seq=", "/v1/management-keys?min_seq="} {
		s.MustDo(t, 200, servertest.Request{Path: path + "2", Token: s.Operator}, nil)
		mustProblem(t, s.Do(t, servertest.Request{Path: path + "999", Token: s.Operator}), 503, "not_caught_up")
	}
}
