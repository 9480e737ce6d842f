package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/keyledger/keyledger/client"
)

// flagOf returns the flag that fills a parameter or a member of the API, "" if that
// is not known: the server complains of those, and its caller has typed the flag.
// Pointers begin with a slash, as they come.
func flagOf(name string) string {
	switch name {
	case "at", "seq", "sort", "status", "environment", "scope", "account", "action", "actor", "command", "name",
		"description", "scopes", "metadata", "overlap", "reason", "ip":
		return "--" + name
	case "full_access", "allowed_ips", "expires_on", "expires_at", "token_sha256", "created_by", "created_after", "created_before",
		"expiring_after", "expiring_before", "used_after", "used_before", "unused_since",
		"command_id", "request_id", "from_time", "to_time", "from_seq", "to_seq", "format":
		return "--" + strings.ReplaceAll(name, "_", "-")
	case "key_id":
		return "--key"
	case "q":
		return "--search"
	case "order":
		return "--oldest-first"
	case "page_size":
		return "--limit"
	case "If-Match":
		return "--only-if-seq"
	case "Idempotency-Key":
		return "--idempotency-key"
	case "grants/scopes":
		return "--grant-scopes"
	case "grants/environments":
		return "--grant-environments"
	default:
		return ""
	}
}

// inFlags returns a refusal whose fields are named by the flags that filled them.
func inFlags(e *client.Error) *client.Error {
	named := *e
	named.Fields = make([]client.ProblemField, len(e.Fields))
	for i, f := range e.Fields {
		if flag := flagOfField(f); flag != "" {
			f.Pointer, f.Parameter = "", flag
		}
		named.Fields[i] = f
	}
	return &named
}

// flagOfField looks up a parameter, or a member of a body and what is within it:
// /scopes/2 is the third of --scopes.
func flagOfField(f client.ProblemField) string {
	if f.Pointer == "" {
		return flagOf(f.Parameter)
	}
	path := strings.TrimPrefix(f.Pointer, "/")
	if path == "key_id" { // of a verification; the audit log has it in its query
		return "--key-id"
	}
	if flag := flagOf(path); flag != "" {
		return flag
	}
	cut := strings.LastIndexByte(path, '/')
	if cut < 0 {
		return ""
	}
	flag, part := flagOf(path[:cut]), path[cut+1:]
	if flag == "" {
		return ""
	}
	if n, err := strconv.Atoi(part); err == nil {
		return fmt.Sprintf("%s (number %d)", flag, n+1)
	}
	// RFC 6901, section 4.
	return fmt.Sprintf("%s (%s)", flag, strings.ReplaceAll(strings.ReplaceAll(part, "~1", "/"), "~0", "~"))
}
