package main

import (
	"errors"
	"net/http"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/keyledger/keyledger/client"
)

func TestRefusalsNameFlags(t *testing.T) {
	for _, tc := range []struct{ pointer, parameter, want string }{
		{"/at", "", "--at"}, {"", "seq", "--seq"}, {"", "unused_since", "--unused-since"}, {"", "q", "--search"}, {"", "page_size", "--limit"},
		{"", "key_id", "--key"}, {"/key_id", "", "--key-id"}, {"/scopes/2", "", "--scopes (number 3)"}, {"/metadata/a~1b", "", "--metadata (a/b)"},
		{"/grants/scopes/0", "", "--grant-scopes (number 1)"}, {"/expires_on", "", "--expires-on"}, {"/novel", "", "/novel"}, {"", "novel", "novel"},
		{"/novel/1", "", "/novel/1"}, {"", "If-Match", "--only-if-seq"},
	} {
		err := &client.Error{Status: http.StatusBadRequest, Code: "validation", Detail: "the request is not valid", Fix: "mend it",
			Fields: []client.ProblemField{{Pointer: tc.pointer, Parameter: tc.parameter, Detail: "wrong"}}}
		f := explain(err)
		if want := "the request is not valid; " + tc.want + ": wrong (400 validation)"; f.what != want || f.do != "mend it" || !errors.Is(f, err) {
			t.Errorf("%s, want %s", f.what, want)
		}
		if err.Fields[0].Pointer != tc.pointer {
			t.Error("the refusal itself was changed")
		}
	}
}

// TestFlagsOfTheTableAreThere looks every flag up that a refusal may be said in.
func TestFlagsOfTheTableAreThere(t *testing.T) {
	var cli commandLine
	parser, err := kong.New(&cli)
	if err != nil {
		t.Fatal(err)
	}
	flags := map[string]bool{}
	var visit func(node *kong.Node)
	visit = func(node *kong.Node) {
		for _, flag := range node.Flags {
			flags["--"+flag.Name] = true
		}
		for _, child := range node.Children {
			visit(child)
		}
	}
	visit(parser.Model.Node)
	for _, name := range []string{
		"at", "seq", "sort", "status", "environment", "scope", "account", "action", "actor", "command", "name", "description", "scopes", "metadata",
		"overlap", "reason", "ip", "full_access", "allowed_ips", "expires_on", "expires_at", "token_sha256", "created_by", "created_after",
		"created_before", "expiring_after", "expiring_before", "used_after", "used_before", "unused_since", "command_id", "request_id", "from_time",
		"to_time", "from_seq", "to_seq", "format", "key_id", "q", "order", "page_size", "If-Match", "Idempotency-Key", "grants/scopes", "grants/environments",
	} {
		if flag := flagOf(name); !flags[flag] {
			t.Errorf("%s: there is no flag %q", name, flag)
		}
	}
}
