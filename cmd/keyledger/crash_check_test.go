package main

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/keyledger/keyledger/client"
	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/internal/soak"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/projections/sqlite"
	"github.com/keyledger/keyledger/verify"
)

// mustReadLog reads the whole log over HTTP.
func mustReadLog(t *testing.T, c *client.Client) *soak.History {
	t.Helper()
	history := new(soak.History)
	readOn(t, c, history)
	return history
}

// readOn reads the whole log over HTTP again: what was read before must be there
// as it was, and what is new is added.
func readOn(t *testing.T, c *client.Client, history *soak.History) {
	t.Helper()
	before, seen := history.Head(), uint64(0)
	for record, err := range c.Events(t.Context(), client.EventQuery{}) {
		if err != nil {
			t.Fatalf("read the log: %v", err)
		}
		seen++
		if record.Seq <= before {
			if record.Seq != seen || !history.Holds(record.Seq, record.Event) {
				t.Fatalf("event %d, now the %d. of the log, is not what it was", record.Seq, seen)
			}
			continue
		}
		event, err := soak.Decode(record.Seq, record.Event)
		if err != nil {
			t.Fatal(err)
		}
		subject, err := eventstore.KeyAggregate(event.Account, event.Key).Subject()
		if err != nil || subject != record.Subject {
			t.Fatalf("event %d of %s is stored under %s (%v)", event.Seq, event.Key, record.Subject, err)
		}
		if err := history.Add(event); err != nil {
			t.Fatal(err)
		}
	}
	if seen < before {
		t.Fatalf("the log ends at %d; it ended at %d before", seen, before)
	}
}

// expectKey is what the API must show of a key at an instant. It is written from
// the documentation of the wire type, beside the server's own translation.
func expectKey(v soak.Version, now time.Time) client.Key {
	k := v.Key
	out := client.Key{
		ID: string(k.ID), Account: string(k.Account), KeyType: string(k.Type), Name: k.Name, Description: k.Description,
		Environment: string(k.Environment), Scopes: []string{}, FullAccess: slices.Equal(k.Scopes, domain.Scopes{"*"}),
		Display: k.Display, Status: string(k.Status(now)), Expiring: k.Expiring(now, 7*24*time.Hour), ExpiresAt: optional(k.ExpiresAt),
		AllowedIPs: []string{}, Metadata: map[string]string{}, CreatedAt: k.CreatedAt, CreatedBy: string(k.CreatedBy),
		UpdatedAt: optional(k.UpdatedAt), RevokedAt: optional(k.RevokedAt), RevokeReason: k.RevokeReason,
		RotatedFrom: string(k.RotatedFrom), ReplacedBy: string(k.ReplacedBy), EndsAt: optional(k.EndsAt), Seq: v.Seq,
	}
	for _, s := range k.Scopes {
		out.Scopes = append(out.Scopes, string(s))
	}
	for _, p := range k.AllowedIPs {
		out.AllowedIPs = append(out.AllowedIPs, p.String())
	}
	maps.Copy(out.Metadata, k.Metadata)
	if k.Grants != nil {
		out.Grants = &client.Grants{Environments: []string{}, Scopes: []string{}}
		for _, e := range k.Grants.Environments {
			out.Grants.Environments = append(out.Grants.Environments, string(e))
		}
		for _, s := range k.Grants.Scopes {
			out.Grants.Scopes = append(out.Grants.Scopes, string(s))
		}
	}
	return out
}

func optional(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}

// sameKey says whether a key was shown as the log has it, at some instant between
// two: a status can change while the answer is on its way.
func sameKey(got client.Key, v soak.Version, asked, came time.Time) error {
	for _, now := range [...]time.Time{asked, came} {
		if reflect.DeepEqual(got, expectKey(v, now)) {
			return nil
		}
	}
	return fmt.Errorf("%s was shown as %+v, but the log says %+v", got.ID, got, expectKey(v, came))
}

// checkAnswers holds the keys of acknowledgements against the log.
func checkAnswers(history *soak.History, answers []answer) (wrong []error) {
	for _, a := range answers {
		id := domain.KeyID(a.key.ID)
		key, ok := history.At(id, a.key.Seq)
		if !ok {
			wrong = append(wrong, fmt.Errorf("%s: the answer says that event %d is one of %s; it is not", a.ref, a.key.Seq, id))
			continue
		}
		if err := sameKey(a.key, soak.Version{Seq: a.key.Seq, Key: key}, a.asked, a.came); err != nil {
			wrong = append(wrong, fmt.Errorf("%s: %w", a.ref, err))
		}
	}
	return wrong
}

