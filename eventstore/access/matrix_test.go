package access_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/eventstore/eventstoretest"
)

// role is a management key, and in words of the product what it may do.
type role struct {
	id      string
	account domain.AccountID
	scopes  domain.Scopes

	produces, reads, verifies bool
}

func (r role) instance() bool { return r.account == domain.RootAccount }

func roles() []role {
	root := domain.RootAccount
	var all domain.Scopes
	for _, s := range domain.ManagementCatalogue().All() {
		all = append(all, s.Scope)
	}
	return []role{
		{id: "key_producer1", account: "acct_1", scopes: domain.Scopes{domain.ScopeCommands}, produces: true},
		{id: "key_producer2", account: "acct_2", scopes: domain.Scopes{domain.ScopeCommands, domain.ScopeKeysWrite}, produces: true},
		{id: "key_everything1", account: "acct_1", scopes: all, produces: true},
		{id: "key_producer0", account: root, scopes: domain.Scopes{domain.ScopeCommands}, produces: true},
		{id: "key_auditor0", account: root, scopes: domain.Scopes{domain.ScopeAuditRead}, reads: true},
		{id: "key_verifier0", account: root, scopes: domain.Scopes{domain.ScopeVerify}, reads: true, verifies: true},
		{id: "key_operator", account: root, scopes: all, produces: true, reads: true, verifies: true},
	}
}

// try is one thing to try, and who may.
type try struct {
	kind, subject string
	may           func(r role) bool
}

func nobody(role) bool     { return false }
func everybody(role) bool  { return true }
func readers(r role) bool  { return r.reads }
func producer(r role) bool { return r.produces }

// tries lists what is tried with a role. other is an account that is not the
// role's.
func tries(r role, other domain.AccountID) []try {
	own := string(r.account)
	if r.instance() {
		own = "acct_1"
	}
	instance := func(r role) bool { return r.produces && r.instance() }
	publish := map[string]func(role) bool{
		"keyledger.commands." + own + "." + r.id + ".create_key":                  producer,
		"keyledger.commands." + string(other) + "." + r.id + ".create_key":        instance,
		"keyledger.commands." + own + ".key_stranger.create_key":                  nobody,
		"keyledger.commands." + own + "." + r.id:                                  nobody,
		"keyledger.commands." + own + "." + r.id + ".create_key.more":             nobody,
		"keyledger.events." + own + ".key.key_x":                                  nobody,
		"keyledger.outcomes." + own + ".c1":                                       nobody,
		"keyledger.outcomes." + string(other) + ".c1":                             nobody,
		"keyledger.announced." + own + ".c1":                                      nobody,
		"keyledger.dead." + own + "." + r.id + ".create_key":                      nobody,
		"keyledger.usage." + r.id:                                                 func(r role) bool { return r.verifies },
		"keyledger.usage.key_stranger":                                            nobody,
		"_INBOX_" + r.id + ".x":                                                   nobody,
		"_INBOX_key_stranger.x":                                                   nobody,
		"_INBOX__node.x":                                                          nobody,
		"_INBOX.x":                                                                nobody,
		"anything":                                                                nobody,
		"$KV.KEYLEDGER_LEASES.deadlines":                                          nobody,
		"$JS.ACK.KEYLEDGER_COMMANDS.intake.1.1.1.1.0":                             nobody,
		"$JS.API.INFO":                                                            everybody,
		"$JS.API.STREAM.NAMES":                                                    readers,
		"$JS.API.STREAM.LIST":                                                     readers,
		"$JS.API.STREAM.CREATE.NEW":                                               nobody,
		"$JS.API.DIRECT.GET.KEYLEDGER_OUTCOMES.keyledger.outcomes." + own + ".c1": producer,
		"$JS.API.DIRECT.GET.KEYLEDGER_OUTCOMES.keyledger.outcomes." + string(other) + ".c1": instance,
		"$JS.API.DIRECT.GET.KEYLEDGER_EVENTS.keyledger.events." + own + ".key." + "key_x":   readers,
		"$SYS.REQ.SERVER.PING":                     nobody,
		"$SYS.REQ.SERVER.PING.CONNZ":               nobody,
		"$SYS.REQ.ACCOUNT.PING.CONNZ":              nobody,
		"$SYS.REQ.SERVER.NDNDNDNDNDNDNDND.KICK":    nobody,
		"$SYS.REQ.USER.AUTH":                       nobody,
		"$SYS.REQ.USER.INFO":                       nobody,
		"$SYS.REQ.ACCOUNT.KEYLEDGER.CLAIMS.UPDATE": nobody,
	}
	for _, stream := range []string{"KEYLEDGER_EVENTS", "KEYLEDGER_COMMANDS", "KEYLEDGER_OUTCOMES", "KEYLEDGER_DEAD", "KEYLEDGER_USAGE", "KV_KEYLEDGER_LEASES"} {
		for call, reading := range map[string]bool{
			"STREAM.INFO.%": true, "STREAM.MSG.GET.%": true, "DIRECT.GET.%": true,
			"CONSUMER.CREATE.%": true, "CONSUMER.CREATE.%.c": true, "CONSUMER.INFO.%.c": true, "CONSUMER.MSG.NEXT.%.c": true, "CONSUMER.DELETE.%.c": true,
			"CONSUMER.DURABLE.CREATE.%.c": false, "CONSUMER.NAMES.%": false, "CONSUMER.LIST.%": false, "CONSUMER.PAUSE.%.c": false, "CONSUMER.RESET.%.c": false,
			"STREAM.CREATE.%": false, "STREAM.UPDATE.%": false, "STREAM.DELETE.%": false, "STREAM.PURGE.%": false, "STREAM.MSG.DELETE.%": false,
			"STREAM.SNAPSHOT.%": false, "STREAM.RESTORE.%": false, "STREAM.LEADER.STEPDOWN.%": false, "STREAM.PEER.REMOVE.%": false,
		} {
			may := nobody
			if reading && stream == eventstore.StreamName {
				may = readers
			}
			publish["$JS.API."+strings.ReplaceAll(call, "%", stream)] = may
		}
	}
	subscribe := map[string]func(role) bool{
		">": nobody, "*": nobody, "keyledger.>": nobody, "keyledger.*.*.>": nobody,
		"keyledger.events.>": nobody, "keyledger.commands.>": nobody, "keyledger.commands." + own + "." + r.id + ".>": nobody,
		"keyledger.dead.>": nobody, "keyledger.usage.>": nobody, "keyledger.announced.>": nobody, "keyledger.announced." + own + ".c1": nobody,
		"keyledger.outcomes." + own + ".>":           producer,
		"keyledger.outcomes." + own + ".c1":          producer,
		"keyledger.outcomes." + string(other) + ".>": instance,
		"keyledger.outcomes.>":                       instance,
		"keyledger.outcomes.*.c1":                    instance,
		"_INBOX_" + r.id + ".>":                      everybody,
		"_INBOX_" + r.id + ".a.b":                    everybody,
		"_INBOX_key_stranger.>":                      nobody,
		"_INBOX__node.>":                             nobody,
		"_INBOX.>":                                   nobody,
		"_INBOX_*.>":                                 nobody,
		"*.>":                                        nobody,
		"$SYS.>":                                     nobody,
		"$SYS.REQ.USER.AUTH":                         nobody,
		"$JS.EVENT.>":                                nobody,
		"$JS.API.>":                                  nobody,
		"$KV.>":                                      nobody,
		"_R_.>":                                      nobody,
	}
	var list []try
	for subject, may := range publish {
		list = append(list, try{"publish", subject, may})
	}
	for subject, may := range subscribe {
		list = append(list, try{"subscription", subject, may})
	}
	slices.SortFunc(list, func(a, b try) int { return strings.Compare(a.kind+a.subject, b.kind+b.subject) })
	return list
}

