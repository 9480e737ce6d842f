package main

import (
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/client"
)

// keyList is what keys list prints for programs.
type keyList struct {
	Keys    []client.Key `json:"keys"`
	AsOfSeq *uint64      `json:"as_of_seq"`
}

func (l keyList) names() string {
	var names []string
	for _, k := range l.Keys {
		names = append(names, k.Name)
	}
	return strings.Join(names, " ")
}

func TestKeyFilters(t *testing.T) {
	w := newTestWorld(t)
	w.mustStart(t)
	actor := "key_" + w.operatorToken(t)[len("kl_admin_"):len("kl_admin_")+16]
	w.mustCreate(t, "--name", "b", "--environment", "live", "--full-access", "--expires-at", "2099-01-01T00:00:00Z")
	w.mustCreate(t, "--name", "c", "--environment", "test", "--scopes", "invoices:read", "--expires-at", "2098-01-01T00:00:00Z")
	w.mustCreate(t, "--name", "A", "--environment", "live", "--scopes", "payouts:read")
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"everything":       {nil, "A c b"},
		"the oldest first": {[]string{"--sort", "created_at"}, "b c A"},
		"by name":          {[]string{"--sort", "name"}, "A b c"},
		"turned round":     {[]string{"--sort=-name"}, "c b A"},
		"as an argument":   {[]string{"--sort", "-name", "--limit", "3"}, "c b A"},
		"reversed":         {[]string{"--sort", "name", "--reverse"}, "c b A"},
		"reversed twice":   {[]string{"--sort=-name", "--reverse"}, "A b c"},
		"only reversed":    {[]string{"--reverse"}, "b c A"},
		"by expiry":        {[]string{"--sort", "expires_at"}, "c b A"},
		"a creator":        {[]string{"--created-by", actor}, "A c b"},
		"another creator":  {[]string{"--created-by", "key_nobody"}, ""},
		"of today":         {[]string{"--created-after", "24h"}, "A c b"},
		"older":            {[]string{"--created-before", "24h"}, ""},
		"expiring early":   {[]string{"--expiring-before", "2098-06-01"}, "c"},
		"expiring late":    {[]string{"--expiring-after", "2098-06-01"}, "b"},
		"expiring between": {[]string{"--expiring-after", "now", "--expiring-before", "now+1000w"}, ""},
		"unused":           {[]string{"--unused-since", "now+1h"}, "A c b"},
		"long unused":      {[]string{"--unused-since", "90d"}, ""},
		"used":             {[]string{"--used-after", "90d", "--used-before", "now"}, ""},
		"the first":        {[]string{"--limit", "1"}, "A"},
	} {
		t.Run(name, func(t *testing.T) {
			var list keyList
			w.mustDecode(t, &list, append([]string{"keys", "list"}, tc.args...)...)
			if list.names() != tc.want {
				t.Errorf("keys %s, want %s", list.names(), tc.want)
			}
		})
	}
	if got := w.must(t, "keys", "list", "--count", "--environment", "live"); got != "2\n" {
		t.Errorf("counted %s", got)
	}
	var counted struct {
		Count client.KeyCount `json:"count"`
	}
	if w.mustDecode(t, &counted, "keys", "list", "--count"); counted.Count.Keys != 3 || counted.Count.AtLeast {
		t.Errorf("counted %+v", counted)
	}
	if got := w.must(t, "keys", "list", "--count", "--management"); got != "1\n" {
		t.Errorf("counted %s", got)
	}
	if again, before := w.must(t, "keys", "list"), w.must(t, "keys", "list"); again != before {
		t.Errorf("the same question has another answer:\n%s\nbefore:\n%s", again, before)
	}
	for _, args := range [][]string{{"--sort"}, {"--sort", "--count"}} {
		if r := w.cli(t, "", append([]string{"keys", "list"}, args...)...); r.code != exitUsage || !strings.Contains(r.stderr, "an order is missing") {
			t.Errorf("%v: %+v", args, r)
		}
	}
	if r := w.cli(t, "", "keys", "list", "--sort", "age"); r.code != exitFailed || !strings.Contains(r.stderr, "--sort: ") {
		t.Errorf("no order: %+v", r)
	}
	if r := w.cli(t, "", "keys", "list", "--limit", "2"); !strings.Contains(r.stderr, "--limit 0 shows all") || strings.Count(r.stdout, "\n") != 3 {
		t.Errorf("the first two: %+v", r)
	}
	if r := w.cli(t, "", "keys", "list", "--limit", "3"); r.stderr != "" {
		t.Errorf("all three: %+v", r)
	}
	if r := w.cli(t, "", "keys", "list", "--created-before", "24h"); r.stderr != "No keys.\n" || r.stdout != "" {
		t.Errorf("none: %+v", r)
	}
}

