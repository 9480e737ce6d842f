package sqlite

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/projections/projectionstest"
)

// TestPlans: every query goes by an index, in its order, and gathers nothing: no
// table is scanned unless the limit of the very same query ends it, and nothing is
// sorted. SQLite chooses plans by the schema alone here (there are no statistics,
// since nothing runs ANALYZE), so that they are those of a million keys.
func TestPlans(t *testing.T) {
	store := mustOpen(t, t.TempDir())
	defer mustClose(t, store)
	projectionstest.Project(t, store, someLog(t), projections.Config{})
	for name, q := range representative(t) {
		steps := explainPlan(t, store, q)
		for _, step := range steps {
			if strings.Contains(step, "TEMP B-TREE") || scan.MatchString(step) && !bounded(q.text, step) {
				t.Errorf("%s: %s\n%s\ngoes by %s", name, step, q.text, strings.Join(steps, "; "))
			}
		}
	}
}

// scan finds steps that go through a table or an index from one end.
var scan = regexp.MustCompile(`^SCAN (keys|key_versions|audit|macs|voids|k|v|e|a)\b`)

// bounded reports whether a scan is of a table in the order that its limit needs.
func bounded(text, step string) bool {
	table := strings.Fields(step)[1]
	inner := regexp.MustCompile(`FROM ` + table + `\b( INDEXED BY \w+)? ORDER BY [a-z_, A-Z]+ LIMIT \d+`)
	return table == "k" || table == "e" || inner.MatchString(text) // k and e are subqueries that have a limit
}

func representative(t *testing.T) map[string]query {
	t.Helper()
	now := projectionstest.Start()
	all := span{first: 1, last: 1 << 62}
	queries := map[string]query{
		"key":        {keyQuery, []any{"key_1"}},
		"key at":     {keyAtQuery, []any{"key_1", 5}},
		"clock":      {clockQuery, []any{5}},
		"last":       {lastSeqQuery, nil},
		"load keys":  {loadKeysQuery, []any{`["key_1"]`}},
		"load voids": {loadVoidsQuery, []any{`["key_1"]`}},
		"load macs":  {loadMacsQuery, []any{`["00"]`}},
	}
	for _, sort := range projections.KeySorts() {
		for _, account := range [...]string{"", "acme"} {
			q := projections.KeyQuery{Now: now, Sort: sort, Account: "acme", Text: "x", Status: "active", Scope: "invoices:read"}
			q.Account = q.Account[:len(account)]
			plan := mustPlan(t, q)
			for _, place := range [...]*projections.Position{nil, {Seq: 5, Name: "x", Time: 7}} {
				plan.From = place
				name := fmt.Sprintf("%s of %q beyond %v", sort, account, place)
				queries[name] = keysQuery(&plan, keyColumns, 51)
				queries[name+", stop"] = stopQuery(&plan)
				queries[name+", count"] = keysQuery(&plan, "count(*)", -1)
				if plan.Column == projections.ByCreation {
					past := plan
					past.At = &projections.Moment{Seq: 9, Time: now}
					queries[name+", at"] = keysAtQuery(&past)
				}
			}
		}
	}
	for _, q := range [...]projections.KeyQuery{
		{Sort: projections.SortExpires, Expires: projections.TimeRange{From: now, Before: now.Add(time.Hour)}},
		{Sort: projections.SortUsedDown, LastUsed: projections.TimeRange{From: now}},
		{Sort: projections.SortUsed, UnusedSince: now, Account: "acme"},
	} {
		q.Now = now
		plan := mustPlan(t, q)
		queries[fmt.Sprintf("by time, %s", q.Sort)] = keysQuery(&plan, keyColumns, 51)
	}
	for _, oldest := range [...]bool{false, true} {
		for name, q := range map[string]projections.AuditQuery{
			"all": {}, "account": {Account: "acme"}, "actor": {Actor: "key_1"}, "key": {Key: "key_1"}, "action": {Action: projections.ActionKeyRevoked},
			"command id": {CommandID: "x"}, "request id": {RequestID: "x"}, "account and actor": {Account: "acme", Actor: "key_1"},
		} {
			q.OldestFirst = oldest
			plan, err := q.Plan()
			if err != nil {
				t.Fatal(err)
			}
			queries[fmt.Sprintf("audit by %s, oldest first %t", name, oldest)] = auditQuery(&plan, all)
			queries[fmt.Sprintf("audit by %s, oldest first %t, stop", name, oldest)] = auditStopQuery(&plan, all)
		}
	}
	return queries
}

func mustPlan(t *testing.T, q projections.KeyQuery) projections.KeyPlan {
	t.Helper()
	plan, err := q.Plan()
	if err != nil {
		t.Fatal(err)
	}
	return plan
}

func explainPlan(t *testing.T, store *Store, q query) []string {
	t.Helper()
	steps, err := collect(t.Context(), store.live.Load().readers, "EXPLAIN QUERY PLAN "+q.text, q.args, func(v *values) (string, error) {
		v.next = 3
		return v.text(), nil
	})
	if err != nil {
		t.Fatalf("%s: %v", q.text, err)
	}
	return steps
}
