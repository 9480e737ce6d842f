package projectionstest

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/projections"
)

// Tamper changes one thing in the live tables that a store has made of
// [TamperedHistory], with the store's own SQL, while the store is open.
type Tamper struct {
	Name string
	Do   func(tb testing.TB, place string)
	// Table and Column are those of the differences that a check must find. Column is
	// "" for a row that was taken away or added.
	Table, Column string
	// Row is part of the name of the row.
	Row string
}

// TamperedHistory is what tables hold that are tampered with: keys 0 to 9, of which
// 3 was renamed and 5 revoked, and a claim of the id of key 1 that is void.
//
//	seq 1 to 10   acme creates key_0000000000000000 to key_0000000000000009
//	seq 11        acme renames key_0000000000000003 to "renamed"
//	seq 12        acme revokes key_0000000000000005
//	seq 13        default claims key_0000000000000001
func TamperedHistory() []eventstore.Event {
	var events []eventstore.Event
	for n := range 10 {
		events = append(events, created(n, "acme"))
	}
	return append(events, updated(3, "acme", "renamed"),
		event("acme", 5, domain.KeyRevoked{Reason: "left", RevokedAt: Start().Add(time.Hour)}), created(1, "default"))
}

// testTampers: a check names what was changed in the tables, and nothing else; a
// rebuild mends it.
func testTampers(t *testing.T, s Suite) {
	if len(s.Tampers) == 0 {
		t.Fatal("the suite has no way to tamper with the tables")
	}
	log := NewLog(TamperedHistory()...)
	for _, tamper := range s.Tampers {
		t.Run(tamper.Name, func(t *testing.T) {
			store, place := s.open(t)
			Project(t, store, log, projections.Config{})
			Check(t, store, log.Events())
			tamper.Do(t, place)
			found := Differences(t, store, log, projections.Config{})
			if len(found) == 0 {
				t.Error("the check finds nothing")
			}
			for _, d := range found {
				whole := d.Column == "" && (d.Want == "") != (d.Got == "")
				if d.Table != tamper.Table || d.Column != tamper.Column || !strings.Contains(d.Row, tamper.Row) || d.Want == d.Got || d.Column == "" && !whole {
					t.Errorf("found %+v\nwant table %q, row %q, column %q", d, tamper.Table, tamper.Row, tamper.Column)
				}
			}
			Rebuild(t, store, log, projections.Config{})
			if found := Differences(t, store, log, projections.Config{}); len(found) > 0 {
				t.Errorf("after a rebuild the check finds %+v", found)
			}
			Check(t, store, log.Events())
		})
	}
}

// testCheckIsClean: a check of tables that are right finds nothing, however they
// came to be: at once, or batch by batch, with uses and after a rebuild.
func testCheckIsClean(t *testing.T, s Suite) {
	store, _ := s.open(t)
	log := NewLog(Example(400, 3)...)
	Project(t, store, log, projections.Config{})
	for round := range 3 {
		mustUse(t, store, projections.KeyUse{Key: keyID(round), At: Start()}, projections.KeyUse{Key: "key_none", At: Start()})
		if found := Differences(t, store, log, projections.Config{}); len(found) > 0 {
			t.Errorf("round %d: the check finds %+v", round, found)
		}
		log.Append(Example(50, 30+round)...)
		Project(t, store, log, projections.Config{BatchSize: 9, CacheSize: 3})
		if round == 1 {
			Rebuild(t, store, log, projections.Config{})
		}
	}
	m := NewModel(log.Events())
	checkInfo(t, store, len(m.all(nil)), len(m.events))
}

// testComparison: a comparison is of one instant, while the live tables go on.
func testComparison(t *testing.T, s Suite) {
	store, _ := s.open(t)
	first := claims(projections.Checkpoint{}, 5, "live")
	mustReplace(t, store, first)
	lead, build := mustLead(t, store), mustBuild(t, store)
	view, err := build.Compare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := view.Close(); err != nil {
			t.Errorf("close the comparison: %v", err)
		}
	}()
	if view.At() != first.To {
		t.Errorf("the comparison is of %+v, want %+v", view.At(), first.To)
	}
	mustWrite(t, lead, claims(first.To, 5, "later"))
	built := claims(projections.Checkpoint{}, 5, "live")
	built.Versions[1].Name = "other"
	built.Versions[3].Description = "other"
	built.Audit[4].Actor = "somebody"
	mustWrite(t, build, built)
	var found []projections.Difference
	rows := map[string]int64{}
	progress := func(table string, n int64) { rows[table] = n }
	if err := view.Differences(t.Context(), progress, func(d projections.Difference) error {
		found = append(found, d)
		return nil
	}); err != nil {
		t.Fatalf("differences: %v", err)
	}
	about := func(d projections.Difference, row, want, got string) bool {
		return strings.Contains(d.Row, row) && strings.Contains(d.Want, want) && strings.Contains(d.Got, got)
	}
	// The store's columns are its own: the name may be in more than one, as for a search.
	var name, description, actor bool
	for _, d := range found {
		name = name || about(d, string(keyID(2)), "other", "live")
		description = description || about(d, string(keyID(4)), "other", "")
		actor = actor || about(d, "5", "somebody", "key_operator")
		if !about(d, string(keyID(2)), "other", "live") && !about(d, string(keyID(4)), "other", "") && !about(d, "5", "somebody", "key_operator") {
			t.Errorf("found %+v", d)
		}
	}
	if !name || !description || !actor {
		t.Errorf("found %+v", found)
	}
	if len(rows) == 0 {
		t.Error("the comparison tells of no progress")
	}
	enough := errors.New("enough")
	err = view.Differences(t.Context(), progress, func(projections.Difference) error { return enough })
	if !errors.Is(err, enough) {
		t.Errorf("differences that nobody wants: %v", err)
	}
}