// TestThePast asks for what was, and whether a key would have passed.
func TestThePast(t *testing.T) {
	w := newTestWorld(t)
	w.mustStart(t)
	token, id := w.mustCreate(t, "--name", "old name", "--environment", "live", "--scopes", "invoices:read") // seq 2
	w.must(t, "keys", "update", id, "--name", "new name")                                                    // seq 3
	w.must(t, "keys", "revoke", id, "--yes")                                                                 // seq 4
	w.mustCreate(t, "--name", "later", "--environment", "live", "--full-access")                             // seq 5
	var key client.Key
	w.mustDecode(t, &key, "keys", "show", id)
	exact := func(at time.Time) string { return at.Format(time.RFC3339Nano) }
	created, revoked := exact(key.CreatedAt), exact(*key.RevokedAt)
	before := exact(key.CreatedAt.Add(-time.Microsecond))

	for _, past := range [][]string{{"--seq", "2"}, {"--at", created}} {
		if shown := w.must(t, append([]string{"keys", "show", id}, past...)...); !strings.Contains(shown, "name          old name\n") || !strings.Contains(shown, "status        active\n") {
			t.Errorf("%v:\n%s", past, shown)
		}
		var list keyList
		w.mustDecode(t, &list, append([]string{"keys", "list"}, past...)...)
		if list.names() != "old name" || list.AsOfSeq == nil || *list.AsOfSeq != 2 {
			t.Errorf("%v: %+v", past, list)
		}
		r := w.cli(t, "", append([]string{"keys", "list", "--status", "active", "--count"}, past...)...)
		if r.stdout != "1\n" || !strings.Contains(r.stderr, "As of seq 2.") {
			t.Errorf("%v: counted %+v", past, r)
		}
	}
	if r := w.cli(t, "", "keys", "show", id, "--at", before); r.code != exitFailed || !strings.Contains(r.stderr, "there was no key "+id+" at ") || !strings.Contains(r.stderr, "keys history "+id) {
		t.Errorf("before it was made: %+v", r)
	}
	if r := w.cli(t, "", "keys", "show", id, "--seq", "6"); r.code != exitFailed || !strings.Contains(r.stderr, "beyond_history") {
		t.Errorf("after the end: %+v", r)
	}

	if r := w.cli(t, "", "verify", "--key-id", id); r.code != exitUsage || !strings.Contains(r.stderr, "--at 1m") || !strings.Contains(r.stderr, "keys show "+id) {
		t.Errorf("an id without a time: %+v", r)
	}
	for name, tc := range map[string]struct {
		at, code string
		args     []string
	}{
		"before":          {before, "UNKNOWN", nil},
		"at first":        {created, "VALID", []string{"--scopes", "invoices:read"}},
		"for another":     {created, "INSUFFICIENT_SCOPE", []string{"--scopes", "payouts:read"}},
		"revoked":         {revoked, "REVOKED", nil},
		"now":             {"now", "REVOKED", nil},
		"an hour earlier": {"now-1h", "UNKNOWN", nil},
	} {
		t.Run(name, func(t *testing.T) {
			want := exitFailed
			if tc.code == "VALID" {
				want = exitOK
			}
			args := append([]string{"verify", "--at", tc.at}, tc.args...)
			byID, byKey := w.cli(t, "", append(args, "--key-id", id)...), w.cli(t, token, args...)
			for _, r := range []result{byID, byKey} {
				code, rest, _ := strings.Cut(r.stdout, "\n")
				if code != tc.code || r.code != want || !strings.Contains(rest, "as of seq") || !strings.Contains(rest, "at  ") || !strings.Contains(rest, "today's catalogue") {
					t.Errorf("%+v, want %s", r, tc.code)
				}
				if tc.code != "VALID" && (!strings.Contains(rest, "cause") || !strings.Contains(rest, "solution")) {
					t.Errorf("%s without cause and solution: %s", code, rest)
				}
			}
		})
	}
}
