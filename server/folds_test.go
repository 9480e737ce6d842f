package server_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
	"github.com/keyledger/keyledger/projections"
	"github.com/keyledger/keyledger/projections/projectionstest"
	"github.com/keyledger/keyledger/projections/sqlite"
	"github.com/keyledger/keyledger/verify"
)

// TestFoldsAgree feeds random histories, forged events included, to the verifier
// and to the key table. Which keys exist, whose they are, what they may do and are
// at any time, and which claims are void must not depend on whom one asks.
func TestFoldsAgree(t *testing.T) {
	for seed := range 8 {
		t.Logf("seed %d", seed)
		f := newFolds(t, projectionstest.Example(300, seed))
		if err := f.verifier.Run(t.Context(), f); err == nil {
			t.Fatal("the feed ended without an error")
		}
		if f.claims == 0 || len(f.void) == 0 {
			t.Errorf("the history has %d claims, %d of them void", f.claims, len(f.void))
		}
	}
}

// folds is one history as both folds know it. It is the verifier's feed.
type folds struct {
	t        *testing.T
	events   []eventstore.Event
	tokens   map[domain.Mac]string
	now      time.Time
	verifier *verify.Verifier
	table    *sqlite.Store
	claims   int
	void     map[uint64]bool // claims that are void for the verifier
}

func newFolds(t *testing.T, events []eventstore.Event) *folds {
	t.Helper()
	f := &folds{t: t, tokens: map[domain.Mac]string{}, void: map[uint64]bool{}}
	pepper, err := domain.NewPepper("pepper1", make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	// Drawn macs are of no token: each becomes that of one which can be shown.
	macOf := func(drawn domain.Mac) domain.Mac {
		token := "token-" + hex.EncodeToString(drawn[:])
		mac := pepper.Mac(sha256.Sum256([]byte(token)))
		f.tokens[mac] = token
		return mac
	}
	for i, e := range events {
		if data, ok := e.Data.(domain.KeyCreated); ok {
			data.Mac = macOf(data.Mac)
			events[i].Data = data
		}
		if data, ok := e.Data.(domain.KeyImported); ok {
			data.Mac = macOf(data.Mac)
			events[i].Data = data
		}
	}
	log := projectionstest.NewLog(events...)
	f.events = log.Events()
	if f.verifier, err = verify.New(verify.Config{Peppers: []domain.Pepper{pepper}, Now: func() time.Time { return f.now }}); err != nil {
		t.Fatal(err)
	}
	if f.table, err = sqlite.Open(t.Context(), sqlite.Config{Path: filepath.Join(t.TempDir(), "keys.db")}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := f.table.Close(); err != nil {
			t.Error(err)
		}
	})
	projectionstest.Project(t, f.table, log, projections.Config{})
	return f
}

func specOf(e eventstore.Event) *domain.KeySpec {
	if data, ok := e.Data.(domain.KeyCreated); ok {
		return &data.KeySpec
	}
	if data, ok := e.Data.(domain.KeyImported); ok {
		return &data.KeySpec
	}
	return nil
}

// Tail hands the events over one by one, compares, and ends.
func (f *folds) Tail(ctx context.Context, _ uint64, handle func(context.Context, eventstore.Batch) error) error {
	for i, e := range f.events {
		before := f.verifier.Stats().Void
		if err := handle(ctx, eventstore.Batch{Events: f.events[i : i+1], CaughtUp: i == len(f.events)-1}); err != nil {
			return err
		}
		if specOf(e) != nil {
			f.claims++
			if f.verifier.Stats().Void > before {
				f.void[e.Seq] = true
			}
		}
	}
	f.compareClaims(ctx)
	end := f.events[len(f.events)-1].Time
	for _, f.now = range []time.Time{projectionstest.Start(), end, end.Add(12 * time.Hour), end.Add(100 * time.Hour)} {
		f.compareKeys(ctx)
	}
	return context.Canceled
}

func (f *folds) compareClaims(ctx context.Context) {
	page, err := f.table.Audit(ctx, projections.AuditQuery{PageSize: projections.MaxPageSize})
	if err != nil || len(page.Entries) != len(f.events) {
		f.t.Fatalf("%d entries of %d events: %v", len(page.Entries), len(f.events), err)
	}
	for _, entry := range page.Entries {
		if e := f.events[entry.Seq-1]; specOf(e) != nil && f.void[e.Seq] != (entry.Void != "") {
			f.t.Errorf("the claim of %s at %d: void for the verifier %t, in the table %q", e.Aggregate, e.Seq, f.void[e.Seq], entry.Void)
		}
	}
}

func (f *folds) compareKeys(ctx context.Context) {
	tokens := map[domain.KeyID]string{} // "" where no claim counts
	for _, e := range f.events {
		id := domain.KeyID(e.Aggregate.ID)
		tokens[id] += ""
		if spec := specOf(e); spec != nil {
			tokens[spec.ID] += ""
			if !f.void[e.Seq] {
				tokens[spec.ID] = f.tokens[spec.Mac]
			}
		}
	}
	for id, token := range tokens {
		account, keyType, known := f.verifier.Find(id)
		row, err := f.table.Key(ctx, id, nil)
		if domain.KindOf(err) == domain.KindNotFound {
			if known || token != "" {
				f.t.Errorf("%s is not in the table", id)
			}
			continue
		}
		if err != nil {
			f.t.Fatal(err)
		}
		if !known || account != row.Account || keyType != row.Type {
			f.t.Errorf("%s: %t %s %s in the verifier, %s %s in the table", id, known, account, keyType, row.Account, row.Type)
			continue
		}
		var result verify.Result
		catalogue := domain.DefaultCatalogue()
		if row.Type == domain.KeyTypeManagement {
			catalogue = domain.ManagementCatalogue()
			_, result = f.verifier.Authenticate(token)
		} else {
			result = f.verifier.Verify(token, verify.Requirement{})
		}
		scopes := slices.DeleteFunc(slices.Clone(row.Scopes), func(s domain.Scope) bool { return !covers(catalogue, s) })
		if result.KeyID != id || result.Account != row.Account || statusOf(result.Code) != row.Status(f.now) || !slices.Equal(result.Scopes, scopes) {
			f.t.Errorf("%s at %s: the verifier says %+v, the table %s %s %v", id, f.now, result, row.Account, row.Status(f.now), row.Scopes)
		}
	}
}

// covers reports whether the catalogue has anything that the scope covers.
func covers(c *domain.Catalogue, s domain.Scope) bool {
	return slices.ContainsFunc(c.All(), func(listed domain.ScopeInfo) bool { return domain.Scopes{s}.Cover(listed.Scope) })
}

func statusOf(code verify.Code) domain.Status {
	switch code {
	case verify.CodeValid, verify.CodeIPNotAllowed:
		return domain.StatusActive
	case verify.CodeRevoked:
		return domain.StatusRevoked
	case verify.CodeExpired:
		return domain.StatusExpired
	default:
		return "none"
	}
}
