package command

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/eventstoretest"
)

// claims is the mac index of a test; keys are added as they are made.
type claims map[domain.Mac]domain.KeyID

func (c claims) Owner(m domain.Mac) (domain.KeyID, bool) { id, ok := c[m]; return id, ok }

// fixture is a handler on a real, embedded log.
type fixture struct {
	*Handler
	log    *faultyLog
	claims claims
	now    time.Time
}

// faultyLog is the real log with faults on the way: lost acknowledgements and old answers.
type faultyLog struct {
	*eventstore.Log
	mu sync.Mutex
	// loseAcks is the number of appends that are stored but not acknowledged.
	loseAcks int
	// stale holds back events after this seq from Nearest reads; 0 holds back nothing.
	stale uint64
	// loads counts reads by consistency.
	loads map[eventstore.Consistency]int
}

func (l *faultyLog) Append(ctx context.Context, m eventstore.Meta, c ...eventstore.Change) ([]eventstore.Event, error) {
	events, err := l.Log.Append(ctx, m, c...)
	l.mu.Lock()
	defer l.mu.Unlock()
	if err == nil && l.loseAcks > 0 {
		l.loseAcks--
		return nil, fmt.Errorf("lost on purpose: %w", eventstore.ErrUnknownOutcome)
	}
	return events, err
}

func (l *faultyLog) Load(ctx context.Context, a eventstore.Aggregate, c eventstore.Consistency) (eventstore.History, error) {
	history, err := l.Log.Load(ctx, a, c)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.loads[c]++
	if l.stale > 0 && c == eventstore.Nearest {
		for len(history.Events) > 0 && history.LastSeq > l.stale {
			history.Events = history.Events[:len(history.Events)-1]
			history.LastSeq = 0
			if n := len(history.Events); n > 0 {
				history.LastSeq = history.Events[n-1].Seq
			}
		}
	}
	return history, err
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{
		log:    &faultyLog{Log: eventstoretest.MustEmbedded(t), loads: map[eventstore.Consistency]int{}},
		claims: claims{}, now: time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC),
	}
	f.Handler = f.handler(t)
	return f
}

// handler makes another handler on the same log and secrets: a restarted node.
func (f *fixture) handler(t *testing.T) *Handler {
	t.Helper()
	pepper, err := domain.NewPepper("p1", []byte(strings.Repeat("p", domain.PepperSize)))
	if err != nil {
		t.Fatal(err)
	}
	h, err := New(Config{
		Log: f.log, Claims: f.claims, Pepper: pepper, IDSecret: []byte(strings.Repeat("i", 32)),
		Now: func() time.Time { return f.now },
	})
	if err != nil {
		t.Fatal(err)
	}
	return h
}

func root() domain.Authority {
	return domain.Authority{
		Actor: "key_operator", Account: domain.RootAccount, Scopes: domain.Scopes{domain.ScopeKeysWrite, domain.ScopeOperate},
		Grants: domain.Grants{Environments: []domain.Environment{domain.EnvironmentLive, domain.EnvironmentTest}, Scopes: domain.Scopes{domain.FullAccess}},
	}
}

func as(id string) Request { return Request{Authority: root(), ID: id} }

func invoices() NewKey {
	return NewKey{Type: domain.KeyTypeAPI, Name: "Production Server", Environment: domain.EnvironmentLive, Scopes: []domain.Scope{"invoices:read"}}
}

func target(o Outcome) Target {
	return Target{Account: o.Key.Account, Type: o.Key.Type, ID: o.Key.ID}
}

