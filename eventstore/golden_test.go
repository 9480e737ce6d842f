package eventstore

import (
	"bytes"
	"flag"
	"go/ast"
	"go/parser"
	"go/token"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/keyledger/keyledger/domain"
)

var update = flag.Bool("update", false, "write the golden files anew")

// sample is an event and a command that leads to it.
type sample struct {
	command domain.CommandName
	data    domain.Event
}

// samples returns one event of each type, with every member set.
func samples() []sample {
	at := time.Date(2026, 11, 24, 9, 30, 0, 123456000, time.UTC)
	spec := domain.KeySpec{
		ID: "key_7Hq2mPz4LkX9cVb1", Account: "acct_7", Type: domain.KeyTypeAPI,
		Name: "Billing service", Description: "Sends invoices at month’s end <nightly>", Environment: domain.EnvironmentLive,
		Scopes: domain.Scopes{"invoices:read", "invoices:write"},
		Mac:    domain.Mac{0: 0x3f, 15: 0xa0, 31: 0x7c}, PepperID: "pepper_1", Display: "sk_live_7Hq2mPz4…",
		ExpiresAt: time.Date(2026, 12, 31, 0, 0, 0, 0, time.UTC), AllowedIPs: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")},
		Metadata: map[string]string{"team": "billing", "cost_centre": "4711"}, RotatedFrom: "key_2bN8rTf5WsY0dJg3",
		Grants: &domain.Grants{Environments: []domain.Environment{domain.EnvironmentLive}, Scopes: domain.Scopes{domain.FullAccess}},
	}
	name, description, scopes, metadata, ips := "Billing", "", domain.Scopes{"*"}, map[string]string{}, []netip.Prefix{}
	return []sample{
		{domain.CommandCreateKey, domain.KeyCreated{KeySpec: spec, CreatedBy: "key_operator0000000", CreatedAt: at}},
		{domain.CommandImportKey, domain.KeyImported{KeySpec: spec, CreatedBy: "key_operator0000000", ImportedAt: at}},
		{domain.CommandUpdateKey, domain.KeyUpdated{
			Name: &name, Description: &description, Scopes: &scopes, Metadata: &metadata, AllowedIPs: &ips,
			Expiry: &domain.Expiry{At: at.AddDate(1, 0, 0)}, UpdatedAt: at,
		}},
		{domain.CommandRotateKey, domain.KeyRotated{ReplacedBy: "key_4sD6gHj8KlZ0xCv2", EndsAt: at.Add(time.Hour), RotatedAt: at}},
		{domain.CommandRevokeKey, domain.KeyRevoked{Reason: "left the company", RevokedAt: at}},
		{domain.CommandNotifyExpiry, domain.KeyExpiring{ExpiresAt: spec.ExpiresAt, LeadSeconds: 7 * 24 * 3600}},
		{domain.CommandExpireKey, domain.KeyExpired{ExpiresAt: spec.ExpiresAt}},
		{domain.CommandReportLeak, domain.KeyLeaked{Source: "github", Location: "https://example.com/repo/config.yml", LeakedAt: at}},
	}
}

func (s sample) event() Event {
	return Event{
		ID: "01936b2e-7c40-7000-8000-5d1f0c2b3a49", Source: "keyledger",
		Time:      time.Date(2026, 11, 24, 9, 30, 0, 123456000, time.UTC),
		Aggregate: KeyAggregate("acct_7", "key_7Hq2mPz4LkX9cVb1"),
		Actor:     "key_operator0000000", Command: s.command,
		CommandID: "cmd_01936b2e", CommandHash: "9b74c9897bac770ffc029102a200c5de", RequestID: "req_01936b2e",
		TraceParent: "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
		Data:        s.data,
	}
}

func goldenPath(t domain.EventType) string {
	return filepath.Join("testdata", "events", string(t)+".json")
}

// The golden files are the format. A stored event of any release must be read by
// every later one, so an existing file never changes.
func TestGolden(t *testing.T) {
	enc := newEncoder()
	for _, s := range samples() {
		typ := s.data.Type()
		t.Run(string(typ), func(t *testing.T) {
			want := s.event()
			encoded, err := enc.encode(want)
			if err != nil {
				t.Fatal(err)
			}
			if *update {
				if err := os.WriteFile(goldenPath(typ), append(encoded, '\n'), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			stored := mustGolden(t, typ)
			if !bytes.Equal(encoded, stored) {
				t.Errorf("encoded\n%s\nwant\n%s", encoded, stored)
			}
			got, err := decode(12, want.Aggregate, stored)
			if err != nil {
				t.Fatal(err)
			}
			want.Seq, want.Raw = 12, stored
			if !reflect.DeepEqual(got, want) {
				t.Errorf("decoded\n%+v\nwant\n%+v", got, want)
			}
		})
	}
}

func TestGoldenOfEveryType(t *testing.T) {
	types := mustDomainTypes(t)
	if len(types) < 8 {
		t.Fatalf("found only %d types in domain: %v", len(types), types)
	}
	sampled := make([]domain.EventType, 0, len(types))
	for _, s := range samples() {
		sampled = append(sampled, s.data.Type())
	}
	for _, typ := range types {
		if !slices.Contains(sampled, typ) {
			t.Errorf("%s has no sample", typ)
		}
		mustGolden(t, typ)
	}
}

func mustGolden(t *testing.T, typ domain.EventType) []byte {
	t.Helper()
	line, err := os.ReadFile(goldenPath(typ))
	if err != nil {
		t.Fatalf("no golden file (go test ./eventstore -run TestGolden -update): %v", err)
	}
	return bytes.TrimSuffix(line, []byte("\n"))
}

// mustDomainTypes reads the constants of type EventType from the source of
// domain: what the compiler knows, a test cannot ask for.
func mustDomainTypes(t *testing.T) []domain.EventType {
	t.Helper()
	var types []domain.EventType
	files, err := filepath.Glob("../domain/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(file, func(n ast.Node) bool {
			spec, ok := n.(*ast.ValueSpec)
			if !ok {
				return true
			}
			if typ, ok := spec.Type.(*ast.Ident); !ok || typ.Name != "EventType" {
				return true
			}
			for _, v := range spec.Values {
				literal, ok := v.(*ast.BasicLit)
				if !ok {
					t.Fatalf("%s: a type that is no literal", path)
				}
				text, err := strconv.Unquote(literal.Value)
				if err != nil {
					t.Fatal(err)
				}
				types = append(types, domain.EventType(text))
			}
			return true
		})
	}
	return types
}