// checkTable compares the key table with the fold of the log, row for row and in
// order, over the API.
func checkTable(ctx context.Context, c *client.Client, history *soak.History) (wrong []error) {
	asked := time.Now()
	var rows []client.Key
	for row, err := range c.Keys(ctx, client.KeyQuery{PageSize: 1000}, client.WithMinSeq(history.Head())) {
		if err != nil {
			return append(wrong, fmt.Errorf("list keys: %w", err))
		}
		rows = append(rows, row)
	}
	for row, err := range c.ManagementKeys(ctx, client.KeyQuery{PageSize: 1000}) {
		if err != nil {
			return append(wrong, fmt.Errorf("list management keys: %w", err))
		}
		rows = append(rows, row)
	}
	came := time.Now()
	var want []domain.KeyID // newest first, customers' keys before management keys
	for _, typ := range []domain.KeyType{domain.KeyTypeAPI, domain.KeyTypeManagement} {
		for _, id := range slices.Backward(history.Keys()) {
			if history.Last(id).Key.Type == typ {
				want = append(want, id)
			}
		}
	}
	if len(rows) != len(want) {
		return append(wrong, fmt.Errorf("the key table has %d rows, the log %d keys", len(rows), len(want)))
	}
	for i, row := range rows {
		if row.ID != string(want[i]) {
			return append(wrong, fmt.Errorf("row %d is %s, want %s", i, row.ID, want[i]))
		}
		if err := sameKey(row, history.Last(want[i]), asked, came); err != nil {
			wrong = append(wrong, err)
		}
	}
	return wrong
}

// checkTokens asks whether tokens pass, and compares with the fold.
func checkTokens(ctx context.Context, c *client.Client, history *soak.History, tokens map[domain.KeyID]string) (wrong []error) {
	var mu sync.Mutex
	var group sync.WaitGroup
	slots := make(chan struct{}, 16)
	for id, token := range tokens {
		slots <- struct{}{}
		group.Go(func() {
			defer func() { <-slots }()
			asked := time.Now()
			got, err := c.Verify(ctx, client.VerifyRequest{Key: token, Scopes: []string{string(probeScope)}, IP: probeAddress})
			came := time.Now()
			key := history.Last(id).Key
			if err == nil {
				if got.KeyID == string(id) && (got.Code == passes(key, asked) || got.Code == passes(key, came)) {
					return
				}
				err = fmt.Errorf("%s for %q, but the log says %s", got.Code, got.KeyID, passes(key, came))
			}
			mu.Lock()
			defer mu.Unlock()
			wrong = append(wrong, fmt.Errorf("the token of %s: %w", id, err))
		})
	}
	group.Wait()
	return wrong
}

// What is asked of every token, so that the answer depends on what updates change.
const (
	probeScope   = domain.Scope("invoices:read")
	probeAddress = "192.0.2.1"
)

// passes returns the code for a key's token when the probe's scope is required
// from the probe's address.
func passes(k domain.Key, now time.Time) string {
	switch k.Status(now) {
	case domain.StatusRevoked:
		return string(verify.CodeRevoked)
	case domain.StatusExpired:
		return string(verify.CodeExpired)
	case domain.StatusActive:
	}
	from := netip.MustParseAddr(probeAddress)
	within := func(p netip.Prefix) bool { return p.Contains(from) }
	switch {
	case len(k.AllowedIPs) > 0 && !slices.ContainsFunc(k.AllowedIPs, within):
		return string(verify.CodeIPNotAllowed)
	case !k.Scopes.Cover(probeScope):
		return string(verify.CodeInsufficientScope)
	default:
		return string(verify.CodeValid)
	}
}

// checkFile compares the SQLite file that a stopped server left with the fold of
// the log: every present row through the store, and every version of every key.
func checkFile(t *testing.T, dataDir string, history *soak.History) {
	t.Helper()
	path := filepath.Join(dataDir, keyTableFile)
	store, err := sqlite.Open(t.Context(), sqlite.Config{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = store.Close() }()
	state, err := store.State(t.Context())
	if err != nil || state.At.Seq != history.Head() {
		t.Errorf("the file ends at %d (%v), the log at %d", state.At.Seq, err, history.Head())
	}
	rows := map[domain.KeyID]projections.KeyRecord{}
	for query := (projections.KeyQuery{PageSize: projections.MaxPageSize, Now: time.Now()}); ; {
		page, err := store.Keys(t.Context(), query)
		if err != nil {
			t.Fatal(err)
		}
		for _, row := range page.Keys {
			rows[row.ID] = row
		}
		if query.Page = page.Next; query.Page == "" {
			break
		}
	}
	for _, id := range history.Keys() {
		versions := history.Versions(id)
		last := versions[len(versions)-1]
		want := projections.KeyRecord{Key: projections.Normalize(last.Key), Seq: last.Seq, CreatedSeq: versions[0].Seq}
		if !reflect.DeepEqual(rows[id], want) {
			t.Errorf("row of %s:\n%+v, the log says\n%+v", id, rows[id], want)
		}
	}
	if len(rows) != len(history.Keys()) {
		t.Errorf("the file has %d keys, the log %d", len(rows), len(history.Keys()))
	}
	checkVersions(t, store, history)
}

// checkVersions compares every version of every key, at the first and the last seq
// at which it holds.
func checkVersions(t *testing.T, store *sqlite.Store, history *soak.History) {
	t.Helper()
	for _, id := range history.Keys() {
		versions := history.Versions(id)
		for i, v := range versions {
			last := history.Head()
			if i+1 < len(versions) {
				last = versions[i+1].Seq - 1
			}
			want := projections.KeyRecord{Key: projections.Normalize(v.Key), Seq: v.Seq, CreatedSeq: versions[0].Seq}
			for _, seq := range []uint64{v.Seq, last} {
				got, err := store.Key(t.Context(), id, &projections.Moment{Seq: seq, Time: time.Now()})
				if err != nil || !reflect.DeepEqual(got, want) {
					t.Errorf("%s at seq %d:\n%+v, %v, the log says\n%+v", id, seq, got, err, want)
				}
			}
		}
	}
}