func (f *fixture) mustCreate(t *testing.T, id string) Outcome {
	t.Helper()
	o, err := f.CreateKey(t.Context(), as(id), invoices())
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func (f *fixture) mustHead(t *testing.T) uint64 {
	t.Helper()
	head, err := f.log.Head(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return head
}

func mustRefuse(t *testing.T, err error, code string) {
	t.Helper()
	if domain.CodeOf(err) != code {
		t.Fatalf("error %v (%s), want code %s", err, domain.CodeOf(err), code)
	}
}

func TestLifeOfAKey(t *testing.T) {
	f := newFixture(t)
	created := f.mustCreate(t, "c1")
	token := created.Token.Reveal()
	parsed, err := domain.TokenFormat{}.ParseToken(token)
	if err != nil || parsed.KeyID != created.Key.ID {
		t.Fatalf("the token names %s (%v), not the key %s", parsed.KeyID, err, created.Key.ID)
	}
	if created.Seq != 1 || created.Replayed || created.Key.Account != domain.DefaultAccount || created.Key.CreatedBy != "key_operator" {
		t.Errorf("created %+v", created)
	}
	name := " POS Integration "
	updated, err := f.UpdateKey(t.Context(), as("u1"), target(created), KeyChanges{Name: &name, Expiry: &NewExpiry{On: new("2027-01-01")}})
	if err != nil || updated.Seq != 2 || updated.Key.Name != "POS Integration" || updated.Key.ExpiresAt.Format(time.RFC3339) != "2027-01-01T00:00:00Z" {
		t.Fatalf("updated %+v, %v", updated, err)
	}
	rotated, err := f.RotateKey(t.Context(), as("r1"), target(created), Rotation{Overlap: time.Hour})
	if err != nil || rotated.Seq != 4 || rotated.Key.RotatedFrom != created.Key.ID || rotated.Key.Name != "POS Integration" || rotated.Token.IsZero() {
		t.Fatalf("rotated %+v, %v", rotated, err)
	}
	revoked, err := f.RevokeKey(t.Context(), as("x1"), target(created), "")
	if err != nil || revoked.Seq != 5 || revoked.Key.RevokeReason != "unspecified" || revoked.Key.ReplacedBy != rotated.Key.ID {
		t.Fatalf("revoked %+v, %v", revoked, err)
	}
	again, err := f.RevokeKey(t.Context(), as("x2"), target(created), "lost")
	if err != nil || again.Seq != 5 || again.Key.RevokeReason != "unspecified" || again.Replayed {
		t.Errorf("revoked again %+v, %v", again, err)
	}
	_, err = f.UpdateKey(t.Context(), as("u2"), target(created), KeyChanges{Name: &name})
	mustRefuse(t, err, domain.CodeKeyRevoked)
	if head := f.mustHead(t); head != 5 {
		t.Errorf("head %d, want 5: what changes nothing appends nothing", head)
	}
}

func TestRepeatsReturnTheFirstOutcome(t *testing.T) {
	f := newFixture(t)
	created := f.mustCreate(t, "same")
	name := "renamed"
	updated, err := f.UpdateKey(t.Context(), as("same"), target(created), KeyChanges{Name: &name})
	if err != nil {
		t.Fatal(err) // one id, but another command
	}
	rotated, err := f.RotateKey(t.Context(), as("same"), target(created), Rotation{})
	if err != nil {
		t.Fatal(err)
	}
	head := f.mustHead(t)
	f.now = f.now.Add(365 * 24 * time.Hour)
	f.Handler = f.handler(t) // a restart, a year later
	for _, tc := range []struct {
		name  string
		do    func() (Outcome, error)
		first Outcome
	}{
		{"create", func() (Outcome, error) { return f.CreateKey(t.Context(), as("same"), invoices()) }, created},
		{"update", func() (Outcome, error) {
			return f.UpdateKey(t.Context(), as("same"), target(created), KeyChanges{Name: &name})
		}, updated},
		{"rotate", func() (Outcome, error) { return f.RotateKey(t.Context(), as("same"), target(created), Rotation{}) }, rotated},
	} {
		got, err := tc.do()
		if err != nil {
			t.Fatalf("%s: %v", tc.name, err)
		}
		if !got.Replayed || !got.Token.IsZero() || got.Seq != tc.first.Seq || got.Key.ID != tc.first.Key.ID || got.Key.Name != tc.first.Key.Name || got.Key.Version != tc.first.Key.Version {
			t.Errorf("%s: repeat %+v\nfirst %+v", tc.name, got, tc.first)
		}
	}
	if got := f.mustHead(t); got != head {
		t.Errorf("repeats appended %d events", got-head)
	}
}

func TestIdempotencyIsScopedAndCompared(t *testing.T) {
	f := newFixture(t)
	first := f.mustCreate(t, "same")
	other := invoices()
	other.Name = "something else"
	_, err := f.CreateKey(t.Context(), as("same"), other)
	mustRefuse(t, err, domain.CodeIdempotencyConflict)

	elsewhere := invoices()
	elsewhere.Account = "acme"
	second, err := f.CreateKey(t.Context(), as("same"), elsewhere)
	if err != nil || second.Key.ID == first.Key.ID {
		t.Errorf("another account: %v, key %s", err, second.Key.ID)
	}
	request := as("same")
	request.Authority.Actor = "key_other"
	third, err := f.CreateKey(t.Context(), request, invoices())
	if err != nil || third.Key.ID == first.Key.ID {
		t.Errorf("another actor: %v, key %s", err, third.Key.ID)
	}
	for _, id := range []string{strings.Repeat("x", 256), "with space", "é", first.Token.Reveal()} {
		_, err := f.CreateKey(t.Context(), as(id), invoices())
		mustRefuse(t, err, "invalid_idempotency_key")
		if strings.Contains(err.Error(), first.Token.Reveal()) {
			t.Error("the error echoes a token")
		}
	}
}

func TestOneOfManyConcurrentRepeatsCreates(t *testing.T) {
	f := newFixture(t)
	const clients = 64
	outcomes := make([]Outcome, clients)
	var wg sync.WaitGroup
	for i := range clients {
		wg.Go(func() {
			o, err := f.CreateKey(t.Context(), as("storm"), invoices())
			if err != nil {
				t.Errorf("client %d: %v", i, err)
			}
			outcomes[i] = o
		})
	}
	wg.Wait()
	tokens := 0
	for _, o := range outcomes {
		if o.Key.ID != outcomes[0].Key.ID || o.Seq != 1 {
			t.Errorf("key %s at %d, want one key at 1", o.Key.ID, o.Seq)
		}
		if !o.Token.IsZero() {
			tokens++
		}
	}
	if head := f.mustHead(t); head != 1 || tokens != 1 {
		t.Errorf("%d events and %d tokens, want one of each", head, tokens)
	}
}

func TestALostAcknowledgementLosesNothing(t *testing.T) {
	f := newFixture(t)
	f.log.loseAcks = 1
	created := f.mustCreate(t, "c1")
	if created.Token.IsZero() || created.Replayed {
		t.Error("the caller whose append it was did not get its token")
	}
	f.log.loseAcks = 1
	rotated, err := f.RotateKey(t.Context(), as("r1"), target(created), Rotation{})
	if err != nil || rotated.Token.IsZero() || rotated.Key.RotatedFrom != created.Key.ID {
		t.Fatalf("rotated %+v, %v", rotated, err)
	}
	if head := f.mustHead(t); head != 4 {
		t.Errorf("head %d, want 4 (created, rotated, revoked, created)", head)
	}
}

func TestNothingIsRefusedByAnOldAnswer(t *testing.T) {
	f := newFixture(t)
	created := f.mustCreate(t, "c1")
	expiry := KeyChanges{Expiry: &NewExpiry{At: new(f.now.Add(time.Hour))}}
	updated, err := f.UpdateKey(t.Context(), as("u1"), target(created), expiry)
	if err != nil {
		t.Fatal(err)
	}
	f.log.stale = created.Seq
	request := as("u2")
	request.IfMatch = &updated.KeySeq
	name := "x"
	if _, err := f.UpdateKey(t.Context(), request, target(created), KeyChanges{Name: &name}); err != nil {
		t.Errorf("a current If-Match was refused by an old answer: %v", err)
	}
	name = "Production Server" // what the old answer shows, but no longer so
	reverted, err := f.UpdateKey(t.Context(), as("u3"), target(created), KeyChanges{Name: &name})
	if err != nil || reverted.Seq != 4 {
		t.Errorf("a change was taken for none by an old answer: %+v, %v", reverted, err)
	}
	request.ID, request.IfMatch = "u4", &created.KeySeq
	refused, err := f.UpdateKey(t.Context(), request, target(created), KeyChanges{Name: &name})
	mustRefuse(t, err, domain.CodeVersionMismatch)
	if refused.Seq != reverted.Seq {
		t.Errorf("the refusal rests on seq %d, and says %d", reverted.Seq, refused.Seq)
	}
}

func TestTargetsBeyondReachDoNotExist(t *testing.T) {
	f := newFixture(t)
	created := f.mustCreate(t, "c1")
	request := as("")
	request.Authority.Account = "acme"
	_, err := f.RevokeKey(t.Context(), request, target(created), "")
	mustRefuse(t, err, domain.CodeKeyNotFound)
	own := target(created)
	own.Account = "acme"
	_, err = f.RevokeKey(t.Context(), request, own, "")
	mustRefuse(t, err, domain.CodeKeyNotFound)
	asManagement := target(created)
	asManagement.Type = domain.KeyTypeManagement
	_, err = f.RevokeKey(t.Context(), as(""), asManagement, "")
	mustRefuse(t, err, domain.CodeKeyNotFound)
	asManagement.ID = "key_*"
	_, err = f.RevokeKey(t.Context(), as(""), asManagement, "")
	if domain.KindOf(err) != domain.KindInvalid {
		t.Errorf("a wildcard as id: %v", err)
	}
	if head := f.mustHead(t); head != 1 {
		t.Errorf("head %d, want 1", head)
	}
}

func TestCallersGrantNoMoreThanTheyMay(t *testing.T) {
	f := newFixture(t)
	full := f.mustCreate(t, "c1")
	clerk := as("")
	clerk.Authority = domain.Authority{
		Actor: "key_clerk", Account: domain.DefaultAccount, Scopes: domain.Scopes{domain.ScopeKeysWrite},
		Grants: domain.Grants{Environments: []domain.Environment{domain.EnvironmentLive}, Scopes: domain.Scopes{"payouts:read"}},
	}
	_, err := f.CreateKey(t.Context(), clerk, invoices())
	mustRefuse(t, err, domain.CodeCeiling)
	_, err = f.RotateKey(t.Context(), clerk, target(full), Rotation{})
	mustRefuse(t, err, domain.CodeCeiling)
	scopes := []domain.Scope{"invoices:read", "payouts:write"}
	_, err = f.UpdateKey(t.Context(), clerk, target(full), KeyChanges{Scopes: &scopes})
	mustRefuse(t, err, domain.CodeCeiling)
	_, err = f.CreateKey(t.Context(), clerk, NewKey{Type: domain.KeyTypeManagement, Name: "x", Scopes: []domain.Scope{domain.ScopeKeysWrite}})
	mustRefuse(t, err, domain.CodeMissingScope)
	named := invoices()
	named.Account = "acme"
	_, err = f.CreateKey(t.Context(), clerk, named)
	mustRefuse(t, err, domain.CodeCeiling)
	if head := f.mustHead(t); head != 1 {
		t.Errorf("head %d, want 1", head)
	}
}

func TestTokensMadeByTheCaller(t *testing.T) {
	f := newFixture(t)
	sum := sha256.Sum256([]byte("a token that the caller keeps"))
	n := invoices()
	n.TokenSHA256 = hex.EncodeToString(sum[:])
	created, err := f.CreateKey(t.Context(), as("c1"), n)
	if err != nil || !created.Token.IsZero() || created.Replayed {
		t.Fatalf("created %+v, %v", created, err)
	}
	f.claims[created.Key.Mac] = created.Key.ID
	repeat, err := f.CreateKey(t.Context(), as("c1"), n)
	if err != nil || !repeat.Replayed || repeat.Key.ID != created.Key.ID {
		t.Errorf("repeat %+v, %v", repeat, err)
	}
	_, err = f.CreateKey(t.Context(), as("c2"), n)
	mustRefuse(t, err, domain.CodeTokenInUse)
	changed := n
	changed.TokenSHA256 = strings.Repeat("0", 64)
	_, err = f.CreateKey(t.Context(), as("c1"), changed)
	mustRefuse(t, err, domain.CodeIdempotencyConflict)
	for _, bad := range []string{"abc", strings.Repeat("g", 64), "a token that the caller keeps"} {
		changed.TokenSHA256 = bad
		_, err = f.CreateKey(t.Context(), as("c3"), changed)
		mustRefuse(t, err, domain.CodeValidation)
	}
}

func TestBadContentIsRefusedAndNothingAppended(t *testing.T) {
	f := newFixture(t)
	for name, tc := range map[string]struct {
		change func(*NewKey)
		code   string
	}{
		"unknown scope":        {func(n *NewKey) { n.Scopes = []domain.Scope{"invoices:delete"} }, domain.CodeUnknownScope},
		"scopes and full":      {func(n *NewKey) { n.FullAccess = true }, domain.CodeValidation},
		"past expiry":          {func(n *NewKey) { n.Expiry = &NewExpiry{On: new("2026-11-24")} }, domain.CodeExpiryInPast},
		"two expiries":         {func(n *NewKey) { n.Expiry = &NewExpiry{On: new("2027-01-01"), At: new(f.now.Add(time.Hour))} }, domain.CodeValidation},
		"zero instant":         {func(n *NewKey) { n.Expiry = &NewExpiry{At: new(time.Time{})} }, domain.CodeExpiryInPast},
		"instant cut to zero":  {func(n *NewKey) { n.Expiry = &NewExpiry{At: new(time.Time{}.Add(900))} }, domain.CodeExpiryInPast},
		"the first date":       {func(n *NewKey) { n.Expiry = &NewExpiry{On: new("0001-01-01")} }, domain.CodeExpiryInPast},
		"empty date":           {func(n *NewKey) { n.Expiry = &NewExpiry{On: new("")} }, domain.CodeValidation},
		"bad account":          {func(n *NewKey) { n.Account = "a.b" }, "invalid_account"},
		"reserved account":     {func(n *NewKey) { n.Account = "_x" }, "invalid_account"},
		"bad range":            {func(n *NewKey) { n.AllowedIPs = []string{"300.1.1.1"} }, domain.CodeValidation},
		"a management token":   {func(n *NewKey) { n.Type, n.TokenSHA256 = domain.KeyTypeManagement, strings.Repeat("0", 64) }, domain.CodeValidation},
		"grants on an api key": {func(n *NewKey) { n.Grants = &NewGrants{} }, domain.CodeValidation},
	} {
		n := invoices()
		tc.change(&n)
		_, err := f.CreateKey(t.Context(), as("c-"+fmt.Sprintf("%x", name)), n)
		if domain.CodeOf(err) != tc.code {
			t.Errorf("%s: %v (%s), want %s", name, err, domain.CodeOf(err), tc.code)
		}
	}
	if head := f.mustHead(t); head != 0 {
		t.Errorf("head %d, want 0", head)
	}
}

func TestRetryForIsTheBound(t *testing.T) {
	f := newFixture(t)
	f.log.loseAcks = 0
	f.Handler.retryFor = 50 * time.Millisecond
	f.Handler.log = alwaysConflicting{f.log}
	_, err := f.CreateKey(t.Context(), as("c1"), invoices())
	mustRefuse(t, err, domain.CodeContention)
	if domain.KindOf(err) != domain.KindUnavailable {
		t.Errorf("kind %s", domain.KindOf(err))
	}
}

type alwaysConflicting struct{ *faultyLog }

func (alwaysConflicting) Append(context.Context, eventstore.Meta, ...eventstore.Change) ([]eventstore.Event, error) {
	return nil, eventstore.ErrConflict
}

func TestACallerThatHangsUpIsToldWhatIsCertain(t *testing.T) {
	f := newFixture(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := f.CreateKey(ctx, as("c1"), invoices())
	mustRefuse(t, err, "canceled")
	if head := f.mustHead(t); head != 0 {
		t.Errorf("head %d, want 0", head)
	}
}
