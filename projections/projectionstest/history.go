package projectionstest

import (
	"fmt"
	"net/netip"
	"time"

	"pgregory.net/rapid"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
)

// Start is when histories begin.
func Start() time.Time { return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC) }

// History draws least to most events as commands would write them, and some that no
// command would: claims of ids and macs that are taken, bodies that contradict
// their subjects, events of keys that do not exist. The nodes' clocks differ: times
// go back a little now and then.
func History(t *rapid.T, least, most int) []eventstore.Event {
	h := &history{now: Start()}
	return h.draw(t, rapid.IntRange(least, most).Draw(t, "events"))
}

// Example returns a history of n events that is the same for the same seed.
func Example(n, seed int) []eventstore.Event {
	// rapid keeps what one example drew until it ends: a long history is made of many,
	// each of which continues the one before.
	const chunk = 1000
	h := &history{now: Start()}
	events := make([]eventstore.Event, 0, n)
	for i := 0; len(events) < n; i++ {
		size := min(chunk, n-len(events))
		events = append(events, rapid.Custom(func(t *rapid.T) []eventstore.Event { return h.draw(t, size) }).Example(seed+i*1_000_003)...)
	}
	return events
}

// history is what has been drawn so far.
type history struct {
	t    *rapid.T
	now  time.Time
	keys []domain.KeySpec // of every claim, void ones too
	n    int              // events
}

func (h *history) draw(t *rapid.T, n int) []eventstore.Event {
	h.t = t
	events := make([]eventstore.Event, n)
	for i := range events {
		h.now = h.now.Add(time.Duration(rapid.IntRange(0, 3600_000_000).Draw(t, "elapsed")) * time.Microsecond)
		h.n++
		events[i] = h.event()
	}
	return events
}

func (h *history) event() eventstore.Event {
	if len(h.keys) == 0 || rapid.IntRange(0, 9).Draw(h.t, "what") < 3 {
		return h.claim()
	}
	key := rapid.SampledFrom(h.keys).Draw(h.t, "key")
	account := key.Account
	if rapid.IntRange(0, 30).Draw(h.t, "stray") == 0 {
		account = h.account()
	}
	id := key.ID
	if rapid.IntRange(0, 40).Draw(h.t, "unknown") == 0 {
		id = domain.KeyID(fmt.Sprintf("key_unknown%d", rapid.IntRange(0, 3).Draw(h.t, "id")))
	}
	return h.envelope(eventstore.KeyAggregate(account, id), h.change())
}

func (h *history) claim() eventstore.Event {
	spec := h.spec()
	switch rapid.IntRange(0, 24).Draw(h.t, "void") {
	case 0:
		if len(h.keys) > 0 {
			spec.ID = rapid.SampledFrom(h.keys).Draw(h.t, "taken").ID
		}
	case 1:
		if len(h.keys) > 0 {
			spec.Mac = rapid.SampledFrom(h.keys).Draw(h.t, "taken").Mac
		}
	}
	aggregate := eventstore.KeyAggregate(spec.Account, spec.ID)
	switch rapid.IntRange(0, 40).Draw(h.t, "forged") {
	case 0:
		aggregate.Account = h.account()
	case 1:
		aggregate.ID += "x"
	}
	h.keys = append(h.keys, spec)
	if rapid.IntRange(0, 3).Draw(h.t, "imported") == 0 {
		return h.envelope(aggregate, domain.KeyImported{KeySpec: spec, CreatedBy: h.actor(), ImportedAt: h.now})
	}
	return h.envelope(aggregate, domain.KeyCreated{KeySpec: spec, CreatedBy: h.actor(), CreatedAt: h.now})
}

func (h *history) spec() domain.KeySpec {
	n := len(h.keys) + 1
	spec := domain.KeySpec{
		ID: domain.KeyID(fmt.Sprintf("key_%016d", n)), Account: h.account(), Type: domain.KeyTypeAPI,
		Name: h.text("name"), Environment: rapid.SampledFrom([]domain.Environment{domain.EnvironmentLive, domain.EnvironmentTest}).Draw(h.t, "environment"),
		Scopes: h.scopes(), Mac: domain.Mac{byte(n), byte(n >> 8), byte(n >> 16), 1}, PepperID: "pepper1", Display: fmt.Sprintf("sk_live_%08d…", n),
		ExpiresAt: h.deadline(), AllowedIPs: h.prefixes(), Metadata: h.metadata(),
	}
	if rapid.Bool().Draw(h.t, "described") {
		spec.Description = h.text("description")
	}
	if rapid.IntRange(0, 4).Draw(h.t, "management") == 0 {
		spec.Type, spec.Environment, spec.Scopes = domain.KeyTypeManagement, "", domain.Scopes{domain.ScopeKeysRead, domain.ScopeVerify}
		spec.Grants = &domain.Grants{Environments: []domain.Environment{domain.EnvironmentTest}, Scopes: h.scopes()}
	}
	return spec
}

