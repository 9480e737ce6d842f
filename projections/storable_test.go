package projections

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/keyledger/keyledger/domain"
	"github.com/keyledger/keyledger/eventstore"
)

func TestUnstorable(t *testing.T) {
	spec := domain.KeySpec{Name: "fine", Scopes: domain.Scopes{"a:b"}, AllowedIPs: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}
	with := func(change func(*domain.KeySpec)) domain.Event {
		s := spec
		change(&s)
		return domain.KeyCreated{KeySpec: s}
	}
	name, metadata := "a\x00b", map[string]string{"a": "\x00"}
	for what, c := range map[string]struct {
		data domain.Event
		bad  bool
	}{
		"good":              {domain.KeyCreated{KeySpec: spec}, false},
		"NUL in a name":     {with(func(s *domain.KeySpec) { s.Name = name }), true},
		"long name":         {with(func(s *domain.KeySpec) { s.Name = strings.Repeat("x", maxNameBytes+1) }), true},
		"not UTF-8":         {with(func(s *domain.KeySpec) { s.Description = "\xff" }), true},
		"NUL in metadata":   {with(func(s *domain.KeySpec) { s.Metadata = metadata }), true},
		"host bits":         {with(func(s *domain.KeySpec) { s.AllowedIPs = []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8")} }), true},
		"scope":             {domain.KeyUpdated{Scopes: &domain.Scopes{"a\x00"}}, true},
		"updated name":      {domain.KeyUpdated{Name: &name}, true},
		"updated metadata":  {domain.KeyUpdated{Metadata: &metadata}, true},
		"good update":       {domain.KeyUpdated{Name: &spec.Name, AllowedIPs: &spec.AllowedIPs}, false},
		"reason":            {domain.KeyRevoked{Reason: "\x00"}, true},
		"where it was seen": {domain.KeyLeaked{Source: "a", Location: "\xc3\x28"}, true},
		"good end":          {domain.KeyExpired{}, false},
	} {
		e := eventstore.Event{Aggregate: eventstore.KeyAggregate("acme", "key_1"), Data: c.data}
		if got := unstorable(&e); (got != "") != c.bad {
			t.Errorf("%s: %q", what, got)
		}
	}
	if unstorable(&eventstore.Event{RequestID: "\x00", Data: domain.KeyExpired{}}) == "" {
		t.Error("a request id with a NUL is storable")
	}
}