func otherAccount(r role) domain.AccountID {
	if r.account == "acct_2" {
		return "acct_1"
	}
	return "acct_2"
}

// TestMatrix holds each role to exactly what it may do, by what the server does.
func TestMatrix(t *testing.T) {
	for name, start := range sites() {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			tried := 0
			for _, r := range roles() {
				s.keys.add(r.id, r.account, r.scopes...)
				w, ok := dial(t, s.url, map[string]any{"user": r.id, "pass": "token of " + r.id})
				if !ok {
					t.Fatalf("%s may not connect", r.id)
				}
				for _, try := range tries(r, otherAccount(r)) {
					tried++
					if got, want := w.may(try.kind, try.subject), try.may(r); got != want {
						t.Errorf("%s, %s %s: permitted %v, want %v", r.id, try.kind, try.subject, got, want)
					}
				}
				s.mustHear(t, r, w)
			}
			t.Logf("%d roles, %d things tried", len(roles()), tried)
			s.mustHold(t)
			s.mustBeUntouched(t, eventstore.SideCommands, eventstore.SideUsage, eventstore.SideOutcomes)
		})
	}
}

// mustHear sends something on every sort of subject, and sees that a role which
// has subscribed to all that it could gets what is meant for it and nothing else.
func (s *site) mustHear(t *testing.T, r role, w *wire) {
	t.Helper()
	mark := "for " + r.id
	for _, account := range []string{"acct_1", "acct_2"} {
		if _, err := s.js.Publish(t.Context(), "keyledger.outcomes."+account+".c1", []byte(mark)); err != nil {
			t.Fatal(err)
		}
	}
	for _, subject := range []string{"_INBOX_key_stranger.x", "_INBOX_" + r.id + ".a.b"} {
		if err := s.clients.Publish(subject, []byte(mark)); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{"_INBOX_" + r.id + ".a.b " + mark}
	for _, account := range []string{"acct_1", "acct_2"} {
		if r.produces && (r.instance() || string(r.account) == account) {
			want = append(want, "keyledger.outcomes."+account+".c1 "+mark)
		}
	}
	slices.Sort(want)
	var got []string
	eventstoretest.Eventually(t, soon, r.id+" hears what is meant for it", func() bool {
		if _, alive := w.flush(); !alive {
			t.Fatal("the server hung up")
		}
		got = got[:0]
		for _, m := range w.got {
			_, text, _ := strings.Cut(m, " ")
			if at := strings.LastIndex(text, "for "); at > 0 { // headers go before it
				m = strings.Fields(m)[0] + " " + text[at:]
			}
			got = append(got, m)
		}
		slices.Sort(got)
		got = slices.Compact(got) // several subscriptions may match
		return len(got) >= len(want)
	})
	if !slices.Equal(got, want) {
		t.Errorf("%s hears %q, want %q", r.id, got, want)
	}
}

// mustHold sees that what was permitted did arrive, in the streams beside the log.
func (s *site) mustHold(t *testing.T) {
	t.Helper()
	var want, got []string
	for _, r := range roles() {
		for _, try := range tries(r, otherAccount(r)) {
			if stored := strings.HasPrefix(try.subject, "keyledger.commands.") || strings.HasPrefix(try.subject, "keyledger.usage."); stored && try.kind == "publish" && try.may(r) {
				want = append(want, try.subject)
			}
		}
	}
	for _, side := range []eventstore.Side{eventstore.SideCommands, eventstore.SideUsage} {
		_, last := s.size(t, string(side))
		st, err := s.js.Stream(t.Context(), string(side))
		if err != nil {
			t.Fatal(err)
		}
		for seq := uint64(1); seq <= last; seq++ {
			msg, err := st.GetMsg(t.Context(), seq)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, msg.Subject)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("the streams hold %q\nwant %q", got, want)
	}
}

// TestWhoMayConnect is the rest of the matrix: credentials with which nothing is
// permitted, because the server does not let their bearer in.
func TestWhoMayConnect(t *testing.T) {
	for name, start := range sites() {
		t.Run(name, func(t *testing.T) {
			s := start(t)
			s.keys.add("key_a", "acct_1", domain.ScopeCommands)
			s.keys.add("key_b", "acct_1", domain.ScopeCommands)
			s.keys.add("key_auditor1", "acct_1", domain.ScopeAuditRead, domain.ScopeVerify)
			s.keys.add("key_none", domain.RootAccount, domain.ScopeKeysRead, domain.ScopeOperate)
			s.keys.add("key_full", "acct_1", domain.FullAccess)
			s.keys.set(func() {
				s.keys.good["key_expired"] = domain.Authority{
					Actor: "key_expired", Account: "acct_1", Scopes: domain.Scopes{domain.ScopeCommands}, ExpiresAt: time.Now().Add(-time.Second),
				}
				s.keys.good["a.>"] = domain.Authority{Actor: "a.>", Account: "acct_1", Scopes: domain.Scopes{domain.ScopeCommands}}
			})
			public, err := mustSecrets(t).Public()
			if err != nil {
				t.Fatal(err)
			}
			type login = map[string]any
			for _, c := range []struct {
				name  string
				login login
				ok    bool
			}{
				{"a producer", login{"user": "key_a", "pass": "token of key_a"}, true},
				{"anonymous", login{}, false},
				{"wrong password", login{"user": "key_a", "pass": "token of key_x"}, false},
				{"no password", login{"user": "key_a"}, false},
				{"the token of another id", login{"user": "key_a", "pass": "token of key_b"}, false},
				{"the token alone", login{"auth_token": "token of key_a"}, false},
				{"the token as the user", login{"user": "token of key_a", "pass": "token of key_a"}, false},
				{"a token beside the user", login{"user": "key_a", "pass": "token of key_a", "auth_token": "x"}, false},
				{"an nkey beside the user", login{"user": "key_a", "pass": "token of key_a", "nkey": public.Node}, false},
				{"a jwt beside the user, which the server drops", login{"user": "key_a", "pass": "token of key_a", "jwt": "x"}, true},
				{"an nkey that nobody knows", login{"nkey": public.Node, "sig": "x"}, false},
				{"revoked, or never there", login{"user": "key_revoked", "pass": "token of key_revoked"}, false},
				{"expired", login{"user": "key_expired", "pass": "token of key_expired"}, false},
				{"a key without scopes for NATS", login{"user": "key_none", "pass": "token of key_none"}, false},
				{"an account's auditor and verifier", login{"user": "key_auditor1", "pass": "token of key_auditor1"}, false},
				{"a customer's key", login{"user": "key_full", "pass": "token of key_full"}, false},
				{"an id with a wildcard", login{"user": "a.>", "pass": "token of a.>"}, false},
				{"a node by name", login{"user": "_node", "pass": "x"}, false},
				{"long", login{"user": "key_a", "pass": strings.Repeat("x", 3000)}, false},
			} {
				t.Run(c.name, func(t *testing.T) {
					if _, ok := dial(t, s.url, c.login); ok != c.ok {
						t.Errorf("let in: %v", ok)
					}
				})
			}
			if strings.Contains(s.out.String(), "token of") {
				t.Errorf("the log holds a token: %s", s.out.String())
			}
			s.mustBeUntouched(t)
		})
	}
}
