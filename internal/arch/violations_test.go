package arch

import (
	"slices"
	"strings"
	"testing"
)

// The rules themselves, on made-up graphs: a rule that could not fail would hold
// nothing.
func TestViolations(t *testing.T) {
	const m = module + "/"
	tests := []struct {
		name  string
		graph []pkg
		want  []string // the start of each violation, in order
	}{
		{
			name: "the design as drawn",
			graph: []pkg{
				{ImportPath: m + "domain", Imports: []string{"time", m + "domain/internal/base62"}},
				{ImportPath: m + "domain/internal/base62", Imports: []string{"strings"}},
				{ImportPath: m + "eventstore", Imports: []string{m + "domain", "github.com/nats-io/nats.go"}},
				{ImportPath: m + "eventstore/embedded", Imports: []string{m + "eventstore", m + "internal/telemetry"}},
				{ImportPath: m + "eventstore/eventstoretest", Imports: []string{m + "eventstore", "testing"}},
				{ImportPath: m + "projections", Imports: []string{m + "domain", m + "eventstore"}},
				{ImportPath: m + "projections/sqlite", Imports: []string{m + "projections", "modernc.org/sqlite"}},
				{ImportPath: m + "client", Imports: []string{"net/http"}},
				{ImportPath: m + "server", Imports: []string{m + "client", m + "projections", m + "domain"}},
				{ImportPath: m + "cmd/keyledger", Imports: []string{m + "server", m + "projections/sqlite", m + "client"}},
				{ImportPath: "github.com/nats-io/nats.go", Imports: []string{"net"}},
				{ImportPath: "modernc.org/sqlite"},
			},
		},
		{
			name: "domain imports a library",
			graph: []pkg{
				{ImportPath: m + "domain", Imports: []string{"github.com/google/uuid", "time"}},
				{ImportPath: "github.com/google/uuid"},
			},
			want: []string{m + "domain -> github.com/google/uuid: domain is pure"},
		},
		{
			name:  "a package below domain imports a helper of ours",
			graph: []pkg{{ImportPath: m + "domain/internal/base62", Imports: []string{m + "internal/telemetry"}}},
			want:  []string{m + "domain/internal/base62 -> " + m + "internal/telemetry: domain is pure"},
		},
		{
			name:  "the log imports what is made from it",
			graph: []pkg{{ImportPath: m + "eventstore", Imports: []string{m + "verify"}}},
			want:  []string{m + "eventstore -> " + m + "verify: the log knows events"},
		},
		{
			name: "neighbours on floor 2, one deep inside",
			graph: []pkg{
				{ImportPath: m + "command", Imports: []string{m + "projections/sqlite"}},
				{ImportPath: m + "projections/sqlite", Imports: []string{m + "verify"}},
			},
			want: []string{
				m + "command -> " + m + "projections/sqlite: the rooms of floor 2 never",
				m + "projections/sqlite -> " + m + "verify: the rooms of floor 2 never",
			},
		},
		{
			name:  "a detour over a helper is found where it leaves the helper",
			graph: []pkg{{ImportPath: m + "command", Imports: []string{m + "internal/x"}}, {ImportPath: m + "internal/x", Imports: []string{m + "projections"}}},
			want:  []string{m + "internal/x -> " + m + "projections: a helper"},
		},
		{
			name:  "doors",
			graph: []pkg{{ImportPath: m + "dashboard", Imports: []string{m + "server"}}, {ImportPath: m + "verify", Imports: []string{m + "server"}}},
			want: []string{
				m + "dashboard -> " + m + "server: doors",
				m + "verify -> " + m + "server: the rooms of floor 2 never",
			},
		},
		{
			name:  "the client drags in the server",
			graph: []pkg{{ImportPath: m + "client", Imports: []string{"net/http", m + "eventstore"}}},
			want:  []string{m + "client -> " + m + "eventstore: who imports the client"},
		},
		{
			name:  "nothing imports cmd",
			graph: []pkg{{ImportPath: m + "server", Imports: []string{m + "cmd/keyledger/flags"}}},
			want:  []string{m + "server -> " + m + "cmd/keyledger/flags: doors"},
		},
		{
			name:  "test kits and test libraries stay in tests",
			graph: []pkg{{ImportPath: m + "command", Imports: []string{m + "eventstore/eventstoretest", "testing/synctest", "pgregory.net/rapid"}}},
			want: []string{
				m + "command -> " + m + "eventstore/eventstoretest: only tests",
				m + "command -> testing/synctest: only tests",
				m + "command -> pgregory.net/rapid: only tests",
			},
		},
		{
			name:  "a package nobody planned, and one whose name only begins like a room",
			graph: []pkg{{ImportPath: m + "util"}, {ImportPath: m + "domainextra"}},
			want:  []string{m + "util: stands in no room", m + "domainextra: stands in no room"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			graph := append(tt.graph, standardPackages()...)
			got := violations(floors(), graph)
			if !slices.EqualFunc(got, tt.want, strings.HasPrefix) {
				t.Errorf("got:\n  %s\nwant:\n  %s", strings.Join(got, "\n  "), strings.Join(tt.want, "\n  "))
			}
		})
	}
}

func standardPackages() []pkg {
	var list []pkg
	for _, path := range []string{"net", "net/http", "strings", "testing", "testing/synctest", "time"} {
		list = append(list, pkg{ImportPath: path, Standard: true})
	}
	return list
}

// A room that may import itself or a room that does not exist is a typing error
// that would hold nothing.
func TestFloorsAreWellFormed(t *testing.T) {
	rooms := floors()
	known := map[string]bool{}
	for _, r := range rooms {
		if known[r.path] {
			t.Errorf("room %s stands twice", r.path)
		}
		known[r.path] = true
	}
	for _, r := range rooms {
		if r.why == "" {
			t.Errorf("room %s gives no reason", r.path)
		}
		for _, other := range r.may {
			if !known[other] || other == r.path {
				t.Errorf("room %s may import %s, which is no other room", r.path, other)
			}
		}
	}
}