func (h *history) change() domain.KeyEvent {
	switch rapid.IntRange(0, 9).Draw(h.t, "change") {
	case 0:
		return domain.KeyRotated{ReplacedBy: "key_successor", EndsAt: h.now.Add(h.hours()), RotatedAt: h.now}
	case 1:
		return domain.KeyRevoked{Reason: h.text("reason"), RevokedAt: h.now}
	case 2:
		return domain.KeyExpiring{ExpiresAt: h.now.Add(h.hours()), LeadSeconds: int64(rapid.IntRange(1, 1e6).Draw(h.t, "lead"))}
	case 3:
		return domain.KeyExpired{ExpiresAt: h.now}
	case 4:
		return domain.KeyLeaked{Source: "scanner", Location: h.text("location"), LeakedAt: h.now}
	default:
		return h.update()
	}
}

func (h *history) update() domain.KeyUpdated {
	u := domain.KeyUpdated{UpdatedAt: h.now}
	if rapid.Bool().Draw(h.t, "rename") {
		u.Name = new(h.text("name"))
	}
	if rapid.Bool().Draw(h.t, "describe") {
		u.Description = new(h.text("description"))
	}
	if rapid.Bool().Draw(h.t, "rescope") {
		u.Scopes = new(h.scopes())
	}
	if rapid.Bool().Draw(h.t, "tag") {
		u.Metadata = new(h.metadata())
	}
	if rapid.Bool().Draw(h.t, "restrict") {
		u.AllowedIPs = new(h.prefixes())
	}
	if rapid.Bool().Draw(h.t, "extend") {
		u.Expiry = &domain.Expiry{At: h.deadline()}
	}
	return u
}

func (h *history) envelope(a eventstore.Aggregate, data domain.KeyEvent) eventstore.Event {
	e := eventstore.Event{
		Source: "test", Time: h.now, Aggregate: a, Actor: h.actor(), Command: h.command(),
		CommandID: h.commandID(), RequestID: h.requestID(), Data: data,
	}
	if rapid.IntRange(0, 9).Draw(h.t, "slow clock") == 0 {
		e.Time = e.Time.Add(-time.Duration(rapid.IntRange(0, 7200).Draw(h.t, "seconds")) * time.Second)
	}
	return e
}

func (h *history) account() domain.AccountID {
	return rapid.SampledFrom([]domain.AccountID{"acme", "default", "Umbrella_1", domain.RootAccount}).Draw(h.t, "account")
}

func (h *history) actor() domain.ActorID {
	return rapid.SampledFrom([]domain.ActorID{"key_operator", domain.SystemActor, "key_Operator"}).Draw(h.t, "actor")
}

func (h *history) command() domain.CommandName {
	return rapid.SampledFrom([]domain.CommandName{domain.CommandCreateKey, domain.CommandUpdateKey, domain.CommandRotateKey, ""}).Draw(h.t, "command")
}

// commandID draws an id that a few events share.
func (h *history) commandID() string {
	return fmt.Sprintf("command-%d", h.n/2+rapid.IntRange(0, 3).Draw(h.t, "command id"))
}

func (h *history) requestID() string {
	return rapid.SampledFrom([]string{"", "request", fmt.Sprintf("request-%d", h.n/8)}).Draw(h.t, "request id")
}

// text draws words with what trips up LIKE patterns, JSON, and folding of case.
func (h *history) text(label string) string {
	return rapid.SampledFrom([]string{
		"billing", "Billing EU", "50% off", "under_score", `back\slash`, `"quoted"`, "<b>&amp;</b>", "ÜBERWEISUNG", "überweisung",
		"line\nbreak", "日本", "a", "%", "_", "İstanbul",
	}).Draw(h.t, label)
}

func (h *history) scopes() domain.Scopes {
	return rapid.SampledFrom([]domain.Scopes{
		{"*"}, {"invoices:*"}, {"invoices:read"}, {"clients:read", "invoices:write"}, {"clients:*", "payouts:read"}, {`odd":"scope`},
	}).Draw(h.t, "scopes")
}

func (h *history) prefixes() []netip.Prefix {
	return rapid.SampledFrom([][]netip.Prefix{
		nil, {}, {netip.MustParsePrefix("10.0.0.0/8")}, {netip.MustParsePrefix("192.0.2.7/32"), netip.MustParsePrefix("2001:db8::/32")},
	}).Draw(h.t, "addresses")
}

func (h *history) metadata() map[string]string {
	m := map[string]string{}
	for range rapid.IntRange(0, 2).Draw(h.t, "tags") {
		m[h.text("tag")] = h.text("value")
	}
	return m
}

// deadline draws an expiry near now, or none. Some deadlines meet, and some have
// nanoseconds, which read stores cut.
func (h *history) deadline() time.Time {
	if rapid.Bool().Draw(h.t, "for ever") {
		return time.Time{}
	}
	at := h.now.Add(h.hours())
	switch rapid.IntRange(0, 3).Draw(h.t, "deadline") {
	case 0:
		return at.Add(7*time.Microsecond + time.Duration(rapid.IntRange(1, 999).Draw(h.t, "nanoseconds")))
	case 1:
		return at.Truncate(24 * time.Hour)
	default:
		return at
	}
}

// hours draws few distinct spans, so that deadlines meet.
func (h *history) hours() time.Duration {
	return time.Duration(rapid.IntRange(0, 48).Draw(h.t, "hours")) * time.Hour
}
