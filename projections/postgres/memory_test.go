package postgres

import (
	"net/netip"
	"reflect"
	"testing"
	"time"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/projections"
)

// TestMemory: a build remembers every member of a key, and the current version of
// each only.
func TestMemory(t *testing.T) {
	at := func(n int) time.Time { return time.Date(2026, 3, 1, 12, 0, n, 123_000, time.UTC) }
	full := projections.KeyRecord{Seq: 1, CreatedSeq: 1, Key: domain.Key{
		KeySpec: domain.KeySpec{
			ID: "key_full", Account: "acme", Type: domain.KeyTypeManagement, Environment: domain.EnvironmentLive, Name: "Éclair \"1\"", Description: "<a\nb>",
			Scopes: domain.Scopes{"a:read", "b:*"}, Grants: &domain.Grants{Environments: []domain.Environment{domain.EnvironmentTest}, Scopes: domain.Scopes{"*"}},
			Display: "sk_live_…", ExpiresAt: at(1), RotatedFrom: "key_before",
			AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("::ffff:10.0.0.0/104")},
			Metadata:   map[string]string{"team": "billing", "": "", "quoted": `"\`, "<&>": "\u2028"},
		},
		CreatedAt: at(2), CreatedBy: "key_operator", UpdatedAt: at(3), Imported: true, ReplacedBy: "key_after", RotatedAt: at(4), EndsAt: at(5),
		RevokedAt: at(6), RevokeReason: "no longer used", ExpiredAt: at(7), LeakedAt: time.Date(1969, 1, 1, 0, 0, 0, 0, time.UTC),
		NoticeLead: 36 * time.Hour, Version: 9,
	}}
	bare := projections.KeyRecord{Seq: 2, CreatedSeq: 2, Key: domain.Key{KeySpec: domain.KeySpec{ID: "key_bare"}}}
	plain := bare
	plain.ID, plain.Seq, plain.CreatedSeq, plain.Metadata = "key_plain", 3, 3, map[string]string{"team": "billing", "stage": ""}
	longer := bare
	longer.Seq, longer.Description, longer.Metadata = 4, "more than there was room for, and then some: longer than what is left for small changes", plain.Metadata
	m := newMemory()
	var sent copyBuffers
	mustLearn := func(batch projections.Batch) {
		t.Helper()
		if err := m.learn(&batch, &sent); err != nil {
			t.Fatal(err)
		}
	}
	mustRecall := func(want ...projections.KeyRecord) {
		t.Helper()
		lookup := projections.Lookup{Keys: []domain.KeyID{"key_none"}, Macs: []projections.MacHash{{1}, {2}}}
		for _, r := range want {
			lookup.Keys = append(lookup.Keys, r.ID)
		}
		known, err := m.recall(lookup)
		if err != nil || len(known.Keys) != len(want) || len(known.Macs) != 1 || known.Macs[projections.MacHash{1}] != full.ID {
			t.Fatalf("%+v, %v", known, err)
		}
		for _, r := range want {
			if got := known.Keys[r.ID]; !reflect.DeepEqual(got, r) {
				t.Errorf("got  %+v\nwant %+v", got, r)
			}
		}
	}
	mustLearn(projections.Batch{
		Versions: []projections.KeyVersion{{KeyRecord: full}, {KeyRecord: bare}, {KeyRecord: plain}},
		Macs:     []projections.MacClaim{{Hash: projections.MacHash{1}, Key: full.ID, Seq: 1}},
	})
	mustRecall(full, bare, plain)
	end := projections.EndedVersion{Key: bare.ID, CreatedSeq: 2, FromSeq: 2, ToSeq: 4}
	mustLearn(projections.Batch{Ended: []projections.EndedVersion{end}, Versions: []projections.KeyVersion{{KeyRecord: longer}}})
	mustRecall(full, longer, plain)
	var seqs []uint64
	for row := range m.current {
		r, err := decodeKey(row)
		if err != nil {
			t.Fatal(err)
		}
		seqs = append(seqs, r.Seq)
	}
	if !reflect.DeepEqual(seqs, []uint64{1, 3, 4}) || len(sent.versions) == 0 {
		t.Errorf("seqs %v, %d bytes sent", seqs, len(sent.versions))
	}
	if err := m.learn(&projections.Batch{Ended: []projections.EndedVersion{end}}, &sent); err == nil {
		t.Error("a version ended twice")
	}
	if err := m.learn(&projections.Batch{Versions: []projections.KeyVersion{{KeyRecord: plain}}}, &sent); err == nil {
		t.Error("a key has two current versions")
	}
}
